"""One sending of one request, from the connection to the last byte, and how it ended."""

import errno
import math
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from loadtest.client import headers
from loadtest.client.answer import Reading
from loadtest.client.data import Endpoint
from loadtest.client.deadline import Deadline
from loadtest.client.stream import failure_of
from loadtest.outcome import GOOD, Outcome, of_status
from loadtest.record import Record
from loadtest.scenario.document import Timeouts

# Of what an answer may have in front of a reader that has no time: beyond it the server waits. With
# the library's 64 KiB long prompts' answers were slow, and it looked like the server.
_READ_BUFFER = 1024 * 1024
# A server closes idle connections, uvicorn after 5 s. A request that meets that on its way fails,
# and would count as the server's fault: the client is the first to close.
_KEEP_ALIVE = 4.0
# After `[DONE]` comes the end of the body, mostly in the same read: so long a connection that can
# be used again is waited for.
_LINGER = 0.25
_ERROR_BODY = 65_536
_JSON = "application/json"
# The last is what a missing type is taken for.
_TYPES = ("text/event-stream", _JSON, "application/octet-stream")


class Request(msgspec.Struct, frozen=True):
    """What is sent, and how long it is waited for."""

    body: bytes
    headers: Mapping[str, str]
    streamed: bool
    give_up: float = math.inf
    """When its user leaves, of the monotonic clock."""


class _Body(aiohttp.Payload):
    """A request's body that tells when it is about to be written.

    aiohttp keeps the headers back until the first byte of the body and writes both at once: this is
    the moment before the first byte of the request, after connecting. Its tracing would say the
    same, at a call for each chunk of each answer.
    """

    def __init__(self, body: bytes, written: Callable[[float], None]) -> None:
        super().__init__(body, content_type="application/json")
        self._size = len(body)
        self._written = written

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        text: str = self._value.decode(encoding, errors)
        return text

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self._written(time.monotonic())
        await writer.write(self._value)


class Sender:
    """Sends requests to one endpoint over its own connections: as many as are needed at a time.

    Use it as a context. `began` is the time of the run's start, of the monotonic clock: what
    records have is relative to it.
    """

    def __init__(
        self, endpoint: Endpoint, timeouts: Timeouts, keep_gaps: bool = False, began: float = 0.0
    ) -> None:
        self.began = began
        self.open: dict[Deadline, tuple[Record, Reading]] = {}
        """What is under way."""
        self._keep_gaps = keep_gaps
        self._timeouts = timeouts
        self._url = URL(endpoint.url.rstrip("/") + "/v1/chat/completions")
        self._session = session(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    def reading(self, keep_text: bool = False) -> Reading:
        """For one answer. Its text is kept where a next turn needs it."""
        return Reading(keep_text, self._keep_gaps)

    async def send(self, request: Request, record: Record, reading: Reading) -> None:
        """Send it, and fill the record with what becomes of it. However that ends is an outcome,
        and no error here."""
        now = time.monotonic()
        deadline = Deadline()
        deadline.hard(now + self._timeouts.total, Outcome.TIMEOUT_TOTAL, "timeout")
        deadline.hard(request.give_up, Outcome.CANCELLED, "user_left")
        deadline.phase(now + self._timeouts.connect, Outcome.CONNECT)
        self.open[deadline] = (record, reading)
        try:
            with deadline:
                await self._exchange(request, record, reading, deadline)
        except (aiohttp.ClientError, OSError) as error:
            if record.ended is None:
                record.outcome, record.code = _broken(error, record)
        finally:
            del self.open[deadline]
        if record.ended is None:
            record.ended = time.monotonic() - self.began
            if deadline.ended is not None:
                record.outcome = deadline.ended
                record.code = deadline.why
        record.code = headers.plain(record.code)
        reading.fill(record, self.began)
        reading.free = time.monotonic() - self.began

    async def _exchange(
        self, request: Request, record: Record, reading: Reading, deadline: Deadline
    ) -> None:
        wait = self._timeouts.first_token if request.streamed else math.inf

        def written(now: float) -> None:
            record.sent = now - self.began
            deadline.phase(now + wait, Outcome.TIMEOUT_FIRST_TOKEN)

        response = await self._session.post(
            self._url,
            data=_Body(request.body, written),
            headers=request.headers,
            allow_redirects=False,
        )
        try:
            record.headers = time.monotonic() - self.began
            record.status = response.status
            headers.note(record, response.headers)
            if response.status != 200:
                await self._error(response, record)
            elif response.content_type not in _TYPES:
                record.outcome, record.code = Outcome.MALFORMED, response.content_type
            elif request.streamed and response.content_type != _JSON:
                await self._stream(response, record, reading, deadline)
            else:
                await self._whole(response, record, reading, request.streamed)
            record.ended = record.ended or time.monotonic() - self.began
            if reading.done:
                await _linger(response, deadline)
        finally:
            # Closes the connection, unless the answer has been read to its end.
            response.close() if not response.content.at_eof() else response.release()

    async def _stream(
        self, response: aiohttp.ClientResponse, record: Record, reading: Reading, deadline: Deadline
    ) -> None:
        clock, read, idle = time.monotonic, response.content.readany, self._timeouts.idle
        while data := await read():
            # When the task goes on, which is in the same turn of the loop in which the socket was
            # read: late by what else was there to do in that turn, and so by the loop's lag.
            reading.feed(data, clock())
            if reading.pieces:
                # A comment is no piece, and does not prolong the wait.
                if deadline.soft_outcome is Outcome.TIMEOUT_IDLE:
                    deadline.soft = reading.last + idle
                else:
                    deadline.phase(reading.last + idle, Outcome.TIMEOUT_IDLE)
            if reading.over:
                break
        record.ended = clock() - self.began
        record.outcome, record.code = reading.outcome(), reading.code()

    async def _whole(
        self, response: aiohttp.ClientResponse, record: Record, reading: Reading, streamed: bool
    ) -> None:
        body = await response.read()
        reading.whole(body, time.monotonic())
        record.outcome, record.code = reading.outcome(), reading.code()
        if streamed and record.outcome in GOOD:
            record.outcome, record.code = Outcome.MALFORMED, "not_streamed"

    async def _error(self, response: aiohttp.ClientResponse, record: Record) -> None:
        if response.status < 400:
            record.outcome, record.code = Outcome.MALFORMED, f"status_{response.status}"
            return
        record.outcome = of_status(response.status, "")
        body = b""
        while len(body) < _ERROR_BODY and (data := await response.content.readany()):
            body += data
        said = failure_of(body)
        record.outcome = of_status(response.status, said.code, said.type)
        record.code = said.code or said.type


def session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """Connections to an endpoint, without any limit, waits or cookies of their own."""
    # True is the library's own verification; False is none.
    verify: ssl.SSLContext | bool = endpoint.verify_tls
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=verify, keepalive_timeout=_KEEP_ALIVE),
        headers={"accept-encoding": "identity", **endpoint.headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
    )


async def _linger(response: aiohttp.ClientResponse, deadline: Deadline) -> None:
    """Read the end of the body, so that the connection can be used again."""
    if not response.content.at_eof():
        deadline.phase(time.monotonic() + _LINGER, Outcome.CANCELLED)
        while await response.content.readany():
            pass


def _broken(error: Exception, record: Record) -> tuple[Outcome, str]:
    """What it is called when the connection fails, and the code."""
    if record.status >= 400:
        return record.outcome, record.code
    if record.status == 200:
        return Outcome.TRUNCATED, "cut"
    if isinstance(error, aiohttp.ClientResponseError):
        return Outcome.MALFORMED, "not_http"
    return Outcome.CONNECT, broken_code(error)


def broken_code(error: Exception) -> str:
    """What happened to a connection, in a word: the system's own where it has one."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls"
    number = getattr(error, "errno", None) or 0
    if number in errno.errorcode:
        return errno.errorcode[number].lower()
    return "closed" if isinstance(error, aiohttp.ServerDisconnectedError) else "connection"
