"""`python -m tests.bench.splice PORT UPSTREAM_PORT`: bytes from one socket to the other.

A connection of a client is a connection to the upstream, and nothing is looked at: what Python
cannot do for less.
"""

import asyncio
import sys
from typing import cast

import uvloop


class _Upstream(asyncio.Protocol):
    """The upstream's end, for one client."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


class _Client(asyncio.Protocol):
    """The client's end."""

    def __init__(self, upstream_port: int) -> None:
        self._port = upstream_port
        self._early: list[bytes] = []
        self._client: asyncio.Transport | None = None
        self._upstream: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by their class.
        self._client = cast(asyncio.Transport, transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect(self._client))

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client = None
        if self._upstream is not None:
            self._upstream.close()

    async def _connect(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: _Upstream(client), "127.0.0.1", self._port
            )
        except OSError:
            client.abort()
            return
        self._upstream = transport
        if self._client is None:  # it left meanwhile
            transport.close()
            return
        transport.write(b"".join(self._early))
        self._early.clear()


async def _serve(port: int, upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Client(upstream_port), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
