"""A request's way to an engine and the answer's way back.

Nothing of the client's headers goes to the engine: vLLM obeys several (`X-Vllm-Priority`,
`X-Request-Id`, ...) that are not a tenant's to set. Of the engine's headers only the content type
decides anything here.
"""

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    ServerTimeoutError,
    TCPConnector,
)

from service.gateway import errors
from service.gateway.errors import APIError
from service.gateway.events import EventStream
from service.gateway.exchange import Exchange
from service.gateway.policy import Request
from service.gateway.tab import Tab
from service.gateway.upstreams import Upstream
from service.settings import GatewaySettings

# Shorter than the 5 s after which vLLM closes an idle connection by default: a request that meets
# its closing would be lost.
_KEEP_ALIVE_SECONDS = 4.0
_READ_OFF_SECONDS = 1.0
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

    async def relay(
        self, request: Request, upstream: Upstream, exchange: Exchange, tab: Tab
    ) -> None:
        """Have `upstream` answer `request`, through `exchange`; `tab` reads what it used.

        Raises `APIError` for an engine that cannot be reached, refuses, fails, falls silent or ends
        early, also when part of the answer was already passed on. However this ends, cancellation
        included, the engine's connection is closed or back in the pool: that is what makes vLLM
        abort a request nobody waits for.
        """
        model, limits = request.model, self._settings
        # For all of an answer, or for the beginning of a stream, which a hanging engine may keep
        # from beginning by not even reading the request.
        deadline = limits.idle_timeout if request.stream else limits.response_timeout
        try:
            with upstream.request():
                tab.meter.worked = True  # until the contrary is known
                async with (
                    asyncio.timeout(deadline) as timer,
                    self._post(request, upstream, exchange) as response,
                ):
                    if request.stream:
                        timer.reschedule(None)  # from here the idle timeout watches
                    await _pass_on(request, response, exchange, tab)
        except (ClientConnectorError, ConnectionTimeoutError):
            tab.meter.worked = False
            raise errors.engine_unreachable(model) from None
        except ServerTimeoutError:
            raise errors.engine_silent(model, limits.idle_timeout) from None
        except TimeoutError:
            raise errors.engine_silent(model, deadline) from None
        except (ClientError, ConnectionError):
            raise errors.engine_cut(model) from None

    def _post(self, request: Request, upstream: Upstream, exchange: Exchange) -> Any:
        idle = self._settings.idle_timeout if request.stream else None
        headers = self._headers | {"x-request-id": exchange.id}
        if request.priority:
            # vLLM's own header: it counts on all routes, while only some have the body field.
            headers["x-vllm-priority"] = str(request.priority)
        return self._session.post(
            upstream.url + request.route.path,
            data=request.body,
            headers=headers,
            timeout=ClientTimeout(sock_connect=self._settings.connect_timeout, sock_read=idle),
            allow_redirects=False,
        )


async def _pass_on(
    request: Request, response: ClientResponse, exchange: Exchange, tab: Tab
) -> None:
    if response.status != 200:
        tab.meter.worked = False
        raise _refusal(request.model, response.status, await response.read())
    match response.content_type:
        case "text/event-stream":
            await _pass_events(request, response, exchange, tab)
        case "application/json":
            body = await response.read()
            tab.meter.answer(body)
            exchange.settle()
            await exchange.answer(200, body)
        case _:
            raise errors.engine_failed(request.model, response.status)


async def _pass_events(
    request: Request, response: ClientResponse, exchange: Exchange, tab: Tab
) -> None:
    events, meter = EventStream(exchange.dialect), tab.meter
    await exchange.stream()
    async for data in response.content.iter_any():
        whole = events.feed(data)
        shown = meter.feed(whole) if whole else b""
        if events.complete:
            if meter.failed:
                exchange.outcome = "engine_error"
            exchange.settle()
        if shown:
            await exchange.write(shown)
        if events.complete:
            # What goes wrong from here on is no business of a client that has all of its answer.
            await exchange.finish()
            await _read_off(response)
            return
    raise errors.engine_cut(request.model)


async def _read_off(response: ClientResponse) -> None:
    """Read what is left, which should be the end, so that the connection can be used again."""
    with contextlib.suppress(ClientError, TimeoutError):
        async with asyncio.timeout(_READ_OFF_SECONDS):
            await response.read()


def _refusal(model: str, status: int, body: bytes) -> APIError:
    """An engine's error answer, in our words where it is not the client's to mend."""
    if status == 503:
        return errors.engine_overloaded(model)
    if status not in _CLIENT_ERRORS:
        return errors.engine_failed(model, status)
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
