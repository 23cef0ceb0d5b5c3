"""A TCP proxy of the load test's own, whose connections can be delayed, broken and refused.

It runs in the load test's parent process, beside no client: it costs about as much as one more hop.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from loadtest.errors import UserError
from loadtest.faults.relay import End
from loadtest.scenario.faults import Fault, ProxyTarget

_CONNECT_WITHIN: Final = 10.0
# While new connections are refused nobody holds the port: another may have it for a moment.
_LISTEN_TRIES: Final = 50
_LISTEN_AGAIN: Final = 0.1


class Proxy:
    """Between whoever connects to `listen` and `upstream`. `name` is the target's, for messages."""

    def __init__(self, name: str, target: ProxyTarget, chance: random.Random) -> None:
        self._name = name
        self._host, self._port = address(name, target.listen)
        self._upstream = address(name, target.upstream)
        self._random = chance
        self._server: asyncio.Server | None = None
        self._pairs: dict[End, End] = {}
        self._delays: list[float] = []
        self._denials = 0
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens: also where the scenario leaves that to the system, as port 0."""
        return self._port

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """It passes connections meanwhile. Raises `UserError` if it cannot listen."""
        try:
            await self._listen()
        except OSError as error:
            raise UserError(
                f"fault target {self._name} cannot listen at {self._host}:{self._port}:"
                f" {error.strerror}"
            ) from None
        try:
            yield
        finally:
            self._refuse()
            for task in self._connecting:
                task.cancel()
            for client, upstream in list(self._pairs.items()):
                client.close()
                upstream.close()

    async def check(self, fault: Fault) -> None:
        """Whether there is an upstream is what a fault may change. Raises `UserError` for a time
        that would mean nothing."""
        # All of a scenario is written into its run's folder, with what nobody has asked for.
        if fault.do == "cut" and fault.lasts != Fault.model_fields["lasts"].default:
            raise UserError(
                f"fault cut of {self._name}: it is over at once, leave out `lasts`; `deny` lets"
                " nobody in for a time"
            )

    async def make(self, fault: Fault) -> None:
        """Makes and undoes it."""
        if fault.do == "cut":
            self.cut(fault.share)
        elif fault.do == "slow":
            await self._slow(fault.delay, fault.lasts)
        else:
            await self._deny(fault.lasts)

    def cut(self, share: float) -> None:
        """Reset that share of the connections that are open, on both sides: at least one of them.
        Raises `UserError` if there are none: then nothing was tested."""
        if not self._pairs:
            raise UserError(f"no connection through {self._name} was open: nothing was cut")
        number = math.ceil(share * len(self._pairs))
        for client in self._random.sample(list(self._pairs), number):
            upstream = self._pairs.pop(client)
            client.reset()
            upstream.reset()

    async def _slow(self, delay: float, lasts: float) -> None:
        self._delays.append(delay)
        try:
            await asyncio.sleep(lasts)
        finally:
            self._delays.remove(delay)

    async def _deny(self, lasts: float) -> None:
        """Nobody gets in: neither by a new connection, nor by one that was kept open for more. What
        is being answered goes on. An idle one cannot be told from an answer that pauses, of bytes
        alone: so it is broken when it is used, and not before."""
        self._denials += 1
        self._refuse()
        try:
            await asyncio.sleep(lasts)
        finally:
            self._denials -= 1
            if not self._denials:
                await self._listen_again()

    def _delay(self) -> float:
        """Of two at a time the longer one."""
        return max(self._delays, default=0.0)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, self._host, self._port)
        # A second time it must be the same one.
        self._port = self._server.sockets[0].getsockname()[1]

    async def _listen_again(self) -> None:
        for _ in range(_LISTEN_TRIES):
            try:
                return await self._listen()
            except OSError:
                await asyncio.sleep(_LISTEN_AGAIN)
        raise UserError(f"port {self._port} of {self._name} was taken while it refused connections")

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accepted(self) -> End:
        return End(self._delay, self._connect, self._lost, self._is_denied)

    def _is_denied(self) -> bool:
        return self._denials > 0

    def _lost(self, client: End) -> None:
        self._pairs.pop(client, None)

    def _connect(self, client: End) -> None:
        task = asyncio.get_running_loop().create_task(self._connected(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connected(self, client: End) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                _, upstream = await loop.create_connection(self._opened, *self._upstream)
        except (OSError, TimeoutError):
            client.reset()
            return
        if client.gone:
            upstream.reset()
            return
        self._pairs[client] = upstream
        upstream.meet(client)
        client.meet(upstream)

    def _opened(self) -> End:
        return End(self._delay)


def address(name: str, text: str) -> tuple[str, int]:
    """Host and port. Raises `UserError`."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise UserError(
            f"fault target {name}: {text!r} is no host and port, such as 127.0.0.1:8001"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)
