"""Whatever keeps a connection from being opened, the engine is unreachable."""

import asyncio
from typing import Any

import pytest

from service.gateway.connection import Connection
from service.gateway.dialer import Dialer, Unreachable, origin_of


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        RuntimeError("closed Transport handle and unset waiter"),  # of uvloop
        UnicodeError("label too long"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connection_that_cannot_be_opened_is_to_an_engine_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, error: Exception, host: str
) -> None:
    async def test() -> None:
        async def fail(*_: Any, **__: Any) -> Any:
            raise error

        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=str(error)):
            await Dialer(5).open(origin_of(f"http://{host}:{port}"), lambda: Connection(print))
        server.close()

    asyncio.run(test())
