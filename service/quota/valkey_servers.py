"""The servers behind a URL: one, one of those that Sentinels watch, or a cluster."""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ConnectionError,
    MovedError,
    RedisError,
)

from service.quota.valkey_pipeline import Command, Pipeline, ask, opened
from service.quota.valkey_url import Address, Server, Topology

# A command, after a key of the one slot that it touches.
Call = tuple[str, Command]
# For one server to say where others are.
_ASK_SECONDS = 0.5


class Servers(Protocol):
    """Whoever holds the counters."""

    async def exchange(self, calls: Sequence[Call]) -> list[Any]:
        """Send commands, in as few round trips as can be. See `Pipeline.exchange`."""

    def place(self, key: str) -> str:
        """Which server holds a key, as far as is known: keys of one place are lost together."""

    def owes(self, key: str) -> float:
        """For how long that server has owed a reply. See `Pipeline.owes`."""

    async def close(self) -> None:
        """Close all connections."""


def servers(address: Address) -> Servers:
    """Those of an address. Nothing is connected yet."""
    match address.topology:
        case Topology.SINGLE:
            return Single(address)
        case Topology.SENTINEL:
            return Sentinel(address)
        case Topology.CLUSTER:
            return Cluster(address)


class Single:
    """One server."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pipeline = Pipeline(self._open)

    async def exchange(self, calls: Sequence[Call]) -> list[Any]:
        """Ask it."""
        return await self._pipeline.exchange([command for _, command in calls])

    def place(self, key: str) -> str:
        """There is one."""
        return ""

    def owes(self, key: str) -> float:
        """For how long it has owed a reply."""
        return self._pipeline.owes()

    async def close(self) -> None:
        """Close all connections."""
        await self._pipeline.close()

    async def _open(self) -> AbstractConnection:
        return await opened(self._address.connection(self._address.servers[0]))


class Sentinel(Single):
    """The master of a service. Every new connection asks who that is."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sentinels = list(address.servers)

    async def _open(self) -> AbstractConnection:
        failure: Exception = ConnectionError("no Sentinel knows a master of that name")
        for sentinel in tuple(self._sentinels):
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    master = await self._master(sentinel)
                    if master is not None:
                        return await self._open_master(master)
            except (RedisError, OSError, TimeoutError) as error:
                failure = error
            # The next connection begins with another.
            self._sentinels.remove(sentinel)
            self._sentinels.append(sentinel)
        raise failure

    async def _master(self, sentinel: Server) -> Server | None:
        name = self._address.service
        async with _brief(self._address.sentinel(sentinel)) as connection:
            master = await ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        return (master[0].decode(), int(master[1])) if master else None

    async def _open_master(self, server: Server) -> AbstractConnection:
        connection = await opened(self._address.connection(server))
        try:
            role = await ask(connection, "ROLE")
            # A Sentinel may not have noticed yet.
            if role[0] != b"master":
                raise ConnectionError("the server is not a master any more")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class Cluster:
    """A cluster. Which server holds which slot is found out in the background, and by the way."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pipelines: dict[Server, Pipeline] = {}
        self._ranges: list[tuple[int, int, Server]] = []
        self._finding: asyncio.Task[None] | None = None

    async def exchange(self, calls: Sequence[Call]) -> list[Any]:
        """Ask the servers that hold the keys; where one says that another does, that one."""
        replies: list[Any] = [None] * len(calls)
        by_server: dict[Server, list[int]] = defaultdict(list)
        for index, (key, _) in enumerate(calls):
            by_server[await self._holder(key)].append(index)
        for server, indexes in by_server.items():
            commands = [calls[index][1] for index in indexes]
            try:
                found = await self._pipeline(server).exchange(commands)
            except BaseException:
                self._find()  # it may have been replaced
                raise
            for index, command, reply in zip(indexes, commands, found, strict=True):
                moved = isinstance(reply, MovedError)
                replies[index] = await self._follow(reply, command) if moved else reply
        return replies

    async def close(self) -> None:
        """Close all connections."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        for pipeline in self._pipelines.values():
            await pipeline.close()

    async def _follow(self, error: MovedError, command: Command) -> Any:
        # AskError is a MovedError. A command that was redirected has not run.
        pipeline = self._pipeline((error.host, error.port))
        if isinstance(error, AskError):
            return (await pipeline.exchange([("ASKING",), command]))[-1]
        self._find()
        return (await pipeline.exchange([command]))[0]

    def place(self, key: str) -> str:
        """The server that holds its slot."""
        server = self._known_holder(key)
        return f"{server[0]}:{server[1]}" if server else ""

    def owes(self, key: str) -> float:
        """For how long the server that holds its slot has owed a reply."""
        server = self._known_holder(key)
        return self._pipeline(server).owes() if server else math.inf

    async def _holder(self, key: str) -> Server:
        if not self._ranges:
            # Whoever waits may give up; the search goes on.
            await asyncio.shield(self._find())
        server = self._known_holder(key)
        if server is None:
            self._find()
            raise ConnectionError("no server of the cluster holds that slot")
        return server

    def _known_holder(self, key: str) -> Server | None:
        slot = key_slot(key.encode())
        return next((at for first, last, at in self._ranges if first <= slot <= last), None)

    def _pipeline(self, server: Server) -> Pipeline:
        if server not in self._pipelines:
            self._pipelines[server] = Pipeline(lambda: opened(self._address.connection(server)))
        return self._pipelines[server]

    def _find(self) -> asyncio.Task[None]:
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self._find_ranges())
            self._finding.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._finding

    async def _find_ranges(self) -> None:
        """Take the word of the first that answers: of those found before, then of those given."""
        known = dict.fromkeys([*(server for _, _, server in self._ranges), *self._address.servers])
        failure: Exception = ConnectionError("no server of the cluster answers")
        for server in known:
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    ranges = await self._ranges_by(server)
            except (RedisError, OSError, TimeoutError) as error:
                failure = error
                continue
            if ranges:
                self._ranges = ranges
                await self._forget_servers({server for _, _, server in ranges})
                return
        raise failure

    async def _ranges_by(self, server: Server) -> list[tuple[int, int, Server]]:
        async with _brief(self._address.connection(server)) as connection:
            slots = await ask(connection, "CLUSTER", "SLOTS")
        # A server that does not know its own name is the one that was asked.
        return [
            (first, last, ((master[0] or b"").decode() or server[0], int(master[1])))
            for first, last, master, *_ in slots
        ]

    async def _forget_servers(self, current: set[Server]) -> None:
        for server in set(self._pipelines) - current:
            await self._pipelines.pop(server).close()


@contextlib.asynccontextmanager
async def _brief(connection: AbstractConnection) -> AsyncIterator[AbstractConnection]:
    """A connection for one question."""
    await opened(connection)
    try:
        yield connection
    finally:
        await connection.disconnect(nowait=True)
