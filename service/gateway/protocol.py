"""HTTP/1.1 from clients: uvicorn's protocol, with the bounds that it leaves to a proxy in front.

A connection costs memory and a descriptor before anybody knows whose it is. So its heads are
bounded in bytes and in time, and it carries one request at a time: pipelined requests queue without
bound in uvicorn, and hide from the request under way that its client has left. What comes after a
connection's last request is dropped, and takes nothing from the answer to it.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.gateway.client import CONNECTION, Headers

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0
# What arrives with a head in one read, and may be the beginning of its body.
_ONE_READ = 256 << 10
_CLOSE = (b"connection", b"close")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class _Flow(FlowControl):
    """uvicorn's, without an event for each connection: a kilobyte, while nearly none ever waits."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._writable: asyncio.Event | None = None

    async def drain(self) -> None:
        if self._writable is not None:
            await self._writable.wait()

    def pause_writing(self) -> None:
        if self._writable is None:
            self.write_paused, self._writable = True, asyncio.Event()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        self.write_paused = False
        if writable is not None:
            writable.set()


class BoundedProtocol(HttpToolsProtocol):
    """One request at a time, whose head comes soon and is not large. A `ClientConnection`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._unparsed = 0
        self._fault = ""
        self._had_last = False
        self.is_full = False
        """Whether the client reads so slowly that a send would wait for it. Asked for each chunk:
        hence kept here, beside `flow`."""
        self._deadline: asyncio.TimerHandle | None = None
        self._gone: Callable[[], None] | None = None
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.pipeline = ()  # type: ignore[assignment]  # of which there is none, and never a queue
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()

    def pause_writing(self) -> None:
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.is_full = False
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._had_last or self.transport.is_closing():
            return
        # Counted until the parser hands something over: heads, trailers and chunk extensions.
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_BYTES + _ONE_READ:
            self.transport.abort()

    def on_message_begin(self) -> None:
        if self._is_answering():
            raise httptools.HttpParserError("a request before the answer to the last one")
        self._expect_head()
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._forget_deadline()
        self._unparsed = 0
        self._fault = self._fault_of_head()
        if self._fault:
            raise httptools.HttpParserError(self._fault)
        super().on_headers_complete()
        self.headers: list[tuple[bytes, bytes]] = []  # a trailer is no header, least of all a key
        if self.parser.should_upgrade() and self.cycle is not None:
            # The parser takes what follows for another protocol, not for this request's body.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        self._had_last = self.cycle is not None and not self.cycle.keep_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Whoever answers has taken it by now; left there it would be a circle.
        self.scope.get("extensions", {}).pop(CONNECTION, None)
        super().on_response_complete()
        if not self.transport.is_closing():
            self._unparsed = 0

    async def drained(self) -> None:
        """Wait until a send would not wait."""
        if not self.cycle.disconnected:
            await self.flow.drain()

    def body(self) -> bytes | None:
        """The whole body of the request, once, if all of it is here."""
        cycle = self.cycle
        if cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def respond(self, status: int, headers: Headers, body: bytes | None) -> None:
        """As `send` begins an answer, or gives a whole one, but in one write."""
        cycle = self.cycle
        if cycle.disconnected:
            return
        if cycle.response_started or _CONTROL.search(b"".join([value for _, value in headers])):
            raise RuntimeError("an answer was begun twice, or with a header that cannot be")
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        # HTTP/1.0 knows no chunks: there an answer ends with its connection.
        cycle.chunked_encoding = body is None and self.scope["http_version"] != "1.0"
        lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
        if _CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        if cycle.chunked_encoding:
            lines.append(b"transfer-encoding: chunked\r\n")
        shown = b"" if body is None or self.scope["method"] == "HEAD" else body
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(lines), shown))
        if body is not None:
            self._complete()

    def write(self, body: bytes) -> None:
        """As `send` writes a piece of an answer, without a message to say so."""
        cycle = self.cycle
        if not cycle.disconnected:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if cycle.chunked_encoding else body
            self.transport.write(chunk)

    def end(self) -> None:
        """As `send` ends an answer."""
        if not self.cycle.disconnected:
            if self.cycle.chunked_encoding:
                self.transport.write(b"0\r\n\r\n")
            self._complete()

    def _complete(self) -> None:
        cycle = self.cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def abort(self) -> None:
        """Close at once, unsent bytes and all."""
        self.transport.abort()

    def watch(self, gone: Callable[[], None] | None) -> None:
        """Have `gone` called when the client leaves, or nobody any more."""
        self._gone = gone
        if gone is None:
            return
        self.flow.resume_reading()  # a body that is large stops it, and so its end is not seen
        if self.cycle.disconnected:
            gone()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; never within an answer that is under way."""
        if self._had_last:
            return
        if self._is_answering():
            self.transport.abort()
        else:
            super().send_400_response(self._fault or msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: it advises to install WebSockets, which this service does not speak."""

    def _fault_of_head(self) -> str:
        """What the parser lets pass, and others on the way may read differently from us.

        The `Host` header decides nothing here, but whoever stands in front goes by it.
        """
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        if version not in ("1.0", "1.1"):
            return "Invalid HTTP request: HTTP/1.1 is spoken here."
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            return "Invalid HTTP request: send one Host header."
        if hosts and not _HOST.fullmatch(hosts[0]):
            return "Invalid HTTP request: the Host header is no host."
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            return f"Invalid HTTP request: its head is larger than {HEAD_BYTES} bytes."
        return ""

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self._is_answering():
            self.transport.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
