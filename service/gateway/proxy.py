"""A request's way to an engine and the answer's way back.

Nothing of the client's headers goes to the engine but its trace, taken apart and put together anew:
vLLM obeys several (`X-Vllm-Priority`, `X-Request-Id`, ...) that are not a tenant's to set. Of the
engine's headers only the content type decides anything here.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    TCPConnector,
)

from service.gateway import errors
from service.gateway.errors import APIError
from service.gateway.events import EventStream, is_comment
from service.gateway.exchange import Exchange
from service.gateway.failure import EngineFailed, Fault
from service.gateway.opening import Opening
from service.gateway.patience import Patience
from service.gateway.policy import Request
from service.gateway.tab import Tab
from service.settings import GatewaySettings

# Shorter than the 5 s after which vLLM closes an idle connection by default: a request that meets
# its closing would be lost.
_KEEP_ALIVE_SECONDS = 4.0
_READ_OFF_SECONDS = 1.0
_DATA = b"data: "
# Statuses of the engine that are about the request, hence the client's to mend.
_CLIENT_ERRORS = (400, 413, 422)


def open_session() -> ClientSession:
    """The connections to all engines. Their number is bounded by admission, not here."""
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        trust_env=False,
    )


class Proxy:
    """Sends requests to engines and relays what they answer."""

    def __init__(self, session: ClientSession, settings: GatewaySettings) -> None:
        self._session = session
        self._settings = settings
        self._headers = {"content-type": "application/json"}
        if secret := settings.engine_key.get_secret_value():
            self._headers["authorization"] = f"Bearer {secret}"

    async def attempt(
        self,
        request: Request,
        url: str,
        exchange: Exchange,
        tab: Tab,
        begun: Callable[[], None],
    ) -> None:
        """Have the engine at `url` answer `request`, through `exchange`; `tab` reads what it used.

        `begun` is called once it has begun to answer. Raises `EngineFailed` for an engine that
        cannot be reached, refuses, fails, falls silent or ends early, also when part of the answer
        was already passed on, and `APIError` for what is the client's to mend. However this ends,
        cancellation included, the engine's connection is closed or back in the pool: that is what
        makes vLLM abort a request nobody waits for.
        """
        model, limits = request.model, self._settings
        # For all of an answer, or for the beginning of a stream, which a hanging engine may keep
        # from beginning by not even reading the request.
        first = limits.first_event_timeout if request.stream else limits.response_timeout
        tab.meter.worked = True  # until the contrary is known
        patience = Patience(first, limits.idle_timeout)
        try:
            async with patience, self._post(request, url, exchange) as response:
                await _pass_on(request, response, exchange, tab, patience, begun)
        except (ClientConnectorError, ConnectionTimeoutError):
            tab.meter.worked = False
            raise EngineFailed(Fault.UNREACHABLE, errors.engine_unreachable(model)) from None
        except TimeoutError:
            raise EngineFailed(
                Fault.SILENT, errors.engine_silent(model, patience.seconds)
            ) from None
        except (ClientError, ConnectionError):
            raise EngineFailed(Fault.CUT, errors.engine_cut(model)) from None

    def _post(self, request: Request, url: str, exchange: Exchange) -> Any:
        trace = exchange.trace.headers(len(exchange.attempts) + 1)
        headers = self._headers | {"x-request-id": exchange.id} | trace
        if request.priority:
            # vLLM's own header: it counts on all routes, while only some have the body field.
            headers["x-vllm-priority"] = str(request.priority)
        return self._session.post(
            url + request.route.path,
            data=request.body,
            headers=headers,
            timeout=ClientTimeout(sock_connect=self._settings.connect_timeout),
            allow_redirects=False,
        )


async def _pass_on(
    request: Request,
    response: ClientResponse,
    exchange: Exchange,
    tab: Tab,
    patience: Patience,
    begun: Callable[[], None],
) -> None:
    if response.status != 200:
        tab.meter.worked = False
        raise _refusal(request.model, response.status, await response.read())
    match response.content_type:
        case "text/event-stream":
            await _pass_events(request, response, exchange, tab, patience, begun)
        case "application/json":
            body = await response.read()
            tab.meter.answer(body)
            if tab.meter.is_empty and not request.may_be_empty:
                raise _ending(request.model)
            begun()
            exchange.settle()
            await exchange.answer(200, body)
        case _:
            error = errors.engine_failed(request.model, response.status)
            raise EngineFailed(Fault.FAILED, error)


async def _pass_events(
    request: Request,
    response: ClientResponse,
    exchange: Exchange,
    tab: Tab,
    patience: Patience,
    begun: Callable[[], None],
) -> None:
    events, meter = EventStream(exchange.dialect), tab.meter
    opening = Opening(request, meter)
    async for data in response.content.iter_any():
        whole = events.feed(data)
        if not whole:
            continue
        if is_comment(whole):
            # The engine's way to say that the request waits; it is no sign that it works on it.
            await exchange.comment(whole)
            continue
        shown = meter.feed(whole)
        if meter.failed:
            raise _refusal(request.model, *_error_in(whole))
        if not opening.is_over:
            shown = opening.feed(shown, events.complete)
            if not opening.is_over:
                continue
            if opening.is_empty:
                raise _ending(request.model)
            begun()
        patience.renew()
        if events.complete:
            exchange.settle()
        if shown or events.complete:
            await exchange.write(shown)
        if events.complete:
            # What goes wrong from here on is no business of a client that has all of its answer.
            await exchange.finish()
            await _read_off(response)
            return
    raise EngineFailed(Fault.CUT, errors.engine_cut(request.model))


def _ending(model: str) -> EngineFailed:
    return EngineFailed(Fault.ENDING, errors.engine_unreachable(model))


async def _read_off(response: ClientResponse) -> None:
    """Read what is left, which should be the end, so that the connection can be used again."""
    with contextlib.suppress(ClientError, TimeoutError):
        async with asyncio.timeout(_READ_OFF_SECONDS):
            await response.read()


def _error_in(events: bytes) -> tuple[int, bytes]:
    """The error event among events, as the status and the body that it could have been."""
    data = next(
        (line for line in events.split(b"\n") if line.startswith(_DATA) and b'"error"' in line), b""
    ).removeprefix(_DATA)
    try:
        code = json.loads(data)["error"]["code"]
    except (ValueError, KeyError, TypeError):
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
    except (ValueError, KeyError, TypeError, AttributeError):
        return "The engine refused the request without a reason that can be read.", None
