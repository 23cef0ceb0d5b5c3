"""Pages of metrics read over HTTP while a run goes on, and its mark in Grafana."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from loadtest.annotation import Annotation
from loadtest.scenario.document import Scrape
from loadtest.server_metrics import Scraper

Answer = Callable[[int], web.Response]


class Server:
    """Answers the nth request as it is told, and remembers them all."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._changed = asyncio.Condition()
        self.requests: list[tuple[str, str, str, Any]] = []
        """Method, path, authorization, body."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._server = TestServer(app, host="127.0.0.1")

    @property
    def url(self) -> str:
        return str(self._server.make_url("/")).rstrip("/")

    async def reached(self, number: int) -> None:
        """So many requests have come."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= number)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        await self._server.start_server()
        try:
            yield self
        finally:
            await self._server.close()

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        seen = (request.method, request.path, request.headers.get("authorization", ""), body)
        async with self._changed:
            self.requests.append(seen)
            self._changed.notify_all()
        return self._answer(len(self.requests))


def counted(number: int) -> web.Response:
    """Ten more each time."""
    name = "vllm:generation_tokens_total"
    return web.Response(text=f"# TYPE {name} counter\n{name} {10 * number}\n")


async def scraped(servers: list[Server], number: int, *more: Scrape) -> Scraper:
    clock = asyncio.get_running_loop().time
    began = clock()
    scrapes = [
        Scrape(name=f"page-{n}", url=server.url + "/metrics", every=0.1)
        for n, server in enumerate(servers)
    ]
    async with Scraper([*scrapes, *more], lambda: clock() - began) as scraper:
        for server in servers:
            await server.reached(number)
    return scraper


def test_pages_are_read_until_the_run_is_over_and_once_more() -> None:
    async def go() -> None:
        async with Server(counted).running() as server:
            scraper = await scraped([server], 5)
            (series,) = scraper.series()
            assert series.scrape == "page-0"
            assert len(series.times) == len(server.requests) - 1 >= 5
            assert series.times == sorted(series.times)
            grown = sum(
                rate * (after - before)
                for rate, before, after in zip(
                    series.values[1:], series.times, series.times[1:], strict=False
                )
            )
            assert round(grown) == 10 * (len(series.times) - 1)
            assert scraper.notes == []

    asyncio.run(go())


def test_a_page_that_fails_is_noted_once_and_the_others_are_read_on() -> None:
    async def go() -> None:
        async with (
            Server(lambda _: web.Response(status=500)).running() as broken,
            Server(lambda _: web.Response(text="<html>")).running() as other,
            Server(counted).running() as good,
        ):
            port = unused_port()
            away = Scrape(name="away", url=f"http://127.0.0.1:{port}/metrics", every=0.1)
            nonsense = Scrape(name="nonsense", url="nonsense", every=0.1)
            scraper = await scraped([broken, other, good], 4, away, nonsense)
            assert {series.scrape for series in scraper.series()} == {"page-2"}
            notes = scraper.notes
            assert len(notes) == 4
            assert "it answered 500" in notes[0]
            assert "none of the wanted metrics is there" in notes[1]
            assert str(port) in notes[2]
            assert "nonsense" in notes[3]
            assert not any("\n" in note for note in notes)

    asyncio.run(go())


def test_a_page_that_comes_back_is_read_on() -> None:
    async def go() -> None:
        def flaky(number: int) -> web.Response:
            return web.Response(status=503) if number in (2, 3) else counted(number)

        async with Server(flaky).running() as server:
            scraper = await scraped([server], 6)
            (series,) = scraper.series()
            assert len(series.times) == len(server.requests) - 3
            (note,) = scraper.notes
            assert f"2 of {len(server.requests)} readings failed" in note

    asyncio.run(go())


def test_a_page_that_never_answers_does_not_hold_up_a_run_that_failed() -> None:
    async def go() -> None:
        async def never(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
            came.set()
            await asyncio.Event().wait()

        came = asyncio.Event()
        server = await asyncio.start_server(never, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            scrape = Scrape(name="silent", url=f"http://127.0.0.1:{port}/", every=0.1)
            async with Scraper([scrape], loop.time):
                await came.wait()
                began = loop.time()
                raise KeyError
        except KeyError:
            assert loop.time() - began < 4, "the time limit of a reading is 5 s"
        finally:
            server.close()

    asyncio.run(go())


def test_a_run_has_a_mark_in_grafana() -> None:
    async def go() -> None:
        async with Server(lambda _: web.json_response({"id": 42})).running() as server:
            mark = Annotation(server.url + "/", "glsa_token", "r-8f21c7")
            await mark.begin("load test chat", 1_764_113_713.25)
            await mark.end("load test chat: passed", 1_764_113_899.5)
            assert mark.warning == ""
            assert server.requests == [
                (
                    "POST",
                    "/api/annotations",
                    "Bearer glsa_token",
                    {
                        "time": 1_764_113_713_250,
                        "tags": ["loadtest", "r-8f21c7"],
                        "text": "load test chat",
                    },
                ),
                (
                    "PATCH",
                    "/api/annotations/42",
                    "Bearer glsa_token",
                    {"timeEnd": 1_764_113_899_500, "text": "load test chat: passed"},
                ),
            ]

    asyncio.run(go())


def test_without_grafana_there_is_one_line_and_nothing_else() -> None:
    async def go() -> None:
        async def warned(address: str, *, known: bool = True) -> str:
            mark = Annotation(address, "glsa_token" if known else "", "r-8f21c7")
            await mark.begin("load test", 1.0)
            await mark.end("load test", 2.0)
            assert "\n" not in mark.warning
            assert "glsa_token" not in mark.warning
            return mark.warning

        def refused(_: int) -> web.Response:
            return web.json_response({"message": "Permission denied"}, status=403)

        async with (
            Server(refused).running() as refusing,
            Server(lambda _: web.Response(text="<html>")).running() as other,
            Server(lambda _: web.json_response([])).running() as odd,
        ):
            assert "it answered 403 to POST" in await warned(refusing.url)
            assert len(refusing.requests) == 1
            assert "text/plain" in await warned(other.url)
            assert "without an id" in await warned(odd.url)
            assert "GRAFANA_TOKEN is not set" in await warned(odd.url, known=False)
            assert "Connect" in await warned(f"http://127.0.0.1:{unused_port()}")

    asyncio.run(go())
