"""Connections to one server: opened in the background, and never used when in doubt."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, ResponseError

Command = tuple[Any, ...]

SIZE = 16
OPEN_SECONDS = 2.0
# For a reply that nobody waits for any more; then the connection is closed.
LATE_SECONDS = 2.0


class Pool:
    """At most `SIZE` connections to one server.

    A connection is opened by a task of its own: a request that waits for it gives up when its
    time is over, the task does not. Otherwise a server that takes longer to greet than a request
    may wait would never be reached.
    """

    def __init__(self, open: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._open = open
        self._idle: list[AbstractConnection] = []
        self._count = 0
        self._waiting: deque[asyncio.Future[AbstractConnection]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies = 0
        self._closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and read their replies; one that is an error is returned as such.

        Raises `RedisError` and `OSError`. When whoever waits gives up, the connection is not used
        again before the replies have come that are still to come: they would be taken for those of
        the next command.
        """
        connection = await self._take()
        replies: list[Any] = []
        try:
            packed = b"".join(map(pack_command, commands))
            await connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                replies.append(await _reply(connection))  # noqa: PERF401 - counted when cut short
        except asyncio.CancelledError:
            if connection.is_connected:  # cut short while sending, it is not
                self._start(self._read_late(connection, len(commands) - len(replies)))
            else:
                await self._drop(connection)
            raise
        except BaseException:
            await self._drop(connection)
            await self._drop_idle()
            raise
        self._replies += 1
        self._give(connection)
        return replies

    async def close(self) -> None:
        """Close what is idle and what is being opened; what is in use is closed after its use."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._drop_idle()

    async def _take(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            if await _in_step(connection):
                return connection
            await self._drop(connection)
        waiter: asyncio.Future[AbstractConnection] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._grow()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self._give(waiter.result())  # it came at the very moment of giving up
            raise

    def _give(self, connection: AbstractConnection) -> None:
        if self._closed:
            self._start(self._drop(connection))
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _grow(self) -> None:
        if self._count < SIZE:
            self._count += 1
            self._start(self._add())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_late(self, connection: AbstractConnection, count: int) -> None:
        replies_before = self._replies
        try:
            async with asyncio.timeout(LATE_SECONDS):
                for _ in range(count):
                    await _reply(connection)
        except (RedisError, OSError):  # TimeoutError is one
            await self._drop(connection)
            if self._replies == replies_before:  # nobody was answered: it is the server
                await self._drop_idle()
        except asyncio.CancelledError:
            await self._drop(connection)
            raise
        else:
            self._replies += 1
            self._give(connection)

    async def _add(self) -> None:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                connection = await self._open()
        except BaseException as error:
            self._count -= 1
            failure = error if isinstance(error, Exception) else ConnectionError("closed")
            # Connections share their fate: whoever waits knows now.
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_exception(failure)
            if not isinstance(error, Exception):
                raise
        else:
            self._give(connection)

    async def _drop(self, connection: AbstractConnection) -> None:
        self._count -= 1
        await connection.disconnect(nowait=True)
        if any(not waiter.done() for waiter in self._waiting):
            self._grow()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await self._drop(connection)


async def opened(connection: AbstractConnection) -> AbstractConnection:
    """The connection, open; it is closed if that fails."""
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def ask(connection: AbstractConnection, *command: Any) -> Any:
    """One command on an open connection."""
    await connection.send_command(*command)
    return await connection.read_response()


async def _in_step(connection: AbstractConnection) -> bool:
    try:
        # Readable while nothing was asked: the server has closed it, or a reply is left over.
        return not await connection.can_read()
    except ConnectionError:
        return False


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except ConnectionError:
        raise
    except ResponseError as error:
        # Redis 6 says so in the middle of what the script says.
        if isinstance(error, ReadOnlyError) or "READONLY" in str(error):
            # Closed, the connection is opened anew to whoever is the master now.
            raise ConnectionError("the server is not a master any more") from None
        return error
