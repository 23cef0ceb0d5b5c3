"""`python -m tests.bench.bare PORT UPSTREAM`: a relay on uvicorn and aiohttp that does no more.

No key, no limit, no accounting: what the libraries cost by themselves.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvicorn
import uvloop

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Relay:
    """The ASGI application."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with self._session.request(
            scope["method"],
            self._upstream + scope["path"],
            data=body or None,
            headers={"content-type": "application/json"},
        ) as response:
            kind = response.headers.get("content-type", "").encode()
            headers = [(b"content-type", kind)]
            if length := response.headers.get("content-length"):
                headers.append((b"content-length", length.encode()))
            await send(
                {"type": "http.response.start", "status": response.status, "headers": headers}
            )
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _serve(port: int, upstream: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False
    ) as session:
        relay = _Relay(session, upstream)
        config = uvicorn.Config(
            relay,
            port=port,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            backlog=4096,
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        uvloop.run(_serve(int(sys.argv[1]), sys.argv[2]))
