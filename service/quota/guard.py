"""A shared store, and what is decided while it does not answer.

While the store is away a gateway goes by counters of its own, at every limit divided by the number
N of gateways, rounded up. So for each limit all of them together admit, beside what the store had
admitted before: per minute at most `limit + N - 1` (and once as much as a burst, since the own
counters begin empty), at most `limit + N - 1` more concurrent requests, and at most `limit + N - 1`
more tokens of a day or month, however often the store is lost: the own counters are kept from one
outage to the next. A single call that is not answered in time is decided by the same counters.

N is the most that were counted at a beat of this gateway (three in a lease) since fewer were
counted for a whole lease without a loss, and no less than the setting `quota.gateways`. A gateway
that does not know of all the others has a larger share: one that has never reached the store, or
has not had a beat since others were added. With G gateways of which each knows K or more, the
bound is `G * ceil(limit / K)`; it is `limit + G - 1` where `quota.gateways` is G or more.

That ends after `degraded_limit` seconds: then requests are refused. Nothing that was used is
forgotten: its settlement waits, and is charged to the store when it is back. A store that has
forgotten is told what the ledger knows before it is asked again.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from service.quota.calendar import Windows
from service.quota.limits import Limits
from service.quota.memory import MemoryStore
from service.quota.reservation import Kind, Level, Outcome, Reservation, Scope, Settled
from service.quota.store import SharedStore, StoreFailed, StoreSlow, StoreUnavailable, Used
from service.settings import OnStoreLoss, QuotaSettings

log = logging.getLogger(__name__)

# Asked this often whether the store is back.
PROBE_SECONDS = 0.25
# After an outage in which leases may have run out: until the other gateways have renewed theirs.
_PROBES_FOR_OTHERS = 2
# A first connection takes longer than a request waits.
_FIRST_TRIES = 5
_LEDGER_SECONDS = 5.0
# Renewed where nothing is open, to write something all the same.
_NOBODY = ("-",)

_FIELDS = {
    Kind.REQUESTS: "rpm",
    Kind.TOKENS: "tpm",
    Kind.CONCURRENCY: "concurrency",
    Kind.DAY: "daily_tokens",
    Kind.MONTH: "monthly_tokens",
}

Open = Mapping[str, Iterable[str]]


class Refusing(Exception):
    """The store is away, and the policy for one of the limits is to refuse."""


@dataclass(slots=True)
class _Away:
    """A place that is away: since when, whose call told, and how often it has answered again."""

    since: float
    team: str
    answers: int = 0


async def _nothing() -> Mapping[str, Used]:
    return {}


class Guard:
    """A `Store` that answers although the one behind it does not.

    `gateway` names this one among those that share the store. `spent` says what the ledger knows,
    by team. What is on several servers may be away in part: one of them is a place.
    """

    def __init__(
        self,
        store: SharedStore,
        settings: QuotaSettings,
        gateway: str,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], Awaitable[Mapping[str, Used]]] = _nothing,
    ) -> None:
        self._store = store
        self._settings = settings
        self._gateway = gateway
        self._clock = clock
        self._spent = spent
        self._own = MemoryStore(settings.lease)
        self._own_open: dict[str, Reservation] = {}
        # Refused here, though the store may have granted them without our hearing of it.
        self._unsure: dict[str, Reservation] = {}
        self._away: dict[str, _Away] = {}
        # What the ledger knew when the store was lost: later uses are settled by who made them.
        self._known: asyncio.Future[Mapping[str, Used] | None] | None = None
        self._beats = 0
        # Since when fewer gateways were counted than are gone by, and the most of those counts.
        self._fewer: tuple[float, int] | None = None
        self.gateways = settings.gateways
        self.losses = 0
        self.errors = Counter({"slow": 0, "failed": 0, "away": 0})
        """Calls of the store that failed, by how."""
        self.restored = 0
        """How often the store was told what the ledger knows."""

    @property
    def degraded(self) -> bool:
        """Whether decisions, at least on some teams, are by this gateway's own counters."""
        return bool(self._away)

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Ask the store, or decide here. Raises `Refusing`, and `StoreFailed` for this one."""
        if not self._is_away(reservation.team):
            try:
                return await self._store.reserve(reservation)
            except StoreUnavailable as error:
                self._note(reservation.team, error)
                if isinstance(error, StoreFailed):
                    raise
                self._unsure[reservation.id] = reservation
        narrowed = self._narrow(reservation)
        outcome = await self._own.reserve(narrowed)
        if outcome.granted:
            self._own_open[reservation.id] = narrowed
            self._unsure.pop(reservation.id, None)  # its settlement will say what it was
        return replace(outcome, narrowed=narrowed)

    async def settle(self, settled: Settled) -> None:
        """End a reservation here at once, and in the store: repeat it until that succeeds."""
        narrowed = self._own_open.pop(settled.reservation.id, None)
        if narrowed is not None:
            await self._own.settle(replace(settled, reservation=narrowed))
        if self._is_away(settled.reservation.team):
            raise StoreUnavailable
        try:
            await self._store.settle(settled)
        except StoreUnavailable as error:
            self._note(settled.reservation.team, error)
            raise

    async def renew(self, open: Open) -> None:
        """Extend leases, here and in the store; where it is away, `probe` will."""
        kept = {team: tuple(ids) for team, ids in open.items()}
        await self._own.renew(kept)
        places: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for team, ids in kept.items():
            places[self._store.place(team)][team] = ids
        failure: StoreUnavailable | None = None
        for place, teams in places.items():
            if place not in self._away:
                try:
                    await self._store.renew(teams)
                except StoreUnavailable as error:
                    self._note(next(iter(teams)), error)
                    failure = error
        if not self._is_away(""):
            try:
                await self._beat()
            except StoreUnavailable as error:
                self._note("", error)
                failure = error
        if failure:
            raise failure

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much is used, as far as can be known now."""
        if not self._is_away(team):
            try:
                return await self._store.levels(team, scopes, windows)
            except StoreUnavailable as error:
                self._note(team, error)
        return await self._own.levels(team, scopes, windows)

    async def shared_levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """As the store says. Raises `StoreUnavailable`; for who only wants to know, so that it
        counts as no failure."""
        if self._is_away(team):
            raise StoreUnavailable
        return await self._store.levels(team, scopes, windows)

    async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
        """Reservations that were found unattended."""
        return await self._store.expired(told)

    async def begin(self) -> None:
        """Connect, with more patience than a request has."""
        for attempt in range(1, _FIRST_TRIES + 1):
            try:
                await self._beat()
                return
            except StoreUnavailable as error:
                if attempt == _FIRST_TRIES:
                    self._lose("", error)

    async def watch(self, leases: Callable[[], Open]) -> None:
        """Find out when the store is back. Runs until cancelled. `leases` are to be kept alive."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self.probe(leases)
            except Exception:
                log.exception("the quota store was not asked whether it is back")

    async def probe(self, leases: Callable[[], Open] = dict) -> None:
        """Ask a store that is away whether it is back; leases are renewed before it counts as such.

        Also ends in it what it may have granted unheard.
        """
        for place, away in list(self._away.items()):
            try:
                await self._revive(place, away, leases())
            except StoreUnavailable:
                away.answers = 0
                self._known = self._known or asyncio.ensure_future(self._ledger())
        for reservation in list(self._unsure.values()):
            if not self._is_away(reservation.team):
                try:
                    await self._store.settle(Settled(reservation, tokens=0, requests=0))
                except StoreFailed as error:
                    self._note(reservation.team, error)
                except StoreUnavailable as error:
                    self._note(reservation.team, error)
                    continue
                self._unsure.pop(reservation.id, None)

    async def close(self) -> None:
        """Give connections back."""
        await self._store.close()

    async def _revive(self, place: str, away: _Away, open: Open) -> None:
        places = (place, self._store.place(away.team))  # it may have moved
        leases = {team: ids for team, ids in open.items() if self._store.place(team) in places}
        if away.team:
            leases.setdefault(away.team, _NOBODY)
        await self._store.renew(leases)
        if self._store.place() in places:
            await self._beat()
        away.answers += 1
        seconds = self._clock() - away.since
        if seconds > self._settings.lease / 2 and away.answers <= _PROBES_FOR_OTHERS:
            return
        del self._away[place]
        if not self._away:
            self._known = None
        log.warning("the quota store is back", extra={"seconds": round(seconds, 1)})

    async def _beat(self) -> None:
        """Say that this gateway lives, and find out what the store has forgotten."""
        beat = await self._store.beat(self._gateway)
        self._count(beat.gateways)
        if beat.number > self._beats:
            self._beats = beat.number
        elif await self._restore():
            self._beats = (await self._store.beat(self._gateway, restored=True)).number

    async def _restore(self) -> bool:
        """Tell the store what the ledger knows. False where that is to be tried again."""
        used = await (self._known or self._ledger())
        if used is None:
            self._known = None
            return False
        for team, windows in used.items():
            await self._store.restore(team, windows)
        if used:
            self.restored += 1
            log.warning("the quota store had forgotten: budgets are as the ledger says")
        return True

    async def _ledger(self) -> Mapping[str, Used] | None:
        try:
            async with asyncio.timeout(_LEDGER_SECONDS):
                return await self._spent()
        except Exception as error:
            log.warning(
                "the ledger does not say what was used", extra={"reason": type(error).__name__}
            )
            return None

    def _count(self, gateways: int) -> None:
        """More gateways count at once, fewer when it was so for a lease."""
        now = self._clock()
        if gateways >= self.gateways:
            self.gateways, self._fewer = gateways, None
            return
        since, most = self._fewer or (now, self._settings.gateways)
        self._fewer = since, max(most, gateways)
        if now - since >= self._settings.lease:
            self.gateways, self._fewer = self._fewer[1], None

    def _is_away(self, team: str) -> bool:
        return bool(self._away) and self._store.place(team) in self._away

    def _note(self, team: str, error: StoreUnavailable) -> None:
        slow, failed = isinstance(error, StoreSlow), isinstance(error, StoreFailed)
        self.errors["slow" if slow else "failed" if failed else "away"] += 1
        if failed:
            log.error(
                "the quota store answers with an error", extra={"team": team, "reason": str(error)}
            )
        elif not slow:
            self._lose(team, error)

    def _lose(self, team: str, error: StoreUnavailable) -> None:
        place = self._store.place(team)
        if place in self._away:
            return
        self._away[place] = _Away(self._clock(), team)
        self._fewer = None
        self.losses += 1
        log.warning(
            "the quota store does not answer: this gateway goes by counters of its own",
            extra={"reason": str(error), "gateways": self.gateways},
        )

    def _narrow(self, reservation: Reservation) -> Reservation:
        """The same at this gateway's share of every limit."""
        away = self._away.get(self._store.place(reservation.team))
        seconds = self._clock() - away.since if away else 0.0
        scopes = tuple(
            Scope(scope.name, self._share(scope.limits, seconds)) for scope in reservation.scopes
        )
        return replace(reservation, scopes=scopes)

    def _share(self, limits: Limits, seconds: float) -> Limits:
        shares: dict[str, Any] = {}
        for kind, field in _FIELDS.items():
            limit = getattr(limits, field)
            if limit is None:
                continue
            match self._mode(kind, seconds):
                case OnStoreLoss.OPEN:
                    shares[field] = None
                case OnStoreLoss.DEGRADED:
                    shares[field] = -(-limit // self.gateways)
                case OnStoreLoss.CLOSED:
                    raise Refusing
        return replace(limits, **shares)

    def _mode(self, kind: Kind, seconds: float) -> OnStoreLoss:
        settings = self._settings
        mode = {
            Kind.REQUESTS: settings.requests,
            Kind.TOKENS: settings.tokens,
            Kind.CONCURRENCY: settings.concurrency,
        }.get(kind, settings.budgets)
        too_long = seconds > settings.degraded_limit
        return OnStoreLoss.CLOSED if too_long and mode is OnStoreLoss.DEGRADED else mode
