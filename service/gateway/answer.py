"""An engine's answer on its way to the client.

What comes of a stream is passed on within the call that reads it from the socket, as long as the
client reads. Only where it has to wait for a client that is slow it is put down for the request's
task, and nothing more is read from the engine until that has passed it on.
"""

import asyncio
import json
from collections.abc import Callable

from service.gateway import errors
from service.gateway.connection import Broken, Connection
from service.gateway.errors import APIError
from service.gateway.events import EventStream
from service.gateway.exchange import Exchange
from service.gateway.failure import EngineFailed, Fault
from service.gateway.opening import Opening
from service.gateway.patience import Patience
from service.gateway.policy import Request
from service.gateway.tab import Tab

_DATA = b"data: "
_COMMENT, _DATA_LINE = b":", b"\ndata:"
# Statuses of the engine that are about the request, hence the client's to mend.
_CLIENT_ERRORS = (400, 413, 422)
# Most of an answer in one piece: above any context with all its log probabilities, and above what
# there is to say of an error.
_WHOLE_BYTES = 512 << 20
_ERROR_BYTES = 1 << 20


class Answer:
    """Reads one answer and relays it through `exchange`; `tab` reads what it used.

    `patience` is renewed by all that shows the engine at work, and `started` called once it has
    begun to answer.
    """

    def __init__(
        self,
        request: Request,
        exchange: Exchange,
        tab: Tab,
        patience: Patience,
        started: Callable[[], None],
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._meter = tab.meter
        self._patience = patience
        self._started = started
        self._opening = Opening(request, tab.meter)
        self._connection: Connection | None = None
        self._status = 0
        self._events: EventStream | None = None
        self._body: list[bytes] = []
        self._size = 0
        # For the task: what to pass on, in order; whether that was all, and what was wrong.
        self._put_down: list[tuple[bytes, bool]] = []
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def relay(self, connection: Connection, head: bytes) -> None:
        """Send the request, and see the answer through until the client has been sent all of it.

        Raises `EngineFailed`, `APIError` for what is the client's to mend, and `ClientStalled`.
        """
        self._connection = connection
        connection.ask(head, self._request.body, self)
        while self._put_down or not self._is_over:
            if self._put_down:
                await self._pick_up(connection)
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds on to this frame
        if self._events is not None:
            # What goes wrong from here on is no business of a client that has all of its answer.
            await self._exchange.finish()
        else:
            await self._answer_whole()

    # What the connection calls.

    def begun(self, status: int, media_type: bytes) -> None:
        """The head has come."""
        self._status = status
        if status != 200:
            self._meter.worked = False
        elif media_type == b"text/event-stream":
            self._events = EventStream(self._exchange.dialect)
        elif media_type != b"application/json":
            error = errors.engine_failed(self._request.model, status)
            self._stop(EngineFailed(Fault.FAILED, error))

    def received(self, data: bytes) -> None:
        """What came of the body in one read."""
        if self._is_over:
            return
        if self._events is None:
            self._keep(data)
            return
        try:
            self._relay(self._events, data)
        except Exception as error:  # for the task to raise: here nobody would hear of it
            self._stop(error)

    def ended(self) -> None:
        """All of the body has come."""
        if not self._is_over:
            is_cut = self._events is not None
            self._stop(self._cut("its stream ended without its last event") if is_cut else None)

    def failed(self, broken: Broken) -> None:
        """The rest will not come."""
        if not self._is_over:
            self._stop(self._cut(str(broken)))

    def _keep(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)
        if self._size > (_WHOLE_BYTES if self._status == 200 else _ERROR_BYTES):
            self._body = []
            error = errors.engine_failed(self._request.model, self._status)
            self._stop(EngineFailed(Fault.FAILED, error))
            if self._connection is not None:
                self._connection.pause()  # until it is closed

    def _relay(self, events: EventStream, data: bytes) -> None:
        whole = events.feed(data)
        if not whole:
            return
        if whole.startswith(_COMMENT) and _DATA_LINE not in whole:
            # The engine's way to say that the request waits; it is no sign that it works on it.
            self._pass_on(whole, is_comment=True)
            return
        meter = self._meter
        shown = meter.feed(whole)
        if meter.failed:
            raise _refusal(self._request.model, *_error_in(whole))
        opening = self._opening
        if not opening.is_over:
            shown = opening.feed(shown, events.complete)
            if not opening.is_over:
                return
            if opening.is_empty:
                raise self._ending()
            self._started()
        self._patience.renew()
        if events.complete:
            self._exchange.settle()
            self._stop(None)
        if shown:
            self._pass_on(shown)

    def _pass_on(self, events: bytes, is_comment: bool = False) -> None:
        """Now, if nothing waits already and this does not have to."""
        if not self._put_down and self._exchange.push(events, is_comment):
            return
        self._put_down.append((events, is_comment))
        if self._connection is not None:
            self._connection.pause()
        self._wake()

    async def _pick_up(self, connection: Connection) -> None:
        """Pass on what was put down, however long the client takes to read."""
        events, is_comment = self._put_down[0]
        await self._exchange.write(events, is_comment)
        if not is_comment:
            self._patience.renew()  # the silence was the client's
        del self._put_down[0]
        if not self._put_down:
            connection.resume()

    async def _answer_whole(self) -> None:
        body = b"".join(self._body)
        if self._status != 200:
            raise _refusal(self._request.model, self._status, body)
        self._meter.answer(body)
        if self._meter.is_empty and not self._request.may_be_empty:
            raise self._ending()
        self._started()
        self._exchange.settle()
        self._patience.renew()  # from here on it is the client's turn
        await self._exchange.answer(200, body)

    def _stop(self, error: Exception | None) -> None:
        self._is_over, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cut(self, reason: str) -> EngineFailed:
        return EngineFailed(Fault.CUT, errors.engine_cut(self._request.model), reason)

    def _ending(self) -> EngineFailed:
        return EngineFailed(Fault.ENDING, errors.engine_unreachable(self._request.model))


def _error_in(events: bytes) -> tuple[int, bytes]:
    """The error event among events, as the status and the body that it could have been."""
    data = next(
        (line for line in events.split(b"\n") if line.startswith(_DATA) and b'"error"' in line), b""
    ).removeprefix(_DATA)
    try:
        code = json.loads(data)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        code = None
    return code if isinstance(code, int) else 500, data


def _refusal(model: str, status: int, body: bytes) -> APIError | EngineFailed:
    """An engine's error answer, in our words where it is not the client's to mend."""
    if status == 503:
        return EngineFailed(Fault.FULL, errors.engine_overloaded(model))
    if status not in _CLIENT_ERRORS:
        return EngineFailed(Fault.FAILED, errors.engine_failed(model, status))
    message, param = _complaint(body)
    code = "context_length_exceeded" if "maximum context length" in message else None
    return APIError(status, message, param=param, code=code)


def _complaint(body: bytes) -> tuple[str, str | None]:
    try:
        error = json.loads(body)["error"]
        param = error.get("param")
        return str(error["message"]), param if isinstance(param, str) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "The engine refused the request without a reason that can be read.", None
