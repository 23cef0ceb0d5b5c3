"""Gateways read on the board where engines are, and never that there are none while that is not
known."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import httpx
import pytest

from service.fleet.board import Board
from service.routing.resolver import Resolution
from service.routing.sd_page import SDPage
from tests.process import free_port

HERE: Final = "127.0.0.1"
Pools = Mapping[str, Sequence[str]] | None
URLS: Final = ["http://10.0.0.7:8100", "http://10.0.0.8:8101", "http://[fd00::7]:8100"]


class Kept:
    """A board, and what it says."""

    def __init__(self, pools: Pools = None) -> None:
        self.pools: Pools = pools
        self.board = Board(lambda: self.pools)
        self.port = free_port()

    async def get(self, path: str, method: str = "GET") -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await client.request(method, f"http://{HERE}:{self.port}{path}")

    async def read(self, pool: str = "main") -> Resolution:
        """As a gateway does."""
        return await SDPage(f"http://{HERE}:{self.port}/pools/{pool}", timeout=10).resolve()

    async def listens(self, port: int) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            try:
                answer = await client.get(f"http://{HERE}:{port}/livez")
            except httpx.TransportError:
                return False
            return answer.status_code == 200


def kept(work: Callable[[Kept], Coroutine[Any, Any, None]], pools: Pools = None) -> None:
    """Do that with a board that listens."""

    async def run() -> None:
        one = Kept(pools)
        await one.board.listen(HERE, one.port)
        try:
            await work(one)
        finally:
            await one.board.close()
        assert not await one.listens(one.port), "it is closed"

    asyncio.run(run())


def test_a_gateway_reads_where_the_engines_are() -> None:
    async def work(one: Kept) -> None:
        assert await one.read() == Resolution(frozenset(URLS))
        one.pools = {"main": URLS[:1]}
        assert await one.read() == Resolution(frozenset(URLS[:1]))
        group = (await one.get("/pools/main")).json()
        assert group == [{"targets": ["10.0.0.7:8100"], "labels": {"pool": "main"}}]

    kept(work, {"main": URLS, "other": []})


def test_a_pool_without_engines_has_none() -> None:
    async def work(one: Kept) -> None:
        assert await one.read() == Resolution(frozenset())

    kept(work, {"main": []})


def test_while_it_is_not_known_what_runs_nothing_is_said_to_be_gone() -> None:
    async def work(one: Kept) -> None:
        assert (await one.get("/pools/main")).status_code == 503
        assert "answered 503" in (await one.read()).error
        one.pools = {"main": URLS}
        assert await one.read() == Resolution(frozenset(URLS))

    kept(work, None)


def test_a_pool_that_there_is_not_is_no_empty_one() -> None:
    async def work(one: Kept) -> None:
        answer = await one.get("/pools/mian")
        assert (answer.status_code, answer.text) == (404, "no pool is called 'mian'\n")
        assert (await one.get("/")).status_code == 404
        assert "answered 404" in (await one.read("mian")).error

    kept(work, {"main": URLS})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed_there(method: str) -> None:
    async def work(one: Kept) -> None:
        assert (await one.get("/pools/main", method)).status_code == 405
        assert await one.read() == Resolution(frozenset(URLS))

    kept(work, {"main": URLS})


def test_it_lives_before_it_knows() -> None:
    async def work(one: Kept) -> None:
        assert (await one.get("/livez")).text == "ok\n"

    kept(work, None)


def test_it_moves_to_another_port_and_is_at_no_other() -> None:
    async def work(one: Kept) -> None:
        before, one.port = one.port, free_port()
        await one.board.listen(HERE, one.port)
        await one.board.listen(HERE, one.port)  # is there already
        assert await one.read() == Resolution(frozenset(URLS))
        assert not await one.listens(before)

    kept(work, {"main": URLS})


def test_a_port_that_is_taken_is_an_error_and_once_free_it_is_used() -> None:
    async def run() -> None:
        one = Kept({"main": URLS})
        with taken(one.port):
            for _ in range(2):
                with pytest.raises(OSError):
                    await one.board.listen(HERE, one.port)
        await one.board.listen(HERE, one.port)
        assert await one.read() == Resolution(frozenset(URLS))
        await one.board.close()

    asyncio.run(run())


def test_where_it_cannot_move_it_can_go_back() -> None:
    """A document with a port that is taken, and then the one before it again."""

    async def work(one: Kept) -> None:
        other = free_port()
        with taken(other), pytest.raises(OSError):
            await one.board.listen(HERE, other)
        await one.board.listen(HERE, one.port)
        assert await one.listens(one.port)

    kept(work, {"main": URLS})


def test_where_it_cannot_move_it_is_there_as_soon_as_it_can() -> None:
    async def work(one: Kept) -> None:
        one.port = free_port()
        with taken(one.port):
            for _ in range(2):
                with pytest.raises(OSError):
                    await one.board.listen(HERE, one.port)
        await one.board.listen(HERE, one.port)
        assert await one.read() == Resolution(frozenset(URLS))

    kept(work, {"main": URLS})


def taken(port: int) -> socket.socket:
    """Something that listens there, until it is closed."""
    return socket.create_server((HERE, port))
