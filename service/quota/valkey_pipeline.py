"""The connection to one server that all calls share, opened in the background."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, ResponseError

from service.quota.attention import AttentionClock

Command = tuple[Any, ...]

OPEN_SECONDS = 2.0
# A connection on which nothing has come for so long is closed, once somebody gives up on it.
SILENT_SECONDS = 2.0


class _Exchange:
    """Commands, and their replies as they come."""

    __slots__ = ("commands", "done", "replies", "sent")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = []
        self.sent = 0.0
        self.done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()


class Pipeline:
    """One connection. What is asked in one turn of the event loop is sent at once.

    Replies come in the order of the commands. Whoever gives up keeps its place among those that
    wait: what comes for it is read and dropped, so that no reply is taken for another's.

    It is opened by a task of its own: a request that waits for it gives up when its time is over,
    the task does not. Otherwise a server that takes longer to greet than a request may wait would
    never be reached.
    """

    def __init__(self, open: Callable[[], Awaitable[AbstractConnection]]) -> None:
        self._open = open
        self._unsent: list[_Exchange] = []
        self._sent: deque[_Exchange] = deque()
        self._more = asyncio.Event()
        self._clock = AttentionClock()  # runs while a reply is owed
        self._heard = 0.0
        self._is_open = False
        self._task: asyncio.Task[None] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands and read their replies; one that is an error is returned as such.

        Raises `RedisError` and `OSError`.
        """
        exchange = _Exchange(commands)
        self._unsent.append(exchange)
        self._more.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())
        try:
            return await exchange.done
        except asyncio.CancelledError:
            silent = self._clock.time() - self._heard
            if self._sent and silent > SILENT_SECONDS and self._task:
                self._task.cancel()
            raise

    def owes(self) -> float:
        """For how long the server has owed its oldest reply, s; infinite while it is not open.

        Not counted is time in which this process was too busy to read it.
        """
        if not self._is_open:
            return math.inf
        return self._clock.time() - self._sent[0].sent if self._sent else 0.0

    async def close(self) -> None:
        """Close it; whoever waits is told."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        """Open a connection, and keep it as long as it works."""
        connection: AbstractConnection | None = None
        failure: BaseException = ConnectionError("the connection was closed")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                connection = await self._open()
            self._is_open = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                tasks.create_task(self._read(connection))
        except* (RedisError, OSError) as group:
            failure = group.exceptions[0]
        finally:
            self._task, self._is_open = None, False
            self._clock.stop()
            for exchange in (*self._sent, *self._unsent):
                if not exchange.done.done():
                    exchange.done.set_exception(failure)
            self._sent.clear()
            self._unsent.clear()
            if connection is not None:
                await connection.disconnect(nowait=True)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            asked = [exchange for exchange in self._unsent if not exchange.done.done()]
            self._unsent.clear()
            if not asked:
                continue
            packed = [pack_command(command) for one in asked for command in one.commands]
            self._clock.start()
            now = self._clock.time()
            if not self._sent:
                self._heard = now
            for exchange in asked:
                exchange.sent = now
            self._sent += asked
            await connection.send_packed_command(b"".join(packed), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            reply = await _reply(connection)
            self._heard = self._clock.time()
            if not self._sent:
                raise ConnectionError("the server says what it was not asked")
            exchange = self._sent[0]
            exchange.replies.append(reply)
            if len(exchange.replies) == len(exchange.commands):
                self._sent.popleft()
                if not self._sent:
                    self._clock.stop()
                if not exchange.done.done():
                    exchange.done.set_result(exchange.replies)


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


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        # Redis 6 says so in the middle of what the script says.
        if isinstance(error, ReadOnlyError) or "READONLY" in str(error):
            # Closed, the connection is opened anew to whoever is the master now.
            raise ConnectionError("the server is not a master any more") from None
        return error
