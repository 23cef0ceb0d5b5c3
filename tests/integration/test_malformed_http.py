"""HTTP that is malformed, or that others on the way may read differently, over raw sockets."""

import contextlib
import json
import re

import pytest

from tests.integration.conftest import Gateway
from tests.integration.fake_engine import FakeEngine
from tests.integration.test_gateway import CHAT, ask, connect, metric, read_all
from tests.integration.waiting import wait_for

BODY = json.dumps(ask("well")).encode()
LENGTH = f"content-length: {len(BODY)}\r\n".encode()
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

# Head and body after the request line and the key; another request follows each at once.
MALFORMED = {
    "both lengths": LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "both lengths, the other way round": CHUNKED + LENGTH + b"\r\n0\r\n\r\n",
    "two equal lengths": LENGTH * 2 + b"\r\n" + BODY,
    "two lengths": LENGTH + b"content-length: 0\r\n\r\n" + BODY,
    "a list of lengths": b"content-length: 5, 5\r\n\r\n" + BODY,
    "a length with a sign": b"content-length: +5\r\n\r\n" + BODY,
    "a negative length": b"content-length: -1\r\n\r\n",
    "a hexadecimal length": b"content-length: 0x5\r\n\r\n" + BODY,
    "an empty length": b"content-length:\r\n\r\n",
    "a length beyond 64 bits": b"content-length: 99999999999999999999\r\n\r\n",
    "a space before the colon": b"content-length : 0\r\n\r\n",
    "an encoding twice": CHUNKED * 2 + b"\r\n" + CHUNKS,
    "an encoding after chunked": b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "an unknown encoding": b"transfer-encoding: xchunked\r\n\r\n" + CHUNKS,
    "an encoding that hides": b"transfer-encoding: \x0bchunked\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded header": b"x: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded encoding": b"transfer-encoding:\r\n chunked\r\n" + LENGTH + b"\r\n" + BODY,
    "a header of no name": b": x\r\n" + LENGTH + b"\r\n" + BODY,
    "a line without a colon": b"garbage\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a value": b"x: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a name": b"x\0: a\r\n" + LENGTH + b"\r\n" + BODY,
    "CR alone": b"x: a\rb\r\n" + LENGTH + b"\r\n" + BODY,
    "LF alone": b"x: a\n" + LENGTH + b"\r\n" + BODY,
    "LF alone everywhere": (b"x: a\r\n" + LENGTH + b"\r\n").replace(b"\r", b"") + BODY,
    "a second Host": b"host: y\r\n" + LENGTH + b"\r\n" + BODY,
    "a chunk size of no digits": CHUNKED + b"\r\nzz\r\n",
    "a negative chunk size": CHUNKED + b"\r\n-1\r\n",
    "a chunk size with a prefix": CHUNKED + b"\r\n0x" + CHUNKS,
    "a chunk size beyond 64 bits": CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n" + BODY,
    "a chunk longer than said": CHUNKED + b"\r\n5\r\n" + CHUNKS,
    "a chunk that ends in LF": CHUNKED + b"\r\n" + CHUNKS.replace(b"\r", b""),
    "a chunk extension that ends in LF": CHUNKED + b"\r\n1;a\n{\r\n0\r\n\r\n",
}
MALFORMED_LINES = {
    "another version": b"POST /v1/chat/completions HTTP/2.0",
    "no version": b"POST /v1/chat/completions",
    "a version that is none": b"POST /v1/chat/completions HTTP/1.1 HTTP/1.1",
    "small letters": b"post /v1/chat/completions HTTP/1.1",
    "a tunnel": b"CONNECT 127.0.0.1:80 HTTP/1.1",
    "HTTP/2's preface": b"PRI * HTTP/2.0",
    "a target of other bytes": b"POST /v1/\xff HTTP/1.1",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
}


def exchanged(gateway: Gateway, data: bytes) -> bytes:
    """What comes back for these bytes until the gateway closes."""
    with connect(gateway) as connection:
        with contextlib.suppress(ConnectionError):  # it may close before it has all of them
            connection.sendall(data)
        return read_all(connection)


def written(gateway: Gateway, line: bytes, rest: bytes) -> bytes:
    key = f"authorization: Bearer {gateway.key}\r\n".encode()
    return line + b"\r\nhost: x\r\n" + key + rest


@pytest.mark.parametrize("name", [*MALFORMED, *MALFORMED_LINES])
def test_what_may_be_read_in_two_ways_is_refused_and_hides_no_request(
    gateway: Gateway, engine: FakeEngine, name: str
) -> None:
    """One clear 400, or the end of the connection within a body; what follows is not read."""
    before = len(engine.calls)
    usual = f"POST {CHAT} HTTP/1.1".encode()
    well = LENGTH + b"\r\n" + BODY
    line, rest = MALFORMED_LINES.get(name, usual), MALFORMED.get(name, well)
    answer = exchanged(gateway, written(gateway, line, rest) + written(gateway, usual, well))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) <= 1
    with gateway.client() as client:
        assert client.get("/v1/models").status_code == 200
    assert len(engine.calls) == before


ONE_ANSWER = {
    "a target with a host": (b"POST http://x.example/v1/chat/completions HTTP/1.1", LENGTH, 200),
    "another path behind a host": (b"POST http://x/metrics HTTP/1.1", LENGTH, 404),
    "a path behind a user": (b"POST http://a:b@x/v1/../metrics HTTP/1.1", LENGTH, 404),
    "all of the server": (b"OPTIONS * HTTP/1.1", LENGTH, 404),
    "HTTP/1.0": (b"POST /v1/chat/completions HTTP/1.0", LENGTH, 200),
    "HTTP/1.0 kept alive": (
        b"POST /v1/chat/completions HTTP/1.0",
        b"connection: keep-alive\r\n" + LENGTH,
        200,
    ),
}


@pytest.mark.parametrize("name", ONE_ANSWER)
def test_one_connection_that_ends_has_one_answer(
    gateway: Gateway, engine: FakeEngine, name: str
) -> None:
    """The path alone is the route, wherever it stands.

    What comes after a last request is not read, whether it comes with it or after it.
    """
    line, head, status = ONE_ANSWER[name]
    close = b"" if b"connection" in head else b"connection: close\r\n"
    before = len(engine.calls)
    another = written(gateway, line, head + b"\r\n" + BODY)
    with connect(gateway) as connection:
        connection.sendall(written(gateway, line, head + close + b"\r\n" + BODY) + another)
        wait_for(lambda: len(engine.calls) > before or status != 200)
        with contextlib.suppress(ConnectionError):
            connection.sendall(another)
        answer = read_all(connection)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"x-request-id") == 1
    assert len(engine.calls) - before == (status == 200)


def test_a_stream_to_http_1_0_is_not_in_chunks_and_ends_with_its_connection(
    gateway: Gateway,
) -> None:
    body = json.dumps(ask("well", stream=True)).encode()
    length = f"content-length: {len(body)}\r\n\r\n".encode()
    answer = exchanged(gateway, written(gateway, f"POST {CHAT} HTTP/1.0".encode(), length + body))
    head, _, events = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"}\n\ndata: [DONE]\n\n")


def test_an_answer_to_head_has_no_body(gateway: Gateway) -> None:
    answer = exchanged(
        gateway, written(gateway, f"HEAD {CHAT} HTTP/1.1".encode(), b"connection: close\r\n\r\n")
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"content-length: " in head
    assert head.count(b"connection: ") == 1
    assert body == b""


@pytest.mark.parametrize("count", [2, 50])
def test_requests_that_are_piled_up_are_not_served(
    gateway: Gateway, engine: FakeEngine, count: int
) -> None:
    """A request before the answer to the last one ends the connection, with nothing queued."""
    before = len(engine.calls)
    line = f"POST {CHAT} HTTP/1.1".encode()
    one = written(gateway, line, LENGTH + b"\r\n" + BODY)
    assert exchanged(gateway, one * count).count(b"x-request-id") <= 1
    wait_for(lambda: metric(gateway, "gptoss_gateway_requests_in_flight") == 0)
    assert len(engine.calls) - before <= 1


def test_a_body_that_is_a_request_is_none(gateway: Gateway, engine: FakeEngine) -> None:
    """What is declared as a body is read as one, even where no body is expected."""
    before = len(engine.calls)
    inner = written(gateway, f"POST {CHAT} HTTP/1.1".encode(), LENGTH + b"\r\n" + BODY)
    head = f"connection: close\r\ncontent-length: {len(inner)}\r\n\r\n".encode()
    answer = exchanged(gateway, written(gateway, b"GET /v1/models HTTP/1.1", head + inner))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"x-request-id") == 1
    assert len(engine.calls) == before
