"""What one connection to an engine makes of bytes: the same however they are cut, or a failure."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.connection import HEAD_BYTES, Broken, Connection
from tests.unit.test_events import pieces

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: Application/JSON; charset=utf-8\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
WHOLE = OK + JSON + b"content-length: 5\r\n\r\nhello"
STREAM = OK + CHUNKED + b"\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nsome: trailer\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\ncontent-type: text/html\r\n\r\n"
SECOND = OK + b"content-length: 6\r\n\r\nsecond"


class Transport:
    """The socket's end: what was written, and whether it is still open."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.closed = False

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written.extend(parts)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.closed = True


@dataclass
class Heard:
    """What a reader was told."""

    head: tuple[int, bytes] | None = None
    body: bytes = b""
    end: str = ""
    parts: int = field(default=0, compare=False)

    def begun(self, status: int, media_type: bytes) -> None:
        assert self.head is None
        assert not self.end
        self.head = status, media_type

    def received(self, data: bytes) -> None:
        assert data
        assert self.head
        assert not self.end
        self.body += data
        self.parts += 1

    def ended(self) -> None:
        assert not self.end
        self.end = "whole"

    def failed(self, broken: Broken) -> None:
        assert not self.end
        self.end = "broken"


def opened() -> tuple[Connection, Transport]:
    connection, transport = Connection(lambda _: None), Transport()
    connection.connection_made(cast(asyncio.Transport, cast(Any, transport)))
    return connection, transport


def asked(connection: Connection) -> Heard:
    heard = Heard()
    connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"", heard)
    return heard


def feed(connection: Connection, transport: Transport, *parts: bytes) -> None:
    """As an event loop does: nothing more once it is closed."""
    for part in parts:
        if not transport.closed:
            connection.data_received(part)


def close(connection: Connection, error: Exception | None = None) -> None:
    """By the other side: in order, or by an error."""
    if error is None:
        connection.eof_received()
    connection.connection_lost(error)


ANSWERS = {
    "a length": (WHOLE, Heard((200, b"application/json"), b"hello", "whole")),
    "chunks, extensions and trailers": (STREAM, Heard((200, b""), b"hello!", "whole")),
    "words in between": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS + WHOLE,
        Heard((200, b"application/json"), b"hello", "whole"),
    ),
    "an error": (
        b"HTTP/1.1 503 x\r\ncontent-length: 2\r\n\r\n{}",
        Heard((503, b""), b"{}", "whole"),
    ),
    "no body": (b"HTTP/1.1 204 x\r\n\r\n", Heard((204, b""), b"", "whole")),
    "an empty body": (OK + b"content-length: 0\r\n\r\n", Heard((200, b""), b"", "whole")),
}
UNTIL_CLOSED = {
    "HTTP/1.1": OK + JSON + b"\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\nhello",
}
BAD = {
    "both lengths": OK + CHUNKED + b"content-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "both lengths, the other way round": OK + b"content-length: 5\r\n" + CHUNKED + b"\r\nhello",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "two equal lengths": OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"content-length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"content-length: +5\r\n\r\nhello",
    "an unknown encoding": OK + b"transfer-encoding: gzip\r\n\r\nhello",
    "a second encoding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "an encoding twice": OK + CHUNKED + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
    "an encoding that hides": OK + b"transfer-encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "LF alone": OK + b"content-length: 5\n\nhello",
    "a folded header": OK + b"x: a\r\n b\r\ncontent-length: 5\r\n\r\nhello",
    "a space before the colon": OK + b"content-length : 5\r\n\r\nhello",
    "NUL in a value": OK + b"x: a\0b\r\ncontent-length: 5\r\n\r\nhello",
    "another version": b"HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "another protocol": b"HTTP/1.1 101 x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nhello",
    "no HTTP": b"this is not HTTP\r\n\r\n",
    "no body, with a length": b"HTTP/1.1 204 x\r\ncontent-length: 5\r\n\r\nhello",
    "no change, with a length": b"HTTP/1.1 304 x\r\ncontent-length: 5\r\n\r\nhello",
    "no body, in chunks": b"HTTP/1.1 204 x\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "a word in between with a length": b"HTTP/1.1 100 x\r\ncontent-length: 5\r\n\r\n" + WHOLE,
    "a word in between in chunks": b"HTTP/1.1 103 x\r\n" + CHUNKED + b"\r\n" + WHOLE,
    "a status below all": b"HTTP/1.1 099 x\r\ncontent-length: 5\r\n\r\nhello",
    "a status above all": b"HTTP/1.1 600 x\r\ncontent-length: 5\r\n\r\nhello",
    "two types": OK + JSON + b"content-type: text/event-stream\r\ncontent-length: 5\r\n\r\nhello",
    "a body that is packed": OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
}
BAD_CHUNKS = {
    "no digits": b"zz\r\nhello\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "a prefix": b"0x5\r\nhello\r\n",
    "LF after the size": b"5\nhello\r\n",
    "longer than said": b"4\r\nhello\r\n0\r\n\r\n",
    "shorter than said": b"6\r\nhello\r\n0\r\n\r\n",
    "LF after the data": b"5\r\nhello\n0\r\n\r\n",
}

cuts = st.lists(st.integers(0, 1000), max_size=12)


@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=cuts)
def test_an_answer_is_the_same_however_it_is_cut(name: str, cuts: list[int]) -> None:
    data, expected = ANSWERS[name]
    connection, transport = opened()
    for _ in range(2):  # and another one can follow it
        heard = asked(connection)
        feed(connection, transport, *pieces(data, cuts))
        assert heard == expected
        assert connection.is_over
        assert connection.is_usable


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_cut_off_anywhere_is_never_taken_for_a_whole_one(name: str) -> None:
    data, _ = ANSWERS[name]
    for length in range(len(data)):
        for error in (None, ConnectionResetError()):
            connection, transport = opened()
            heard = asked(connection)
            feed(connection, transport, data[:length])
            close(connection, error)
            assert heard.end == "broken", data[:length]
            assert not connection.is_usable


@pytest.mark.parametrize("name", UNTIL_CLOSED)
@given(cuts=cuts)
def test_an_answer_without_a_length_ends_with_the_connection(name: str, cuts: list[int]) -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, *pieces(UNTIL_CLOSED[name], cuts))
    assert not heard.end
    close(connection)
    assert heard == Heard((200, b"application/json"), b"hello", "whole")
    assert not connection.is_usable


def test_a_connection_that_is_reset_ends_no_answer() -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, UNTIL_CLOSED["HTTP/1.1"])
    close(connection, ConnectionResetError())
    assert heard.end == "broken"


def test_a_connection_whose_end_was_not_announced_ends_no_answer() -> None:
    """As TLS reports one that somebody on the way has cut."""
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, UNTIL_CLOSED["HTTP/1.1"])
    connection.connection_lost(None)
    assert heard.end == "broken"


@pytest.mark.parametrize("name", BAD)
@given(cuts=cuts)
def test_what_can_be_read_in_two_ways_is_no_answer_however_it_is_cut(
    name: str, cuts: list[int]
) -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, *pieces(BAD[name], cuts))
    assert heard == Heard(None, b"", "broken")
    assert transport.closed
    assert not connection.is_usable


@pytest.mark.parametrize("name", BAD_CHUNKS)
@given(cuts=cuts)
def test_a_bad_chunk_is_a_failure_and_not_an_end(name: str, cuts: list[int]) -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, *pieces(OK + CHUNKED + b"\r\n" + BAD_CHUNKS[name], cuts))
    close(connection)
    assert heard.end == "broken"
    assert b"hello".startswith(heard.body.rstrip(b"\r"))
    assert not connection.is_usable


@pytest.mark.parametrize("surplus", [SECOND, HINTS, b"garbage", b"\0"])
@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=cuts)
def test_what_follows_an_answer_is_never_taken_for_the_next_one(
    name: str, surplus: bytes, cuts: list[int]
) -> None:
    data, expected = ANSWERS[name]
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, *pieces(data + surplus, cuts))
    assert heard == expected
    assert not connection.is_usable
    late = asked(connection)
    assert late == Heard(None, b"", "broken")


@pytest.mark.parametrize(
    "head",
    [
        OK + b"connection: close\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\n",
    ],
)
def test_a_connection_that_will_be_closed_is_not_used_again(head: bytes) -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, head + b"hello")
    assert (heard.body, heard.end) == (b"hello", "whole")
    assert not connection.is_usable


def test_an_answer_before_all_of_the_request_is_out_is_the_last_on_its_connection() -> None:
    connection, transport = opened()
    heard = asked(connection)
    transport.unsent = 1
    feed(connection, transport, b"HTTP/1.1 413 x\r\ncontent-length: 0\r\n\r\n")
    assert heard.end == "whole"
    assert not connection.is_usable


def test_a_connection_that_is_not_read_is_not_used_again() -> None:
    """Of what may follow its answer nothing was seen, and the next answer would never be read."""

    class Slow(Heard):
        def received(self, data: bytes) -> None:
            super().received(data)
            connection.pause()

    connection, transport = opened()
    slow = Slow()
    connection.ask(b"", b"", slow)
    feed(connection, transport, STREAM)
    assert slow.end == "whole"
    assert connection.is_over
    assert not transport.reading
    assert not connection.is_usable
    connection.resume()
    assert transport.reading
    assert connection.is_usable


def test_a_parser_that_fails_without_a_word_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        def __init__(self, protocol: Connection) -> None:
            pass

        def feed_data(self, data: bytes) -> None:
            raise httptools.HttpParserError

    monkeypatch.setattr(httptools, "HttpResponseParser", Mute)
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, WHOLE)
    assert heard.end == "broken"
    assert transport.closed


def test_bytes_that_nobody_asked_for_close_the_connection() -> None:
    connection, transport = opened()
    feed(connection, transport, WHOLE)
    assert transport.closed
    assert asked(connection).end == "broken"


ENDLESS = {
    "a header": (OK + b"x: ", b"y" * 1000),
    "headers": (OK, b"x: y\r\n" * 100),
    "words in between": (b"", HINTS * 10),
    "an extension": (OK + CHUNKED + b"\r\n1;", b"y" * 1000),
    "trailers": (OK + CHUNKED + b"\r\n0\r\n", b"x: y\r\n" * 100),
    "extensions of bytes": (OK + CHUNKED + b"\r\n", b"1;" + b"y" * 1000 + b"\r\na\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_no_body_has_a_bound(name: str) -> None:
    begin, more = ENDLESS[name]
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, begin, *[more] * (2 * HEAD_BYTES // len(more)))
    assert heard.end == "broken"
    assert transport.closed


def test_a_large_head_is_refused_even_where_it_comes_in_one_read() -> None:
    connection, transport = opened()
    heard = asked(connection)
    large = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(70))
    feed(connection, transport, OK + large + b"content-length: 5\r\n\r\nhello")
    assert heard == Heard(None, b"", "broken")


def test_chunks_of_one_byte_have_no_bound() -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, OK + CHUNKED + b"\r\n", *[b"1\r\na\r\n" * 1000] * 50)
    feed(connection, transport, *[b"1\r\na\r\n"] * (HEAD_BYTES // 5))
    assert not heard.end
    assert len(heard.body) == 50_000 + HEAD_BYTES // 5


def test_what_came_in_one_read_is_passed_on_as_one() -> None:
    connection, transport = opened()
    heard = asked(connection)
    feed(connection, transport, OK + CHUNKED + b"\r\n" + b"1\r\na\r\n" * 50)
    feed(connection, transport, b"1\r\nb\r\n" * 50)
    assert heard.body == b"a" * 50 + b"b" * 50
    assert heard.parts == 2


def test_a_reader_that_gave_up_is_told_nothing_more() -> None:
    class Fussy(Heard):
        def begun(self, status: int, media_type: bytes) -> None:
            super().begun(status, media_type)
            connection.abort()

    connection, transport = opened()
    fussy = Fussy()
    connection.ask(b"", b"", fussy)
    feed(connection, transport, WHOLE)
    close(connection)
    assert fussy == Fussy((200, b"application/json"), b"", "")
