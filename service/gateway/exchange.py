"""One request's answer: what was sent of it, and how it ended."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable

from service.gateway.client import (
    CONNECTION,
    ClientConnection,
    ClientStalled,
    Headers,
    Message,
    Send,
)
from service.gateway.errors import APIError
from service.gateway.routes import dialect_of
from service.gateway.tab import Bill, Tab
from service.gateway.timing import Timing
from service.telemetry.contract import NONE
from service.telemetry.facts import Attempt
from service.telemetry.trace import Sampling, Trace
from service.tenants.principal import Principal

_JSON = (b"content-type", b"application/json")
_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy in front that buffers would undo the streaming
)

# For a last error to a client that may not be reading any more.
_LAST_WORDS_SECONDS = 1.0


class Exchange:
    """The answer to one request, in the client's dialect. It takes its client out of `scope`.

    `patience` is how long one write may wait for a client that does not read, s. `streams` is
    called once a stream begins.

    What is known of the request by the end (`route`, `model`, `principal`, `outcome`) is what the
    metrics and the log line say of it. `headers` go with whatever answer is begun.
    """

    def __init__(
        self,
        scope: Message,
        send: Send,
        patience: float,
        sampling: Sampling,
        streams: Callable[[], None],
    ) -> None:
        self._send = send
        self._patience = patience
        self._streams = streams
        # Taken out: the connection holds on to its last scope.
        self.client: ClientConnection = scope["extensions"].pop(CONNECTION)
        digits = secrets.token_hex(16)
        self.id = f"req_{digits}"
        self.trace = Trace.of(scope["headers"], digits, sampling)
        self.attempts: list[Attempt] = []
        """At engines, those that have ended."""
        self.dialect = dialect_of(scope["path"])
        self.timing = Timing()
        self.began_ns = time.time_ns()
        self.status = 0
        self.route = NONE
        self.inference = False
        """Whether it was for an engine."""
        self.model = NONE
        self.asked_model = ""
        """What it asked for, where its fallback answers."""
        self.asked_stream = False
        self.replica: str | None = None
        self.principal: Principal | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.streaming = False
        self.begun = False
        """Whether the client was sent a part of an answer: then nobody else can give another."""
        self.answered = False
        """Whether it was sent all of it."""
        self._tab: Tab | None = None
        self.outcome = "ok"

    @property
    def bill(self) -> Bill | None:
        """What it was charged; None before, and for one that was not admitted."""
        return self._tab.bill if self._tab is not None else None

    def admitted(self, tab: Tab) -> None:
        """From here on the request has to be settled, however it ends."""
        self._tab = tab
        self.headers = tab.headers

    def settle(self) -> None:
        """Settle what was admitted, by how it ended. Never waits; repeating it does nothing."""
        if self._tab is not None:
            self._tab.close(self.outcome)

    async def answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a whole JSON answer."""
        self.begun = True
        length = (b"content-length", str(len(body)).encode())
        if self.inference and not headers and not self.client.is_full:
            self.status, self.answered = status, True
            self.client.respond(status, [self._id, *self.headers, _JSON, length], body)
            return
        async with self._until_read():
            await self._start(status, (_JSON, length, *headers))
            await self._body(body, more=False)

    def push(self, events: bytes, is_comment: bool) -> bool:
        """Pass whole events of a stream on at once. False, and nothing is done, where that would
        have to wait."""
        if self.client.is_full:
            return False
        if not self.streaming:
            self._note_stream()
            self.status = 200
            self.client.respond(200, [self._id, *self.headers, *_STREAM], None)
        if not is_comment:
            self.begun = True
            self.timing.piece()
        self.client.write(events)
        return True

    async def write(self, events: bytes) -> None:
        """Pass events of a stream on. Waits while the client reads more slowly than they come.

        Raises `ClientStalled` when it reads nothing at all for too long.
        """
        self.begun = True
        self.timing.piece()
        await self._pass_on(events)

    async def comment(self, comments: bytes) -> None:
        """Pass on what keeps a stream alive and is no part of an answer. Waits and raises alike."""
        await self._pass_on(comments)

    async def _pass_on(self, events: bytes, *, more: bool = True) -> None:
        if not self.client.is_full:  # then it does not wait, and most chunks need no time limit
            await self._send_on(events, more=more)
            return
        async with self._until_read():
            await self._send_on(events, more=more)

    async def _send_on(self, events: bytes, *, more: bool) -> None:
        if not self.streaming:
            await self._begin_stream()
        await self._body(events, more=more)

    @contextlib.asynccontextmanager
    async def _until_read(self) -> AsyncIterator[None]:
        """A block that the client must not hold up for too long. Raises `ClientStalled`."""
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():  # another's limit, which only came by
                raise
            raise ClientStalled from None

    async def finish(self) -> None:
        """End a stream. Waits and raises as `write` does."""
        self.begun = True
        await self._pass_on(b"", more=False)

    async def fail(self, error: APIError) -> None:
        """Say what went wrong: as a status while that is possible, else as the last event. Of an
        answer that is complete already nothing is wrong."""
        if self.answered:
            return
        self.outcome = error.code or error.type
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                if self.streaming:
                    await self._body(error.event(self.dialect), more=True)
                    await self._body(b"", more=False)
                elif not self.status:
                    headers = [(k.encode(), v.encode()) for k, v in error.headers.items()]
                    await self.answer(error.status, error.body(self.dialect), headers)
        except (TimeoutError, ClientStalled):
            await self.abort()

    async def abort(self) -> None:
        """Close the connection: this client cannot be told anything."""
        self.client.abort()
        await asyncio.sleep(0)  # for the server to notice, which would complain of half an answer

    @property
    def _id(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self.id.encode()

    def _note_stream(self) -> None:
        self.streaming = True
        self._streams()

    async def _begin_stream(self) -> None:
        self._note_stream()
        await self._start(200, _STREAM)

    async def _body(self, body: bytes, *, more: bool) -> None:
        self.answered = not more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _start(self, status: int, headers: Headers) -> None:
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [self._id, *self.headers, *headers],
            }
        )
