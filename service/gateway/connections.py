"""The connections to all engines: kept for a while between two requests.

Their number is bounded by admission, not here. A request is never sent twice from here: one that
meets the closing of a kept connection may have reached the engine all the same, and whether it is
sent once more, and where, is for `dispatch` to decide.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from service.gateway.connection import Broken, Connection
from service.gateway.dialer import Dialer, Origin, origin_of

# Shorter than the 5 s after which vLLM closes an idle connection by default: a request that meets
# its closing would be lost.
KEEP_SECONDS = 4.0
# For the end of an answer of which the client has all that it is about.
LINGER_SECONDS = 1.0


class Connections:
    """A context manager: closes all of them at its end. `patience` is to open one, s."""

    def __init__(self, patience: float) -> None:
        self._dialer = Dialer(patience)
        self._loop = asyncio.get_running_loop()
        # With when each came back. The last to come back is the first to be used.
        self._idle: dict[Origin, dict[Connection, float]] = {}
        self._lingering: dict[Connection, asyncio.TimerHandle] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._dialer.close()
        if self._sweep is not None:
            self._sweep.cancel()
        for timer in self._lingering.values():
            timer.cancel()
        kept = [connection for idle in self._idle.values() for connection in idle]
        for connection in (*self._lingering, *kept):
            connection.abort()

    @property
    def idle(self) -> int:
        """How many are kept."""
        return sum(map(len, self._idle.values()))

    def to(self, url: str) -> "Lease":
        """A connection to the replica at `url`, for one request."""
        return Lease(self, origin_of(url))

    async def take(self, origin: Origin) -> Connection:
        """A kept connection, or a new one. Raises `Unreachable`."""
        idle = self._idle.get(origin)
        while idle:
            connection, since = idle.popitem()
            if connection.is_usable and self._loop.time() - since < KEEP_SECONDS:
                return connection
            connection.abort()
        return await self._dialer.open(origin, lambda: Connection(partial(self._closed, origin)))

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep it for another request, or close it."""
        if not connection.is_over:
            self._linger(origin, connection)
        elif connection.is_usable:
            self._idle.setdefault(origin, {})[connection] = self._loop.time()
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEP_SECONDS, self._close_old)
        else:
            connection.abort()

    def _linger(self, origin: Origin, connection: Connection) -> None:
        """Read what is left, which should be the end, so that it can be used again."""
        timer = self._loop.call_later(LINGER_SECONDS, connection.abort)

        def done() -> None:
            timer.cancel()
            self._lingering.pop(connection, None)
            self.give_back(origin, connection)

        self._lingering[connection] = timer
        connection.hand_over(_Rest(done))

    def _closed(self, origin: Origin, connection: Connection) -> None:
        timer = self._lingering.pop(connection, None)
        if timer is not None:
            timer.cancel()
        idle = self._idle.get(origin)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[origin]

    def _close_old(self) -> None:
        now = self._loop.time()
        for origin, idle in list(self._idle.items()):
            for connection, since in list(idle.items()):
                if now - since < KEEP_SECONDS:
                    break
                del idle[connection]
                connection.abort()
            if not idle:
                del self._idle[origin]
        self._sweep = None
        if self._idle:
            oldest = min(next(iter(idle.values())) for idle in self._idle.values())
            self._sweep = self._loop.call_at(oldest + KEEP_SECONDS, self._close_old)


class Lease:
    """One connection for one request: kept afterwards, or closed where it was left in the midst of
    its answer."""

    __slots__ = ("_connection", "_connections", "_origin", "authority")

    def __init__(self, connections: Connections, origin: Origin) -> None:
        self._connections = connections
        self._origin = origin
        self.authority = origin.authority
        """What the engine calls itself, for the `Host` header."""

    async def __aenter__(self) -> Connection:
        self._connection = await self._connections.take(self._origin)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or self._connection.is_over:
            self._connections.give_back(self._origin, self._connection)
        else:
            self._connection.abort()


class _Rest:
    """Takes what nobody waits for any more."""

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done

    def begun(self, status: int, media_type: bytes) -> None:
        pass

    def received(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        self._done()

    def failed(self, broken: Broken) -> None:
        self._done()
