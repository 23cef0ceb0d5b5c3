"""Writes down what requests used: a line of the ledger each, and the counters of the metrics."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from service.gateway.tab import Bill
from service.gateway.usage import Usage
from service.ledger.record import Settlement, UsageRecord
from service.quota.reservation import Reservation
from service.telemetry.contract import TOKENS
from service.telemetry.metrics import Children, Metrics

_UNCONFIRMED = (Settlement.CUT, Settlement.ESTIMATED, Settlement.EXPIRED)


class Book(Protocol):
    """Where lines of the ledger go."""

    def put(self, record: UsageRecord) -> None:
        """Keep a line. Returns at once and never fails."""


class Clerk:
    """Keeps the book. `clock` is in epoch seconds."""

    def __init__(
        self, book: Book, metrics: Metrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._book = book
        self._metrics = metrics
        self._clock = clock
        self._tokens = Children(metrics.tokens)
        self._settlements = Children(metrics.settlements)

    def ended(self, bill: Bill) -> None:
        """A request that was admitted has ended."""
        tab = bill.tab
        how = (tab.asked.route.name, bill.outcome, tab.seconds)
        self._book.put(self._record(tab.reservation, bill.settlement, bill.usage, *how))

    def expired(self, reservation: Reservation) -> None:
        """A request whose gateway died: it was charged as it had been estimated."""
        usage = Usage(reservation.prompt, reservation.output)
        self._book.put(self._record(reservation, Settlement.EXPIRED, usage))

    def _record(
        self,
        reservation: Reservation,
        settlement: Settlement,
        usage: Usage,
        route: str = "unknown",
        outcome: str = "gateway_died",
        seconds: float = 0.0,
    ) -> UsageRecord:
        names = dict(scope.name.split(":", 1) for scope in reservation.scopes if ":" in scope.name)
        model = names["model"]
        self._settlements[model, settlement.value].inc()
        if settlement in _UNCONFIRMED:
            tokens = usage.prompt + usage.completion
            self._metrics.unconfirmed.labels(model, settlement.value).inc(tokens)
        if settlement is not Settlement.EXPIRED:  # it may yet be settled, and no engine counted it
            self._count(model, self._metrics.teams.label(reservation.team), usage)
        return UsageRecord(
            id=reservation.id,
            at=datetime.fromtimestamp(self._clock(), UTC),
            day=reservation.windows.day.label,
            team=reservation.team,
            key=names["key"],
            model=model,
            route=route,
            outcome=outcome,
            settlement=settlement,
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            cached_tokens=usage.cached,
            reasoning_tokens=usage.reasoning,
            seconds=seconds,
        )

    def _count(self, model: str, team: str, usage: Usage) -> None:
        used = (usage.prompt, usage.completion, usage.cached, usage.reasoning)
        for kind, tokens in zip(TOKENS, used, strict=True):
            self._tokens[model, team, kind].inc(tokens)
