"""What operators ask the gateway, on a port of its own: probes, metrics, and its upstreams."""

import json
from collections.abc import Callable

from service.gateway.client import Message, Receive, Send
from service.gateway.drain import Drain
from service.routing.picture import picture
from service.routing.upstreams import Upstreams
from service.telemetry.metrics import Metrics
from service.telemetry.page import page

_TEXT = "text/plain; charset=utf-8"


class Ops:
    """The ASGI application of the operators' port.

    `stale` says what is wrong with the snapshot of teams and keys, if anything is. A gateway that
    `holds` requests until there is an engine is ready without one: they are what makes it come.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        metrics: Metrics,
        drain: Drain,
        stale: Callable[[], str | None],
        *,
        holds: bool = False,
    ) -> None:
        self._upstreams = upstreams
        self._metrics = metrics
        self._drain = drain
        self._stale = stale
        self._holds = holds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one probe or scrape."""
        match scope["path"] if scope["method"] in ("GET", "HEAD") else None:
            case "/livez":
                await _answer(send, 200, b"ok\n")
            case "/readyz":
                reason = self.unready()
                await _answer(send, 503 if reason else 200, (reason or "ready").encode() + b"\n")
            case "/upstreams":
                body = json.dumps(picture(self._upstreams)).encode()
                await _answer(send, 200, body, "application/json")
            case "/metrics":
                # Prometheus asks for OpenMetrics, which has the examples (trace ids) as well.
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                body, content_type = await page(self._metrics.registry, accept)
                await _answer(send, 200, body, content_type)
            case _:
                there_is = "there is /livez, /readyz, /upstreams and /metrics"
                body = json.dumps({"error": there_is}).encode()
                await _answer(send, 404, body, "application/json")

    def unready(self) -> str | None:
        """Why it should get no requests; None where it should."""
        if self._drain.ending:
            return f"draining, {self._drain.open} requests open"
        if stale := self._stale():
            return stale
        models = self._upstreams.catalog.models
        if not models:
            return "no upstream is configured: set GPTOSS_GATEWAY__UPSTREAMS"
        # With one model served it can do some of its work: every gateway sees the same engines, and
        # turning all of them unready would take the healthy models down too.
        if not self._holds and not self._upstreams.ready:
            return f"no healthy engine of {', '.join(models)}"
        return None


async def _answer(send: Send, status: int, body: bytes, content_type: str = _TEXT) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
