"""The client's end of one connection: one request after the other, and when what came."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Self, cast

import httptools

_EVENT_END: Final = b"\n\n"
# The chunk of the role says nothing yet: the first token is in the second event, or later.
_OPENING_EVENTS: Final = 1


class Wrong(Exception):
    """An answer that is not what was sent, or none."""


class Times:
    """Of many streams, in s: until their first token, and between two tokens."""

    def __init__(self) -> None:
        self.ttft: list[float] = []
        self.itl: list[float] = []
        self.reads = 0
        """How often tokens came."""

    def figures(self) -> tuple[float, float, float]:
        """TTFT p50 and p99, ITL p99."""
        return percentile(self.ttft, 50), percentile(self.ttft, 99), percentile(self.itl, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank; 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(percent / 100 * len(values)), 1) - 1]


class Connection(asyncio.Protocol):
    """A connection that is kept, as clients keep theirs."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._check: Callable[[bytes], None] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._body: list[bytes] = []
        self._events = self._messages = 0
        self._is_whole = False
        self._times: Times | None = None
        self._sent = self._last = 0.0

    async def ask(
        self, request: bytes, check: Callable[[bytes], None], times: Times | None = None
    ) -> None:
        """Send a request, and return once its answer is there and whole. Raises `Wrong`."""
        self._send(request, check, times)
        await self.finish()

    async def begin(self, request: bytes, check: Callable[[bytes], None]) -> None:
        """Send a request, and return once its first token is there. Raises `Wrong`."""
        self._begun = asyncio.get_running_loop().create_future()
        self._send(request, check, None)
        await self._begun

    async def finish(self) -> None:
        """Return once the answer is there and whole. Raises `Wrong`."""
        assert self._ended is not None, "nothing was asked"
        await self._ended

    def if_fresh(self, seconds: float) -> Self | None:
        """This, if it is open and was used within so many seconds; else it is closed, and None."""
        if self._transport is not None and time.monotonic() - self._sent < seconds:
            return self
        self.close()
        return None

    def close(self) -> None:
        """Give it up."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, request: bytes, check: Callable[[bytes], None], times: Times | None) -> None:
        if self._transport is None:
            raise Wrong("the connection was closed between two requests")
        self._ended = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._check, self._times = check, times
        self._body, self._events, self._messages, self._is_whole = [], 0, 0, False
        self._sent = time.monotonic()
        self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by their class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(Wrong(f"the connection was closed within an answer ({exc or 'in order'})"))

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # more than was asked for: the next request finds it closed
            return
        before = self._events
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Wrong(f"this is no HTTP answer ({error}): {data[:80]!r}"))
            return
        if self._messages > 1:
            self._fail(Wrong("more came than the answer"))
        # A head, a role, or the end of the last chunk, that comes by itself is no token.
        if self._times is not None and self._events > max(before, _OPENING_EVENTS):
            self._times.reads += 1
        if self._is_whole and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def on_message_begin(self) -> None:
        self._messages += 1

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        # One that is cut between its two line ends is seen with the next: times are a little late.
        events = body.count(_EVENT_END)
        before, self._events = self._events, self._events + events
        if self._begun is not None and self._events > _OPENING_EVENTS and not self._begun.done():
            self._begun.set_result(None)
        if self._times is not None and events:
            self._measure(self._times, before, events)

    def on_message_complete(self) -> None:
        if self._parser is None:  # more than was asked for
            return
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self._parser = None  # it refers to this
        self._body = []
        try:
            if status != 200:
                raise Wrong(f"it answers {status}: {body[:300]!r}")
            if self._check is not None:
                self._check(body)
        except Wrong as error:
            self._fail(error)
        else:
            self._is_whole = True

    def _measure(self, times: Times, before: int, events: int) -> None:
        now = time.monotonic()
        if before > _OPENING_EVENTS:
            # Those that come together come at once: only the first of them took time.
            times.itl += [now - self._last] + [0.0] * (events - 1)
        elif before + events > _OPENING_EVENTS:
            times.ttft.append(now - self._sent)
        self._last = now

    def _fail(self, error: Wrong) -> None:
        for waiting in (self._begun, self._ended):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # whoever waits is told; nobody else has to hear of it


async def connect(port: int) -> Connection:
    """A new one, to a port of this machine. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection
