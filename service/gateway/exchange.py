"""One request's answer: what was sent of it, and how it ended."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from service.gateway.client import CONNECTION, ClientConnection, ClientStalled, Headers, Message
from service.gateway.errors import APIError
from service.gateway.routes import dialect_of
from service.gateway.tab import Bill, Tab
from service.gateway.timing import Timing
from service.telemetry.contract import NONE
from service.telemetry.facts import Attempt
from service.telemetry.trace import Sampling, Trace
from service.tenants.principal import Principal

log = logging.getLogger(__name__)

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

    `patience` is how long one piece may wait for a client that does not read, s. `streams` is
    called once a stream begins.

    What is known of the request by the end (`route`, `model`, `principal`, `outcome`) is what the
    metrics and the log line say of it. `headers` go with whatever answer is begun.
    """

    def __init__(
        self,
        scope: Message,
        patience: float,
        sampling: Sampling,
        streams: Callable[[], None],
    ) -> None:
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
        """Settle what was admitted, by how it ended. Never waits; repeating it does nothing.

        Never raises: accounting breaks no answer. What fails here is charged once its lease is out.
        """
        try:
            if self._tab is not None:
                self._tab.close(self.outcome)
        except Exception:
            log.exception("a request was not settled", extra={"request_id": self.id})

    async def answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a whole JSON answer. Waits and raises as `write` does."""
        self.begun = True
        await self._until_read()
        self.status, self.answered = status, True
        length = (b"content-length", str(len(body)).encode())
        self.client.respond(status, [self._id, *self.headers, _JSON, length, *headers], body)

    def push(self, events: bytes, is_comment: bool) -> bool:
        """Pass whole events of a stream on at once; comments keep it alive, and are no part of an
        answer. False, and nothing is done, where that would have to wait."""
        if self.client.is_full:
            return False
        self._pass_on(events, is_comment)
        return True

    async def write(self, events: bytes, is_comment: bool = False) -> None:
        """Pass them on once the client reads.

        Raises `ClientStalled` when it reads nothing at all for too long.
        """
        await self._until_read()
        self._pass_on(events, is_comment)

    async def finish(self) -> None:
        """End a stream. Waits and raises as `write` does."""
        self.begun = True
        await self._until_read()
        if not self.streaming:
            self._begin_stream()
        self.answered = True
        self.client.end()

    def _pass_on(self, events: bytes, is_comment: bool) -> None:
        if not self.streaming:
            self._begin_stream()
        if not is_comment:
            self.begun = True
            self.timing.piece()
        self.client.write(events)

    def _begin_stream(self) -> None:
        self.streaming, self.status = True, 200
        self._streams()
        self.client.respond(200, [self._id, *self.headers, *_STREAM], None)

    async def _until_read(self) -> None:
        """Wait while the client reads more slowly than its answer comes."""
        if not self.client.is_full:  # as nearly always, and then there is no need for a time limit
            return
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                await self.client.drained()
        except TimeoutError:
            if not limit.expired():  # another's limit, which only came by
                raise
            raise ClientStalled from None

    async def fail(self, error: APIError) -> None:
        """Say what went wrong: as a status while that is possible, else as the last event. Of an
        answer that is complete already nothing is wrong."""
        if self.answered:
            return
        self.outcome = error.code or error.type
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                if self.streaming:
                    await self._until_read()
                    self.client.write(error.event(self.dialect))
                    await self.finish()
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
