"""`python -m tests.bench.client`: sends requests, and looks at every byte that comes back.

A process of its own, told what to do by a line of JSON on its standard input, to which it answers
with one: a list of orders, which are carried out at the same time. An answer that is not whole and
right is an error and not a number.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import uvloop

from tests.bench import wire
from tests.bench.connection import Connection, Times, Wrong, connect

_OPEN_AT_ONCE: Final = 100
# Less than the time after which any peer closes a connection that it does not hear from.
_KEPT_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Order:
    """What to send. `work` is `requests`, `streams`, `open` or `finish`."""

    work: str
    port: int
    key: str = "none"
    exact: bool = True
    """The stream has to come as it was sent; else only what it says has to."""
    count: int = 0
    """Requests in all; streams at a time."""
    at_once: int = 8
    """Connections of requests."""
    rounds: int = 1
    """How often each stream begins anew."""
    tokens: int = 100
    seconds: float = 120
    """By then all has to be done."""


@dataclass(frozen=True)
class Done:
    """What became of it. `error` says what went wrong first, and is empty otherwise. Times in s."""

    error: str = ""
    answers: int = 0
    ttft_p50: float = 0.0
    ttft_p99: float = 0.0
    itl_p99: float = 0.0
    merged: float = 0.0
    """Share of tokens that came in one read with the one before: those that were late."""


@dataclass
class Client:
    """What it does, and the connections that it has between two orders.

    Streams that are open are in `held`; what waits for the next order in `kept`, by port.
    """

    held: list[Connection] = field(default_factory=list)
    kept: dict[int, list[Connection]] = field(default_factory=dict)

    async def do(self, order: Order) -> Done:
        """Carry out an order."""
        works: dict[str, Callable[[Order], Awaitable[Done]]] = {
            "requests": self._requests,
            "streams": self._streams,
            "open": self._open,
            "finish": self._finish,
        }
        try:
            async with asyncio.timeout(order.seconds):
                return await works[order.work](order)
        except TimeoutError:
            return Done(f"{order.work}: not done within {order.seconds:g} s")
        except (Wrong, OSError) as error:
            return Done(f"{order.work}: {error}")

    async def _requests(self, order: Order) -> Done:
        """`count` requests on `at_once` connections, each as soon as the one before is answered."""
        request = wire.request(order.port, order.key, wire.body(order.tokens, stream=False))
        left = iter(range(order.count))

        async def send() -> None:
            async with self._connected(order) as connection:
                for _ in left:
                    await connection.ask(request, _answer_check(order))

        await _all([send() for _ in range(order.at_once)])
        return Done(answers=order.count)

    async def _streams(self, order: Order) -> Done:
        """`count` streams at a time, begun evenly over the length of one."""
        times = Times()
        request = wire.request(order.port, order.key, wire.body(order.tokens, stream=True))
        apart = order.tokens * wire.STEP_SECONDS / order.count

        async def send(number: int) -> None:
            async with self._connected(order) as connection:
                await asyncio.sleep(number * apart)
                for _ in range(order.rounds):
                    await connection.ask(request, _stream_check(order), times)

        await _all([send(number) for number in range(order.count)])
        answers = order.count * order.rounds
        merged = max(1 - times.reads / (answers * order.tokens), 0.0)
        return Done("", answers, *times.figures(), merged)

    async def _open(self, order: Order) -> Done:
        """`count` streams that stand still after their first token."""
        body = wire.body(order.tokens, stream=True, held=True)
        request = wire.request(order.port, order.key, body)
        few = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def begin() -> None:
            async with few:
                connection = await connect(order.port)
                self.held.append(connection)
                await connection.begin(request, _stream_check(order))

        await _all([begin() for _ in range(order.count)])
        return Done(answers=len(self.held))

    async def _finish(self, order: Order) -> Done:
        """Wait until the streams that are open have ended whole."""
        held, self.held = self.held, []
        try:
            for connection in held:
                await connection.finish()
        finally:
            for connection in held:
                connection.close()
        return Done(answers=len(held))

    @contextlib.asynccontextmanager
    async def _connected(self, order: Order) -> AsyncIterator[Connection]:
        """One that was kept a moment ago, or a new one."""
        kept = self.kept.setdefault(order.port, [])
        fresh = None
        while kept and fresh is None:
            fresh = kept.pop().if_fresh(_KEPT_SECONDS)
        connection = fresh or await connect(order.port)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        kept.append(connection)


async def _all(work: list[Any]) -> None:
    """All of it, or the first thing that goes wrong, and then none of the rest."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _answer_check(order: Order) -> Callable[[bytes], None]:
    return _same(wire.answer(order.tokens)) if order.exact else _same_answer(order.tokens)


def _stream_check(order: Order) -> Callable[[bytes], None]:
    return _same(wire.shown(order.tokens)) if order.exact else _same_text(order.tokens)


def _same(wanted: bytes) -> Callable[[bytes], None]:
    def check(body: bytes) -> None:
        if body != wanted:
            pairs = zip(body, wanted, strict=False)
            least = min(len(body), len(wanted))
            at = next((n for n, (got, want) in enumerate(pairs) if got != want), least)
            raise Wrong(
                f"byte {at} of {len(wanted)} is not what was sent: {body[at : at + 60]!r} and not"
                f" {wanted[at : at + 60]!r}"
            )

    return check


def _same_text(tokens: int) -> Callable[[bytes], None]:
    wanted = wire.said(wire.shown(tokens))

    def check(body: bytes) -> None:
        try:
            said = wire.said(body)
        except (ValueError, KeyError) as error:
            raise Wrong(f"the stream cannot be read ({error}): {body[-200:]!r}") from None
        if said != wanted:
            raise Wrong(f"{len(said)} pieces of text and not the {len(wanted)} that were sent")

    return check


def _same_answer(tokens: int) -> Callable[[bytes], None]:
    wanted = _content(wire.answer(tokens))

    def check(body: bytes) -> None:
        try:
            content = _content(body)
        except (ValueError, KeyError, TypeError) as error:
            raise Wrong(f"the answer cannot be read ({error}): {body[:200]!r}") from None
        if content != wanted:
            raise Wrong("the answer says something else than what was sent")

    return check


def _content(answer: bytes) -> Any:
    return json.loads(answer)["choices"][0]["message"]["content"]


class Lines:
    """Orders from standard input, and what became of them to standard output."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    @classmethod
    async def open(cls) -> Self:
        """Of this process."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        return cls(reader)

    async def run(self, client: Client) -> None:
        """Until there are no more."""
        while line := await self._reader.readline():
            orders = [Order(**order) for order in json.loads(line)]
            done = await asyncio.gather(*map(client.do, orders))
            sys.stdout.write(json.dumps([asdict(one) for one in done]) + "\n")
            sys.stdout.flush()


async def _main() -> None:
    lines = await Lines.open()
    await lines.run(Client())


if __name__ == "__main__":
    uvloop.run(_main())
