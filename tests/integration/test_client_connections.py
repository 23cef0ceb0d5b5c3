"""A client's connection leaves nothing behind for the collector, which looks rarely."""

import asyncio
import gc
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from service.gateway.exchange import Exchange
from service.gateway.protocol import BoundedProtocol
from service.telemetry.trace import Sampling

CONNECTIONS = 20
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def gateway(scope: Any, receive: Any, send: Any) -> None:
    exchange = Exchange(scope, 5, Sampling(), lambda: None)
    await exchange.answer(200, b"{}")


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """Of an operators' port, which does not know that there is a connection."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def left_after(app: Any) -> int:
    """How many connections are still in memory once all are closed."""
    config = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()

    def accepted() -> BoundedProtocol:
        return BoundedProtocol(config=config, server_state=state, app_state={})

    server = await loop.create_server(accepted, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for _ in range(CONNECTIONS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(REQUEST)
            assert b" 200 " in await reader.readuntil(b"{}")
        writer.close()
        await writer.wait_closed()
    while state.connections or state.tasks:  # noqa: ASYNC110  # of that nobody is told
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    server.close()
    return sum(isinstance(one, BoundedProtocol) for one in gc.get_objects())


def test_a_connection_that_is_closed_is_gone_without_the_collector() -> None:
    async def test() -> None:
        async with asyncio.timeout(20):
            for app in (gateway, plain):
                gc.collect()
                assert await left_after(app) == 0

    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test())
    finally:
        gc.enable()
