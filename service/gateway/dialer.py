"""Opens connections to engines: names, addresses, TLS."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import ip_address
from socket import SOCK_STREAM, AddressFamily, SocketKind
from typing import Any
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from service.gateway.connection import Connection

# For so long a name leads where it led: of a burst of requests one asks.
_RESOLVED_SECONDS = 10.0
# Before the next address of a name is tried as well (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25
# The second is uvloop's, now and then, for a connection that broke while it was opened; the third a
# name's with a label that is too long.
_FAILURES = (OSError, RuntimeError, UnicodeError, TimeoutError)
_PORTS = {"http": 80, "https": 443}

_Addresses = list[tuple[AddressFamily, SocketKind, int, str, Any]]


class Unreachable(Exception):
    """There is no connection to be had."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a replica listens. `authority` is what its `Host` header says."""

    host: str
    port: int
    is_tls: bool
    is_name: bool
    authority: bytes


@lru_cache(4096)
def origin_of(url: str) -> Origin:
    """The origin of a replica's URL, as `service.address` writes it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # The dot at the end of a name is for the resolver: no certificate and no server has it.
    authority = parts.netloc.replace(host, host.removesuffix("."), 1)
    port = parts.port or _PORTS[parts.scheme]
    return Origin(host, port, parts.scheme == "https", _is_name(host), authority.encode())


class Dialer:
    """Opens connections within `patience` seconds each."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lookups: dict[tuple[str, int], tuple[float, asyncio.Task[_Addresses]]] = {}

    async def open(self, origin: Origin, new: Callable[[], Connection]) -> Connection:
        """A new connection. Raises `Unreachable`."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._open(origin, new)
        except _FAILURES as error:
            raise Unreachable(str(error)) from None

    def close(self) -> None:
        """Ask for no name any more."""
        for _, lookup in self._lookups.values():
            lookup.cancel()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reads all certificates of the machine: once, and only where an engine is behind TLS.
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def _open(self, origin: Origin, new: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if origin.is_tls:
            tls = {"ssl": self._tls, "server_hostname": origin.host.removesuffix(".")}
        if not origin.is_name:
            _, connection = await loop.create_connection(new, origin.host, origin.port, **tls)
            return connection
        addresses = await self._look_up(origin.host, origin.port)
        socket = await start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        try:
            _, connection = await loop.create_connection(new, sock=socket, **tls)
        except BaseException:
            socket.close()
            raise
        return connection

    async def _look_up(self, host: str, port: int) -> _Addresses:
        """What the resolver says. A request that leaves does not take the answer from others."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        until, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or until < now or (lookup.done() and lookup.exception()):
            for other in [name for name, (end, _) in self._lookups.items() if end < now]:
                del self._lookups[other]
            lookup = loop.create_task(loop.getaddrinfo(host, port, type=SOCK_STREAM))  # type: ignore[arg-type]
            lookup.add_done_callback(_hear)
            self._lookups[host, port] = now + _RESOLVED_SECONDS, lookup
        return await asyncio.shield(lookup)


def _hear(lookup: "asyncio.Task[_Addresses]") -> None:
    """Whoever asked may be gone; then nobody else would take notice of how it ended."""
    if not lookup.cancelled():
        lookup.exception()


def _is_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
