"""When alerts began and stopped to fire, as Prometheus says it; what it does not say is no news."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from loadtest.faults.alerts import Watch
from loadtest.faults.events import Firing

EVERY = 0.01


def alert(name: str, state: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "labels": {"alertname": name, **labels},
        "annotations": {},
        "state": state,
        "activeAt": "2026-01-01T00:00:00Z",
        "value": "1e+00",
    }


def page(*alerts: dict[str, Any]) -> str:
    return json.dumps({"status": "success", "data": {"alerts": list(alerts)}})


class Prometheus:
    """One that answers `answer`, with `status`; `asked` counts the questions."""

    def __init__(self) -> None:
        self.answer = page()
        self.status = 200
        self.asked = 0
        self.now = 0.0
        self.url = ""

    async def serve(self, request: web.Request) -> web.Response:
        assert request.path == "/api/v1/alerts"
        self.asked += 1
        return web.Response(text=self.answer, status=self.status, content_type="application/json")

    async def says(self, answer: str, at: float, status: int = 200) -> None:
        """At a time of the run, until it was asked for sure after that."""
        self.answer, self.status, self.now = answer, status, at
        # The next question may be answered already, and yet be read before.
        after = self.asked + 3
        while self.asked < after:  # noqa: ASYNC110
            await asyncio.sleep(EVERY / 2)


@asynccontextmanager
async def prometheus() -> AsyncIterator[Prometheus]:
    made = Prometheus()
    application = web.Application()
    application.router.add_get("/{path:.*}", made.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/"
    try:
        yield made
    finally:
        await runner.cleanup()


def watched(play: Callable[[Prometheus], Awaitable[None]]) -> Watch:
    """What a watch saw of that."""
    watches: list[Watch] = []

    async def work() -> None:
        async with prometheus() as made:
            async with Watch(made.url, lambda: made.now, EVERY) as watch:
                await play(made)
            watches.append(watch)

    run(work())
    return watches[0]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_an_alert_has_when_it_began_and_when_it_stopped_to_fire() -> None:
    async def play(made: Prometheus) -> None:
        await made.says(page(), 1)
        await made.says(page(alert("Down", "pending")), 5)
        await made.says(page(alert("Down")), 12)
        await made.says(page(alert("Down"), alert("Slow")), 20)
        await made.says(page(alert("Slow")), 31)
        await made.says(page(alert("Slow"), alert("Down")), 40)

    watch = watched(play)
    assert watch.firings == [Firing("Down", 12, 31), Firing("Slow", 20), Firing("Down", 40)]
    assert watch.notes == []


def test_one_that_fires_for_several_is_one() -> None:
    async def play(made: Prometheus) -> None:
        await made.says(page(alert("Down", pod="a"), alert("Down", pod="b")), 3)
        await made.says(page(alert("Down", pod="b")), 6)

    assert watched(play).firings == [Firing("Down", 3)]


def test_what_fired_before_the_run_is_there_from_its_beginning() -> None:
    async def play(made: Prometheus) -> None:
        await made.says(page(alert("Down")), -float("inf"))
        await made.says(page(), 4)

    assert watched(play).firings == [Firing("Down", 0, 4)]


def test_a_prometheus_that_fails_is_noted_and_no_alert_ends_for_it() -> None:
    async def play(made: Prometheus) -> None:
        await made.says(page(alert("Down")), 2)
        await made.says("busy", 3, status=503)
        await made.says("<html>", 4)
        await made.says('{"status": "error"}', 5)
        await made.says(page(alert("Down")), 6)
        await made.says(page(), 7)

    watch = watched(play)
    assert watch.firings == [Firing("Down", 2, 7)]
    assert watch.answered == 7 + EVERY
    (note,) = watch.notes
    assert "questions failed, the first: it answered 503" in note


def test_a_prometheus_that_is_not_there_costs_nothing_but_a_note() -> None:

    watches: list[Watch] = []

    async def work() -> None:
        async with prometheus() as made:
            url = made.url
        async with Watch(url, lambda: 0.0, EVERY) as watch:
            watches.append(watch)
            while not watch.notes:  # noqa: ASYNC110
                await asyncio.sleep(EVERY)

    run(work())
    assert watches[0].firings == []
    assert watches[0].answered == 0.0
    assert "questions failed, the first: Cannot connect to host" in watches[0].notes[0]
