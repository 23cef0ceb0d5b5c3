"""The gateway: an ASGI application, and where its parts are put together."""

import asyncio
import json
import logging
import time
from dataclasses import replace

from service.gateway import errors, policy
from service.gateway.admission import Admission
from service.gateway.auth import Authenticator
from service.gateway.caps import Caps, scopes_of
from service.gateway.client import (
    ClientGone,
    ClientStalled,
    Message,
    Receive,
    Send,
    UntilGone,
    read_body,
)
from service.gateway.conversation import conversation
from service.gateway.destination import Destination, destination, visible
from service.gateway.dispatch import Dispatch, Job
from service.gateway.drain import Drain
from service.gateway.errors import APIError
from service.gateway.exchange import Exchange
from service.gateway.recorder import Recorder
from service.gateway.routes import INFERENCE, MODELS, QUOTA, Route
from service.routing.pool import Pool
from service.routing.upstreams import Upstreams
from service.settings import GatewaySettings
from service.telemetry.metrics import Metrics
from service.tenants.principal import Principal

log = logging.getLogger(__name__)


class Gateway:
    """Answers one request at a time per call; everything it needs is handed in."""

    def __init__(
        self,
        settings: GatewaySettings,
        authenticator: Authenticator,
        admission: Admission,
        upstreams: Upstreams,
        dispatch: Dispatch,
        metrics: Metrics,
        recorder: Recorder,
        drain: Drain,
        most_open: int,
    ) -> None:
        self._settings = settings
        self._bounds = policy.Bounds(settings.max_choices, settings.max_json_depth)
        self._authenticator = authenticator
        self._admission = admission
        self._upstreams = upstreams
        self._dispatch = dispatch
        self._metrics = metrics
        self._recorder = recorder
        self._drain = drain
        self._most_open = most_open
        self._started = int(time.time())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. No exception comes out of here."""
        exchange = Exchange(
            scope,
            self._settings.client_patience,
            self._recorder.sampling,
            self._metrics.streams_open.inc,
        )
        with self._drain:
            try:
                await self._answer(scope, receive, exchange)
            except APIError as error:
                await exchange.fail(error)
            except ClientGone:
                exchange.outcome = "client_gone"
            except ClientStalled:
                exchange.outcome = "client_stalled"
                await exchange.abort()
            except asyncio.CancelledError:
                # The drain time is over. Not raised again: this is the whole of the request's task,
                # and it ends here.
                await exchange.fail(errors.drained())
            except Exception:
                log.exception("request failed", extra={"request_id": exchange.id})
                await exchange.fail(errors.internal())
            finally:
                exchange.settle()
                self._recorder.record(exchange)

    async def _answer(self, scope: Message, receive: Receive, exchange: Exchange) -> None:
        method, path = scope["method"], scope["path"]
        if any(name == b"upgrade" for name, _ in scope["headers"]):
            raise errors.no_upgrade()
        if path == MODELS or path.startswith(MODELS + "/"):
            await self._answer_models(method, path, scope, exchange)
        elif path == QUOTA:
            await self._answer_quota(method, scope, exchange)
        elif path in INFERENCE:
            await self._answer_inference(INFERENCE[path], scope, receive, exchange)
        else:
            raise errors.no_such_route(method, path)

    async def _answer_inference(
        self, route: Route, scope: Message, receive: Receive, exchange: Exchange
    ) -> None:
        exchange.route, exchange.inference = route.name, True
        if scope["method"] != "POST":
            raise errors.wrong_method(scope["method"], route.path, "POST")
        if self._drain.draining:
            raise errors.draining()
        if self._drain.open > self._most_open:
            raise errors.gateway_full(self._most_open)
        principal = exchange.principal = await self._authenticator.authenticate(scope["headers"])
        with exchange.timing.read():
            body = await read_body(
                exchange.client,
                receive,
                scope["headers"],
                limit=self._settings.max_body_bytes,
                seconds=self._settings.body_timeout,
            )
        with UntilGone(exchange.client, lambda: exchange.answered):
            job = await self._admit(route, body, principal, exchange)
            del body  # the engine's is made of it: a long prompt is kept once while it is answered
            await self._dispatch.run(job)

    async def _admit(
        self, route: Route, body: bytes, principal: Principal, exchange: Exchange
    ) -> Job:
        """Decide what goes where, and reserve what it may use."""
        models: list[str] = []
        try:
            asked, fields = policy.read(route, body, self._bounds)
            exchange.asked_stream = asked.stream
            key = conversation(principal.team.name, fields)
            place = self._destination(principal, asked.model, key)
            if place.reason:
                exchange.asked_model = asked.model
                asked = replace(asked, model=place.model)
            models.append(asked.model)
            exchange.model = asked.model
            scopes = scopes_of(principal, asked.model)
            caps, prompt = Caps.of(principal, scopes), self._admission.prompt(principal, asked)
            request = policy.compose(asked, fields, caps, prompt, place.pool.model)
        except APIError:
            exchange.headers = await self._admission.headers(principal, models)
            raise
        tab = await self._admission.admit(exchange.id, principal, asked, scopes, caps, prompt)
        exchange.admitted(tab)
        if place.reason:
            labels = (exchange.asked_model, place.model, place.reason)
            self._metrics.fallbacks.labels(*labels).inc()
        exchange.headers = [*tab.headers, *place.headers]
        work = asked.work(prompt, principal.team.default_output)
        return Job(request, place.pool, key, work, exchange, tab)

    def _destination(self, principal: Principal, model: str, key: int | None) -> Destination:
        team = principal.team

        def is_full(pool: Pool) -> bool:
            return pool.turnstile.would_refuse(team.name, team.tier)

        return destination(self._upstreams.catalog, principal, model, key, is_full)

    async def _answer_quota(self, method: str, scope: Message, exchange: Exchange) -> None:
        exchange.route = "quota"
        if method != "GET":
            raise errors.wrong_method(method, QUOTA, "GET")
        principal = exchange.principal = await self._authenticator.authenticate(scope["headers"])
        names = visible(self._upstreams.catalog, principal)
        document = await self._admission.quota(principal, names)
        await exchange.answer(200, json.dumps(document).encode())

    async def _answer_models(
        self, method: str, path: str, scope: Message, exchange: Exchange
    ) -> None:
        """Answered here: an engine knows only its own model, and would tell where it lies."""
        exchange.route = "models"
        if method != "GET":
            raise errors.wrong_method(method, path, "GET")
        principal = exchange.principal = await self._authenticator.authenticate(scope["headers"])
        names = visible(self._upstreams.catalog, principal)
        known = {name: self._model_card(name) for name in names}
        if path == MODELS:
            document: dict[str, object] = {"object": "list", "data": list(known.values())}
        else:
            name = path.removeprefix(MODELS + "/")
            if name not in known:
                raise errors.unknown_model(name, list(known))
            document = known[name]
        await exchange.answer(200, json.dumps(document).encode())

    def _model_card(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "openai"}
