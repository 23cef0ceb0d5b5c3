"""A request's way to an engine.

Nothing of the client's headers goes to the engine but its trace, taken apart and put together anew:
vLLM obeys several (`X-Vllm-Priority`, `X-Request-Id`, ...) that are not a tenant's to set. Of the
engine's headers only the content type decides anything here.
"""

from collections.abc import Callable

from service.gateway import errors
from service.gateway.answer import Answer
from service.gateway.connections import Connections
from service.gateway.dialer import Unreachable
from service.gateway.exchange import Exchange
from service.gateway.failure import EngineFailed, Fault
from service.gateway.patience import Patience
from service.gateway.policy import Request
from service.gateway.tab import Tab
from service.settings import GatewaySettings


class Proxy:
    """Sends requests to engines and relays what they answer."""

    def __init__(self, connections: Connections, settings: GatewaySettings) -> None:
        self._connections = connections
        self._settings = settings
        self._headers = b"content-type: application/json\r\n"
        if secret := settings.engine_key.get_secret_value():
            self._headers += b"authorization: Bearer %b\r\n" % secret.encode()

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
        lease = self._connections.to(url)
        head = self._head(request, lease.authority, exchange)
        try:
            async with patience, lease as connection:
                await Answer(request, exchange, tab, patience, begun).relay(connection, head)
        except Unreachable as unreachable:
            tab.meter.worked = False
            raise EngineFailed(
                Fault.UNREACHABLE, errors.engine_unreachable(model), str(unreachable)
            ) from None
        except TimeoutError:
            raise EngineFailed(
                Fault.SILENT, errors.engine_silent(model, patience.seconds)
            ) from None

    def _head(self, request: Request, authority: bytes, exchange: Exchange) -> bytes:
        more = exchange.trace.headers(len(exchange.attempts) + 1)
        if request.priority:
            # vLLM's own header: it counts on all routes, while only some have the body field.
            more["x-vllm-priority"] = str(request.priority)
        return (
            b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n"
            % (
                request.route.path.encode(),
                authority,
                self._headers,
                len(request.body),
                exchange.id.encode(),
                "".join(f"{name}: {value}\r\n" for name, value in more.items()).encode(),
            )
        )
