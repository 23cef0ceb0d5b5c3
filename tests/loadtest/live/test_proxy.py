"""The fault proxy passes every byte until it is told otherwise, and then does what it is told."""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadtest.errors import UserError
from loadtest.faults.proxy import Proxy
from loadtest.scenario.faults import Fault, ProxyTarget

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a test in either event loop, for a quarter of a minute at most."""

    def play(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(work, 15))

    return play


def fault(**values: Any) -> Fault:
    return Fault.model_validate({"at": 0, "target": "x", **values})


@asynccontextmanager
async def proxied(serve: Serve) -> AsyncIterator[Proxy]:
    """A proxy before a server that does this with each connection."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = between(port)
    async with proxy.open():
        yield proxy
    server.close()


def between(upstream: int, listen: int = 0) -> Proxy:
    target = ProxyTarget(
        kind="proxy", listen=f"127.0.0.1:{listen}", upstream=f"127.0.0.1:{upstream}"
    )
    return Proxy("x", target, random.Random(1))


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    """How long an echo of one byte takes, s."""
    began = time.monotonic()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    return time.monotonic() - began


async def ping(proxy: Proxy) -> None:
    """A connection of its own is taken."""
    reader, writer = await connect(proxy)
    await asked(reader, writer)
    writer.close()
    await writer.wait_closed()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def sockets() -> int:
    """Those that this process has: the test's, the proxy's and the server's are all here."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that by which the folder is read
            found += one.readlink().name.startswith("socket:")
    return found


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_many_bytes_go_through_whole_in_both_directions(run: Run) -> None:
    data = random.Random(3).randbytes(16 << 20)

    async def work() -> None:
        async with proxied(echo) as proxy:
            before = sockets()
            reader, writer = await connect(proxy)

            async def send() -> None:
                for at in range(0, len(data), 100_000):
                    writer.write(data[at : at + 100_000])
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            # The end of what is sent is passed on, and what is still under way comes after it.
            back = await reader.read(-1)
            await sending
            writer.close()
            assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
            await until(lambda: sockets() == before)

    run(work())


def test_who_does_not_read_stops_who_sends(run: Run) -> None:
    # Without that the proxy would hold all that an engine can send.
    sent = 0
    still = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(1 << 16))
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except TimeoutError:
                still.set()
                await writer.drain()
            sent += 1 << 16

    async def work() -> None:
        async with proxied(flood) as proxy:
            reader, writer = await connect(proxy)
            await still.wait()
            assert sent < 64 << 20
            before = sent
            await reader.readexactly(before)
            await until(lambda: sent > before)
            writer.close()

    run(work())


def test_each_piece_is_delayed_while_it_is_slow_and_not_afterwards(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            reader, writer = await connect(proxy)
            plain = min([await asked(reader, writer) for _ in range(20)])
            slow = asyncio.create_task(proxy.make(fault(do="slow", delay=0.1, lasts=60)))
            await asyncio.sleep(0)
            # There and back. Timers of uvloop are of whole milliseconds, and may be early by one.
            times = [await asked(reader, writer) for _ in range(3)]
            assert min(times) > 0.19
            assert min(times) > 10 * plain
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            assert min([await asked(reader, writer) for _ in range(20)]) < 0.1
            writer.close()

    run(work())


def test_a_stream_becomes_slow_in_proportion(run: Run) -> None:
    pieces = 10

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(pieces):
            # The next piece only when the one before it was read: nothing runs together.
            writer.write(await reader.readexactly(1))

    async def took(proxy: Proxy) -> float:
        reader, writer = await connect(proxy)
        least = min([await asked(reader, writer) for _ in range(pieces)])
        writer.close()
        return least

    async def work() -> None:
        async with proxied(count) as proxy:
            times = []
            for delay in (0.02, 0.08):
                slow = asyncio.create_task(proxy.make(fault(do="slow", delay=delay, lasts=60)))
                await asyncio.sleep(0)
                times.append(await took(proxy))
                slow.cancel()
            assert times[1] > 2 * times[0]

    run(work())


def test_slow_bytes_are_whole_and_in_order(run: Run) -> None:
    data = random.Random(4).randbytes(3 << 20)

    async def work() -> None:
        async with proxied(echo) as proxy:
            slow = asyncio.create_task(proxy.make(fault(do="slow", delay=0.002, lasts=60)))
            reader, writer = await connect(proxy)
            reading = asyncio.create_task(reader.read(-1))
            for at in range(0, len(data), 50_000):
                writer.write(data[at : at + 50_000])
                await writer.drain()
            writer.write_eof()
            assert await reading == data
            writer.close()
            slow.cancel()

    run(work())


def test_a_cut_resets_connections_that_are_open_on_both_sides(run: Run) -> None:
    lost: list[str] = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await echo(reader, writer)
        except ConnectionResetError:
            lost.append("reset")

    async def work() -> None:
        async with proxied(served) as proxy:
            reader, writer = await connect(proxy)
            await asked(reader, writer)
            await proxy.make(fault(do="cut", lasts=60))
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()
            await until(lambda: lost == ["reset"])
            # New ones are taken as ever.
            await ping(proxy)

    run(work())


def test_a_cut_takes_its_share_of_the_connections(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            opened = [await connect(proxy) for _ in range(20)]
            for reader, writer in opened:
                await asked(reader, writer)
            await proxy.make(fault(do="cut", share=0.3))
            broken = 0
            for reader, writer in opened:
                try:
                    await asked(reader, writer)
                # uvloop's own way to say that the connection was reset before.
                except (ConnectionError, asyncio.IncompleteReadError, RuntimeError):
                    broken += 1
                writer.close()
            assert broken == 6

    run(work())


def test_a_cut_takes_its_share_of_those_that_are_still_open(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            before = sockets()
            (reader, writer), *others = [await connect(proxy) for _ in range(20)]
            for one in ((reader, writer), *others):
                await asked(*one)
            for _, other in others:
                other.close()
            # The last one has an end here, two in the proxy and one at the server.
            await until(lambda: sockets() == before + 4)
            await proxy.make(fault(do="cut", share=0.01))
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()

    run(work())


def test_a_cut_of_nothing_is_none_and_says_so(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            with pytest.raises(UserError, match="no connection through x was open: nothing was"):
                await proxy.make(fault(do="cut"))
            await ping(proxy)

    run(work())


def test_a_time_for_a_cut_is_refused_beforehand(run: Run) -> None:
    async def work() -> None:
        proxy = between(1)
        await proxy.check(fault(do="cut"))
        # As the folder of a run has it, with all defaults.
        await proxy.check(fault(**fault(do="cut").model_dump(exclude={"at", "target"})))
        await proxy.check(fault(do="deny", lasts=3))
        with pytest.raises(UserError, match="cut of x: it is over at once, leave out `lasts`"):
            await proxy.check(fault(do="cut", lasts=3))

    run(work())


@pytest.mark.parametrize("cancelled", [False, True])
def test_who_is_denied_can_neither_connect_nor_ask_on_a_connection_that_was_kept(
    run: Run, cancelled: bool
) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            before = sockets()
            reader, writer = await connect(proxy)
            await asked(reader, writer)
            fresh, unused = await connect(proxy)
            lasts = 60 if cancelled else 1.5
            deny = asyncio.create_task(proxy.make(fault(do="deny", lasts=lasts)))
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await connect(proxy)
            for kept, its in ((reader, writer), (fresh, unused)):
                its.write(b"x")
                with pytest.raises(ConnectionResetError):
                    await kept.readexactly(1)
                its.close()
            # The server's side of it, too. The proxy does not listen.
            await until(lambda: sockets() < before)
            if cancelled:
                deny.cancel()
            await asyncio.gather(deny, return_exceptions=True)
            await ping(proxy)

    run(work())


def test_what_is_being_asked_or_answered_goes_on_while_others_are_denied(run: Run) -> None:
    more = asyncio.Event()
    begun = 0

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        while await reader.read(1) == b"a":
            begun += 1
            await reader.readexactly(1)
            writer.write(b"1")
            await more.wait()
            writer.write(b"2")

    async def work() -> None:
        async with proxied(answered) as proxy:
            (asking, ask), (hearing, hear) = await connect(proxy), await connect(proxy)
            hear.write(b"ab")
            assert await hearing.readexactly(1) == b"1"
            ask.write(b"a")
            await until(lambda: begun == 2)
            deny = asyncio.create_task(proxy.make(fault(do="deny", lasts=60)))
            await asyncio.sleep(0)
            ask.write(b"b")
            assert await asking.readexactly(1) == b"1"
            more.set()
            assert await hearing.readexactly(1) == b"2"
            assert await asking.readexactly(1) == b"2"
            # And each of them for the last time.
            for kept, its in ((asking, ask), (hearing, hear)):
                its.write(b"ab")
                with pytest.raises(ConnectionResetError):
                    await kept.readexactly(1)
                its.close()
            deny.cancel()
            await asyncio.gather(deny, return_exceptions=True)

    run(work())


def test_two_denials_end_with_the_later_one(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            short = asyncio.create_task(proxy.make(fault(do="deny", lasts=0.05)))
            long = asyncio.create_task(proxy.make(fault(do="deny", lasts=60)))
            await short
            with pytest.raises(ConnectionRefusedError):
                await connect(proxy)
            long.cancel()
            await asyncio.gather(long, return_exceptions=True)
            await ping(proxy)

    run(work())


def test_an_upstream_that_is_not_there_resets_its_clients(run: Run) -> None:
    async def work() -> None:
        gone = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = gone.sockets[0].getsockname()[1]
        gone.close()
        await gone.wait_closed()
        proxy = between(port)
        async with proxy.open():
            reader, writer = await connect(proxy)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()

    run(work())


def test_the_end_and_the_reset_of_an_upstream_are_told_apart(run: Run) -> None:
    ways = itertools.cycle(["end", "reset"])

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"partial")
        if next(ways) == "end":
            return
        await writer.drain()
        await reader.readexactly(1)
        # Closed with something unread: the kernel sends a reset.
        writer.transport.abort()

    async def work() -> None:
        async with proxied(leave) as proxy:
            reader, writer = await connect(proxy)
            writer.write(b"x")
            assert await reader.read(-1) == b"partial"
            writer.close()
            reader, writer = await connect(proxy)
            writer.write(b"x")
            assert await reader.readexactly(7) == b"partial"
            writer.write(b"x" * 100_000)
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            writer.close()

    run(work())


def test_a_port_that_is_taken_is_said_in_one_line(run: Run) -> None:
    async def work() -> None:
        async with proxied(echo) as proxy:
            with pytest.raises(UserError, match=f"x cannot listen at 127.0.0.1:{proxy.port}: "):
                async with between(1, listen=proxy.port).open():
                    pass

    run(work())


def test_closed_it_leaves_no_connection_behind(run: Run) -> None:
    async def work() -> None:
        before = sockets()
        async with proxied(echo) as proxy:
            reader, writer = await connect(proxy)
            await asked(reader, writer)
            assert sockets() > before
        assert await reader.read(-1) == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await until(lambda: sockets() == before)

    run(work())
