"""One connection to an engine: HTTP/1.1, one request at a time.

A protocol and a parser instead of a general client: what an engine sends goes from the socket to
the client within one call, without a task, a queue or a stream object for each chunk. With aiohttp
in this place a chunk of a stream took 1.2 to 1.6 times as much CPU time of the gateway, all of it
included (`python -m tests.cost`).

What is read here is passed to a client as another's answer would be if it were read wrongly. So
what could be read in two ways is refused, and after anything unforeseen the connection is not used
again.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import httptools

HEAD_BYTES = 64 << 10
"""Most of an answer that is no body: its head, the trailers, the extensions of chunks."""
# Bytes of framing that a byte of the body may take: one in a chunk of its own takes five.
_FRAMING = 8
_VERSIONS = ("1.0", "1.1")
_BODILESS = (204, 304)
_ENCODED = "its body is encoded in a way that was not asked for"


class Broken(Exception):
    """The engine ended the connection within its answer, or before it, or sent what is no HTTP."""


class Reader(Protocol):
    """Who gets an answer. Its methods are called as the bytes come, and must not raise."""

    def begun(self, status: int, media_type: bytes) -> None:
        """The head has come."""

    def received(self, data: bytes) -> None:
        """A part of the body: all of it that came in one read."""

    def ended(self) -> None:
        """All of it has come."""

    def failed(self, broken: Broken) -> None:
        """It will not come, or no more of it."""


class _Stage(Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    OVER = "over"


class Connection(asyncio.Protocol):
    """What `ask` sends is answered to its reader, until that has ended or failed.

    `closed` is called once it is closed, by whichever side. Behind TLS, an engine that closes while
    nothing is read takes with it what was not read yet: such an answer counts as cut.
    """

    __slots__ = (
        "_begun",
        "_closed",
        "_encodings",
        "_fault",
        "_has_length",
        "_head_bytes",
        "_is_eof",
        "_is_open",
        "_is_paused",
        "_keeps",
        "_media_type",
        "_parser",
        "_parts",
        "_reader",
        "_stage",
        "_status",
        "_transport",
        "_unparsed",
        "_until_closed",
        "on_body",
    )
    _transport: asyncio.Transport

    def __init__(self, closed: Callable[["Connection"], None]) -> None:
        self._closed = closed
        self._stage = _Stage.IDLE
        self._reader: Reader | None = None
        self._is_open = False
        self._keeps = True
        self._until_closed = False
        self._is_eof = False
        self._is_paused = False
        self._fault = ""
        self._unparsed = 0
        self._head_bytes = 0
        self._encodings: list[bytes] = []
        self._has_length = False
        self._media_type: bytes | None = None
        self._status = 0
        self._begun = False
        self._parts: list[bytes] = []
        # What the parser calls for a body is the list itself: where a head was refused it has
        # stopped, and calls nothing any more.
        self.on_body = self._parts.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def is_usable(self) -> bool:
        """Whether it is good for another request, after the last one."""
        # Not where an answer came before all of its request was out, nor where reading stopped
        # within it: what may follow it was not seen. (Behind TLS uvloop does not tell all that
        # waits to be sent. Then the next request only comes after it.)
        is_settled = not self._is_paused and not self._transport.get_write_buffer_size()
        return self._is_free and is_settled

    @property
    def is_over(self) -> bool:
        """Whether all of the last answer has come, or never will."""
        return self._reader is None

    def ask(self, head: bytes, body: bytes, reader: Reader) -> None:
        """Send a request. `head` is all of its head; `body` is not copied, however large."""
        if not self._is_free:
            reader.failed(Broken("it closed before the request was sent"))
            return
        self._stage, self._reader = _Stage.HEAD, reader
        self._head_bytes = self._unparsed = 0
        self._forget_head()
        self._transport.writelines((head, body))

    def hand_over(self, reader: Reader) -> None:
        """Have another reader get the rest of the answer."""
        if self._reader is not None:
            self._reader = reader

    def pause(self) -> None:
        """Read nothing until `resume`: what the engine sends then waits with the engine."""
        if not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once. Its reader is not told any more."""
        self._reader, self._keeps = None, False
        self._transport.abort()

    @property
    def _is_free(self) -> bool:
        is_idle = self._keeps and self._is_open and self._stage is _Stage.IDLE
        return is_idle and not self._transport.is_closing()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self._is_open = transport, True

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self._parser is None:  # nobody has asked for anything
            self.abort()
            return
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fault = self._fault or str(error) or "it is no HTTP"
        if self._begun:
            self._begun = False
            reader.begun(self._status, self._media_type or b"")
        parts = self._parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._unparsed = max(self._unparsed - len(body) * (1 + _FRAMING), 0)
            if self._reader is reader:
                reader.received(body)
        if self._reader is not reader:  # it wanted no more
            return
        if self._stage is _Stage.OVER:
            self._end(reader)
        elif self._fault or self._unparsed > HEAD_BYTES:
            self._fail(self._fault or f"more than {HEAD_BYTES} bytes that are no body")

    def eof_received(self) -> None:
        self._is_eof = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = self._keeps = False
        self._parser = None  # it holds on to this
        self._closed(self)
        reader = self._reader
        if reader is None:
            return
        # Behind TLS only a peer who says that it closes has sent all: anybody can cut a connection.
        is_in_order = self._is_eof and exc is None
        if self._stage is _Stage.BODY and self._until_closed and is_in_order:
            self._end(reader)
        else:
            self._fail("it closed before the end of its answer")

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._stage is _Stage.OVER:
            raise httptools.HttpParserError("more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._stage is not _Stage.HEAD:
            return
        name = name.lower()
        if name == b"content-type":
            if self._media_type is not None:
                self._fault = "it says twice what its body is"
            self._media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            self._has_length = True
        elif name == b"transfer-encoding":
            self._encodings.append(value.lower())
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            self._fault = _ENCODED

    def on_headers_complete(self) -> None:
        if self._stage is not _Stage.HEAD or self._parser is None:
            return
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in _VERSIONS:
            self._fault = "it does not speak HTTP/1.1"
        elif self._head_bytes > HEAD_BYTES:
            self._fault = f"its head is larger than {HEAD_BYTES} bytes"
        elif self._encodings not in ([], [b"chunked"]):
            self._fault = _ENCODED
        elif not 100 <= status <= 599:
            self._fault = f"its status is {status:03}"
        elif (status < 200 or status in _BODILESS) and (self._has_length or self._encodings):
            self._fault = f"it has a body, which its status {status} does not"
        if self._fault:
            raise httptools.HttpParserError(self._fault)
        if status < 200:  # a word in between: the answer is yet to come
            self._forget_head()
            return
        self._status, self._begun, self._stage = status, True, _Stage.BODY
        self._unparsed = 0
        self._until_closed = not (self._has_length or self._encodings or status in _BODILESS)
        self._keeps = version == "1.1" and self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self._stage is _Stage.BODY:
            self._stage = _Stage.OVER

    def _forget_head(self) -> None:
        self._encodings, self._has_length, self._media_type = [], False, None

    def _end(self, reader: Reader) -> None:
        self._reader, self._stage = None, _Stage.IDLE
        # After a fault here: something followed the answer.
        self._keeps = self._keeps and not self._fault
        reader.ended()

    def _fail(self, reason: str) -> None:
        reader = self._reader
        self.abort()
        if reader is not None:
            reader.failed(Broken(reason))
