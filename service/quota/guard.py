"""A shared store, and what is decided while it does not answer.

While the store is away a gateway goes by counters of its own, at every limit divided by the number
of gateways it last knew of, rounded up. So for each limit all N gateways together admit, beside
what the store had admitted before: per minute at most `limit + N - 1` (and once as much as a burst,
since the own counters begin empty), at most `limit + N - 1` more concurrent requests, and at most
`limit + N - 1` more tokens of a day or month, however often the store is lost: the own counters
are kept from one outage to the next. That ends after `degraded_limit` seconds: then requests are
refused. Nothing that was used is forgotten: its settlement waits, and is charged to the store when
it is back.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from service.quota.calendar import Windows
from service.quota.limits import Limits
from service.quota.memory import MemoryStore
from service.quota.reservation import Kind, Level, Outcome, Reservation, Scope, Settled
from service.quota.store import Store, StoreUnavailable
from service.settings import OnStoreLoss, QuotaSettings

log = logging.getLogger(__name__)

# Asked this often whether the store is back.
PROBE_SECONDS = 0.25
# A first connection takes longer than a request waits.
_FIRST_TRIES = 5

_FIELDS = {
    Kind.REQUESTS: "rpm",
    Kind.TOKENS: "tpm",
    Kind.CONCURRENCY: "concurrency",
    Kind.DAY: "daily_tokens",
    Kind.MONTH: "monthly_tokens",
}


class Refusing(Exception):
    """The store is away, and the policy for one of the limits is to refuse."""


class Guard:
    """A `Store` that answers although the one behind it does not.

    `gateway` names this one among those that share the store.
    """

    def __init__(
        self,
        store: Store,
        settings: QuotaSettings,
        gateway: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._gateway = gateway
        self._clock = clock
        self._own = MemoryStore(settings.lease)
        self._own_open: dict[str, Reservation] = {}
        # Refused here, though the store may have granted them without our hearing of it.
        self._unsure: dict[str, Reservation] = {}
        self._away_since: float | None = None
        self.gateways = 1
        self.losses = 0

    @property
    def degraded(self) -> bool:
        """Whether decisions are by this gateway's own counters."""
        return self._away_since is not None

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Ask the store, or decide here. Raises `Refusing`."""
        if self._away_since is None:
            try:
                return await self._store.reserve(reservation)
            except StoreUnavailable as error:
                self._lose(error)
                self._unsure[reservation.id] = reservation
        narrowed = self._narrow(reservation)
        outcome = await self._own.reserve(narrowed)
        if outcome.granted:
            self._own_open[reservation.id] = narrowed
            self._unsure.pop(reservation.id, None)  # its settlement will say what it was
        return replace(outcome, expired=(), narrowed=narrowed)

    async def settle(self, settled: Settled) -> tuple[Reservation, ...]:
        """End a reservation here at once, and in the store: repeat it until that succeeds."""
        narrowed = self._own_open.pop(settled.reservation.id, None)
        if narrowed is not None:
            await self._own.settle(replace(settled, reservation=narrowed))
        if self._away_since is not None:
            raise StoreUnavailable
        try:
            return await self._store.settle(settled)
        except StoreUnavailable as error:
            self._lose(error)
            raise

    async def renew(self, gateway: str, open: Mapping[str, Iterable[str]]) -> int:
        """Extend leases, here and in the store."""
        kept = {team: list(ids) for team, ids in open.items()}
        await self._own.renew(gateway, kept)
        if self._away_since is not None:
            raise StoreUnavailable
        self.gateways = max(await self._store.renew(gateway, kept), 1)
        return self.gateways

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much is used, as far as can be known now."""
        if self._away_since is None:
            try:
                return await self._store.levels(team, scopes, windows)
            except StoreUnavailable as error:
                self._lose(error)
        return await self._own.levels(team, scopes, windows)

    async def begin(self) -> None:
        """Connect, with more patience than a request has."""
        for attempt in range(1, _FIRST_TRIES + 1):
            try:
                self.gateways = max(await self._store.renew(self._gateway, {}), 1)
                return
            except StoreUnavailable as error:
                if attempt == _FIRST_TRIES:
                    self._lose(error)

    async def watch(self) -> None:
        """Find out when the store is back. Runs until cancelled."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            await self.probe()

    async def probe(self) -> None:
        """Ask a store that is away whether it is back."""
        if self._away_since is None:
            return
        try:
            self.gateways = max(await self._store.renew(self._gateway, {}), 1)
            for reservation in list(self._unsure.values()):
                await self._store.settle(Settled(reservation, tokens=0, requests=0))
                del self._unsure[reservation.id]
        except StoreUnavailable:
            return
        seconds = self._clock() - self._away_since
        self._away_since = None
        log.warning("the quota store is back", extra={"seconds": round(seconds, 1)})

    async def close(self) -> None:
        """Give connections back."""
        await self._store.close()

    def _lose(self, error: StoreUnavailable) -> None:
        if self._away_since is not None:
            return
        self._away_since = self._clock()
        self.losses += 1
        log.warning(
            "the quota store does not answer: this gateway goes by counters of its own",
            extra={"reason": str(error), "gateways": self.gateways},
        )

    def _narrow(self, reservation: Reservation) -> Reservation:
        """The same at this gateway's share of every limit."""
        scopes = tuple(Scope(scope.name, self._share(scope.limits)) for scope in reservation.scopes)
        return replace(reservation, scopes=scopes)

    def _share(self, limits: Limits) -> Limits:
        shares: dict[str, Any] = {}
        for kind, field in _FIELDS.items():
            limit = getattr(limits, field)
            if limit is None:
                continue
            match self._mode(kind):
                case OnStoreLoss.OPEN:
                    shares[field] = None
                case OnStoreLoss.DEGRADED:
                    shares[field] = -(-limit // self.gateways)
                case OnStoreLoss.CLOSED:
                    raise Refusing
        return replace(limits, **shares)

    def _mode(self, kind: Kind) -> OnStoreLoss:
        settings = self._settings
        mode = {
            Kind.REQUESTS: settings.requests,
            Kind.TOKENS: settings.tokens,
            Kind.CONCURRENCY: settings.concurrency,
        }.get(kind, settings.budgets)
        assert self._away_since is not None
        too_long = self._clock() - self._away_since > settings.degraded_limit
        return OnStoreLoss.CLOSED if too_long and mode is OnStoreLoss.DEGRADED else mode
