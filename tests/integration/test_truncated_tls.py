"""Behind TLS anybody on the way can end a connection, but only the engine can say that it does."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.gateway.connections import Connections
from tests.certificate import certificate_for
from tests.integration.test_connections import answered, run

WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}"


@contextlib.contextmanager
def server(context: ssl.SSLContext, *, says_so: bool) -> Iterator[int]:
    """One answer without a length, and then the end. Its port."""

    def serve() -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as connection:
            request = b""
            while not request.endswith(b"\r\n\r\n{}"):
                request += connection.recv(1 << 16)
            connection.sendall(WITHOUT_LENGTH)
            if says_so:
                with contextlib.suppress(OSError):
                    connection.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(("says_so", "end"), [(True, "whole"), (False, "broken")])
def test_an_answer_without_a_length_is_whole_only_where_the_engine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_so: bool, end: str
) -> None:
    certificate, key = certificate_for(tmp_path, "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def test() -> None:
        with server(context, says_so=says_so) as port:
            async with Connections(5) as connections:
                assert await answered(connections, f"https://127.0.0.1:{port}") == end
                assert connections.idle == 0

    run(test)
