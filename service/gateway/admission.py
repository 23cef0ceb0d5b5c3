"""Whether a request may go to an engine now, and what it cost in the end.

A request is admitted by one reservation on all of its limits, and every admitted request ends in
exactly one settlement and one line of the ledger, however it ended.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from service.gateway import ratelimit
from service.gateway.caps import Caps, scopes_of
from service.gateway.clerk import Clerk
from service.gateway.errors import APIError
from service.gateway.policy import Asked
from service.gateway.statement import statement
from service.gateway.tab import Bill, Tab
from service.ledger.record import Settlement
from service.quota.calendar import Calendar, Windows
from service.quota.decision import tightest
from service.quota.estimate import Estimator
from service.quota.guard import Guard, Refusing
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.settler import Settler
from service.quota.store import Store, StoreUnavailable
from service.telemetry.metrics import Children, Metrics
from service.tenants.principal import Principal

# An unbounded answer reserves at most this part of a limit: else a small one would never let
# anything through.
_SHARE = 4


class Admission:
    """Admits requests and settles them. `clock` is in epoch seconds."""

    def __init__(
        self,
        store: Store,
        settler: Settler,
        clerk: Clerk,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settler = settler
        self._clerk = clerk
        self._metrics = metrics
        self._admitted = Children(metrics.admitted)
        self._clock = clock
        self._calendar = Calendar()
        self._estimator = Estimator()

    def prompt(self, principal: Principal, asked: Asked) -> int:
        """The tokens of a request's prompt: counted where they are given, else estimated."""
        if asked.token_ids is not None:
            return asked.token_ids
        return self._estimator.prompt(_kind(principal, asked), asked.size)

    async def admit(
        self,
        id: str,
        principal: Principal,
        asked: Asked,
        scopes: tuple[Scope, ...],
        caps: Caps,
        prompt: int,
    ) -> Tab:
        """Reserve what a request may use. Raises `APIError` (429, or 503 without a store)."""
        now = self._clock()
        windows = self._calendar.at(now, principal.team.timezone)
        reservation = Reservation(
            id,
            principal.team.name,
            scopes,
            windows,
            prompt,
            _output(asked, principal, scopes, caps),
        )
        try:
            began = time.perf_counter()
            try:
                outcome = await self._store.reserve(reservation)
            finally:
                self._metrics.store_seconds.observe(time.perf_counter() - began)
        except asyncio.CancelledError:
            # The client left. The store may have granted it, or be about to.
            self._settler.put(Settled(reservation, tokens=0, requests=0))
            raise
        except (Refusing, StoreUnavailable):
            self._count_refusal(reservation.team, "store", "away")
            raise ratelimit.unavailable() from None
        for other in outcome.expired:
            self._clerk.expired(other)
        headers = self._headers(outcome, reservation, now)
        if not outcome.granted:
            raise self._refusal(reservation, outcome, asked.model, headers, now)
        self._settler.opened(reservation)
        self._admitted[self._metrics.teams.label(reservation.team),].inc()
        pace = partial(self._estimator.answer, asked.model)
        return Tab(principal, asked, reservation, headers, pace, self._settle)

    def _settle(self, bill: Bill) -> None:
        """Charge a request, and write it down. Never waits, never fails."""
        asked, usage = bill.tab.asked, bill.usage
        requests = 0 if bill.settlement is Settlement.REFUNDED else 1
        tokens = usage.prompt + usage.completion
        self._settler.put(Settled(bill.tab.reservation, tokens, requests))
        self._clerk.ended(bill)
        one = asked.prompts == asked.choices == 1
        if bill.settlement is Settlement.EXACT and one and usage.completion:
            kind = _kind(bill.tab.principal, asked)
            self._estimator.learn_prompt(kind, asked.size, usage.prompt)
            self._estimator.learn_answer(asked.model, bill.tab.seconds, usage.completion)

    async def headers(self, principal: Principal, models: list[str]) -> list[ratelimit.Header]:
        """What is left of the limits, for an answer to a request that was not admitted."""
        scopes = scopes_of(principal, *models)
        try:
            levels, windows, now = await self._levels(principal, scopes)
        except StoreUnavailable:
            return []
        found = ratelimit.headers(scopes, levels, windows, now)
        return [*found, ratelimit.DEGRADED] if self._degraded else found

    async def quota(self, principal: Principal, models: list[str]) -> dict[str, object]:
        """What `GET /v1/quota` says: limits, use and resets of the caller on `models`."""
        scopes = scopes_of(principal, *models)
        try:
            levels, windows, now = await self._levels(principal, scopes)
        except StoreUnavailable:
            raise ratelimit.unavailable() from None
        return statement(principal, scopes, levels, windows, now, degraded=self._degraded)

    @property
    def _degraded(self) -> bool:
        return isinstance(self._store, Guard) and self._store.degraded

    async def _levels(
        self, principal: Principal, scopes: tuple[Scope, ...]
    ) -> tuple[tuple[Level, ...], Windows, float]:
        now = self._clock()
        windows = self._calendar.at(now, principal.team.timezone)
        return await self._store.levels(principal.team.name, scopes, windows), windows, now

    def _headers(
        self, outcome: Outcome, reservation: Reservation, now: float
    ) -> list[ratelimit.Header]:
        decided = outcome.narrowed or reservation
        found = ratelimit.headers(decided.scopes, outcome.levels, reservation.windows, now)
        if outcome.narrowed:
            self._metrics.degraded_decisions.inc()
            found.append(ratelimit.DEGRADED)
        return found

    def _count_refusal(self, team: str, scope: str, limit: str) -> None:
        self._metrics.refused.labels(self._metrics.teams.label(team), scope, limit).inc()

    def _refusal(
        self,
        reservation: Reservation,
        outcome: Outcome,
        model: str,
        headers: list[ratelimit.Header],
        now: float,
    ) -> APIError:
        breach = tightest(outcome.narrowed or reservation, outcome.levels, now)
        if breach is None or (breach.wait is None and outcome.narrowed):
            # It is this gateway's share of the limit that it does not fit into, not the limit.
            self._count_refusal(reservation.team, "store", "away")
            return ratelimit.unavailable()
        scope = breach.scope.name.partition(":")[0]
        self._count_refusal(reservation.team, scope, breach.kind.value)
        error = ratelimit.refusal(reservation, breach, model)
        named = {name.decode(): value.decode() for name, value in headers}
        return replace(error, headers=error.headers | named)


def _output(asked: Asked, principal: Principal, scopes: tuple[Scope, ...], caps: Caps) -> int:
    """What to reserve for the answers: their bound, or what the team's usually need."""
    output = asked.output
    if output is None:
        bounds = [principal.team.default_output, caps.max_output]
        for limits in (scope.limits for scope in scopes):
            shared = (limits.tpm, limits.daily_tokens, limits.monthly_tokens)
            bounds += [limit and limit // _SHARE for limit in shared]
        output = max(min(bound for bound in bounds if bound is not None), 1)
    return output * asked.choices * asked.prompts


def _kind(principal: Principal, asked: Asked) -> str:
    """What learns together: one team's prompts must not teach what another's are like."""
    return f"{principal.team.name} {asked.model} {asked.route.name}"
