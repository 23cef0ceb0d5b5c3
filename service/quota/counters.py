"""All counters of one team, and the four things that happen to them. Pure: time is handed in.

This is the specification of the Lua in `lua/`, which does the same inside the store. What holds:

- A refused reservation changes nothing.
- Tokens are conserved: in every window `reserved` is the sum of the estimates of the open
  reservations, and `used` the sum of what the settled ones used and the expired ones had estimated.
- A reservation is settled once, by its id, in whatever order things arrive: after its lease ran
  out, the charge on the budgets is corrected (what was estimated too high has drained from the
  rates by then); without any trace of it (it was granted elsewhere, or the store has lost it), what
  it used is charged; a second time, nothing happens. A reservation that arrives after its own
  settlement is refused.
- Concurrency counts open reservations, and nothing else.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from service.quota.bucket import Bucket
from service.quota.calendar import Windows
from service.quota.decision import fits
from service.quota.reservation import Level, Reservation, Scope, Settled

SECOND = 1_000_000  # µs
# For how long an id is known after it was settled or expired.
MEMORY = 3_600 * SECOND
# How many unattended reservations one call charges or forgets: its time is bounded.
SWEEP = 100
# Of what was put into the buckets of requests and of tokens; None where there is no limit.
_Marks = tuple[int | None, int | None]


class State(Enum):
    """What became of a reservation."""

    OPEN = "open"
    EXPIRED = "expired"
    SETTLED = "settled"


@dataclass(slots=True)
class _Record:
    reservation: Reservation
    state: State
    until: int
    marks: dict[str, _Marks]


@dataclass(slots=True)
class _Spent:
    used: int = 0
    reserved: int = 0


@dataclass(slots=True)
class _Rates:
    requests: Bucket
    tokens: Bucket


@dataclass(slots=True)
class TeamCounters:
    """The counters of one team. Times are µs of one clock."""

    memory: int = MEMORY
    _records: dict[str, _Record] = field(default_factory=dict)
    _due: list[tuple[int, str]] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)
    _rates: dict[str, _Rates] = field(default_factory=dict)
    _spent: dict[str, dict[str, _Spent]] = field(default_factory=dict)

    def reserve(
        self, reservation: Reservation, now: int, lease: int
    ) -> tuple[bool, tuple[Level, ...]]:
        """Take the reservation on all its limits, or on none. The lease is how long, µs."""
        levels = self.levels(reservation.scopes, reservation.windows, now)
        pairs = zip(reservation.scopes, levels, strict=True)
        if reservation.id in self._records or not all(
            fits(scope, level, reservation) for scope, level in pairs
        ):
            return False, levels
        marks = {}
        for scope in reservation.scopes:
            self._open[scope.name] = self._open.get(scope.name, 0) + 1
            for window in _labels(reservation.windows):
                self._window(window, scope).reserved += reservation.tokens
            marks[scope.name] = self._hold(scope, reservation.tokens, now)
        self._remember(reservation, State.OPEN, now + lease, marks)
        return True, self.levels(reservation.scopes, reservation.windows, now)

    def settle(self, settled: Settled, now: int) -> None:
        """Charge what a reservation used, in the windows it was made in."""
        reservation = settled.reservation
        record = self._records.get(reservation.id)
        if record is None:
            self._charge(settled, now)
        elif record.state is State.SETTLED:
            return
        else:
            if record.state is State.OPEN:
                self._release(record.reservation)
            self._correct(record, settled, now)
        self._remember(reservation, State.SETTLED, now + self.memory, {})

    def renew(self, ids: Iterable[str], now: int, lease: int) -> None:
        """Extend the leases of reservations that are still open."""
        for id in ids:
            record = self._records.get(id)
            if record and record.state is State.OPEN:
                record.until = now + lease
                heapq.heappush(self._due, (record.until, id))

    def expire(self, now: int) -> list[Reservation]:
        """Charge unattended reservations what they had estimated; forget the long finished."""
        expired: list[Reservation] = []
        forgotten = 0
        while self._due and self._due[0][0] <= now and len(expired) + forgotten < SWEEP:
            until, id = heapq.heappop(self._due)
            record = self._records.get(id)
            if record is None or record.until != until:
                continue  # renewed or settled since
            if record.state is State.OPEN:
                self._release(record.reservation)
                self._give_up(record)
                self._remember(record.reservation, State.EXPIRED, now + self.memory, {})
                expired.append(record.reservation)
            else:
                del self._records[id]
                forgotten += 1
        return expired

    def levels(self, scopes: Iterable[Scope], windows: Windows, now: int) -> tuple[Level, ...]:
        """How much of each scope is used."""
        return tuple([self._level(scope, windows, now) for scope in scopes])

    def restore(self, used: Mapping[str, Mapping[str, int]]) -> None:
        """Raise what was used, by window and scope, to what the ledger says."""
        for label, scopes in used.items():
            window = self._spent.setdefault(label, {})
            for name, tokens in scopes.items():
                spent = window.setdefault(name, _Spent())
                spent.used = max(spent.used, tokens)

    def forget(self, before: str) -> None:
        """Drop windows of days and months before that date, and what is idle."""
        for label in [label for label in self._spent if label < before[: len(label)]]:
            del self._spent[label]
        self._open = {name: count for name, count in self._open.items() if count}

    def _level(self, scope: Scope, windows: Windows, now: int) -> Level:
        requests = tokens = 0
        if rates := self._rates.get(scope.name):
            if scope.limits.rpm:
                requests = rates.requests.level(now, scope.limits.rpm)
            if scope.limits.tpm:
                tokens = rates.tokens.level(now, scope.limits.tpm)
        day = self._window(windows.day.label, scope)
        month = self._window(windows.month.label, scope)
        return Level(
            requests,
            tokens,
            self._open.get(scope.name, 0),
            day.used,
            day.reserved,
            month.used,
            month.reserved,
        )

    def _window(self, label: str, scope: Scope) -> _Spent:
        window = self._spent.get(label)
        if window is None:
            window = self._spent[label] = {}
        spent = window.get(scope.name)
        if spent is None:
            spent = window[scope.name] = _Spent()
        return spent

    def _drained(self, scope: Scope, now: int) -> _Rates:
        rates = self._rates.get(scope.name)
        if rates is None:
            rates = self._rates[scope.name] = _Rates(Bucket(now), Bucket(now))
        if scope.limits.rpm:
            rates.requests.drain(now, scope.limits.rpm)
        if scope.limits.tpm:
            rates.tokens.drain(now, scope.limits.tpm)
        return rates

    def _hold(self, scope: Scope, tokens: int, now: int) -> _Marks:
        """Put a request and its estimate into the buckets of what is limited."""
        limits = scope.limits
        if not limits.rpm and not limits.tpm:
            return None, None
        rates = self._drained(scope, now)
        by_request = rates.requests.hold(1) if limits.rpm else None
        return by_request, rates.tokens.hold(tokens) if limits.tpm else None

    def _add(self, scope: Scope, requests: int, tokens: int, now: int) -> None:
        """Put what was used into the buckets of what is limited."""
        limits = scope.limits
        if not limits.rpm and not limits.tpm:
            return
        rates = self._drained(scope, now)
        if limits.rpm:
            rates.requests.add(requests)
        if limits.tpm:
            rates.tokens.add(tokens)

    def _release(self, reservation: Reservation) -> None:
        """Turn what was reserved into what is used, as estimated, and free the slot."""
        for scope in reservation.scopes:
            self._open[scope.name] -= 1
            for label in _labels(reservation.windows):
                spent = self._window(label, scope)
                spent.reserved -= reservation.tokens
                spent.used += reservation.tokens

    def _charge(self, settled: Settled, now: int) -> None:
        reservation = settled.reservation
        for scope in reservation.scopes:
            for label in _labels(reservation.windows):
                self._window(label, scope).used += settled.tokens
            self._add(scope, settled.requests, settled.tokens, now)

    def _give_up(self, record: _Record) -> None:
        """An estimate that nobody settles is used, as far as rates go: by then it has drained."""
        reservation = record.reservation
        for name, (by_request, by_token) in record.marks.items():
            rates = self._rates.get(name)
            if rates and by_request is not None:
                rates.requests.settle(1, 1, by_request)
            if rates and by_token is not None:
                rates.tokens.settle(reservation.tokens, reservation.tokens, by_token)

    def _correct(self, record: _Record, settled: Settled, now: int) -> None:
        """From the estimate, which is charged by now, to what was used."""
        reservation = record.reservation
        more = settled.tokens - reservation.tokens
        for scope in reservation.scopes:
            for label in _labels(reservation.windows):
                self._window(label, scope).used += more
            if record.state is State.EXPIRED:
                self._add(scope, 0, max(more, 0), now)
                continue
            by_request, by_token = record.marks[scope.name]
            rates = self._drained(scope, now) if by_request or by_token else None
            if rates and by_request is not None:
                rates.requests.settle(settled.requests, 1, by_request)
            if rates and by_token is not None:
                rates.tokens.settle(settled.tokens, reservation.tokens, by_token)

    def _remember(
        self,
        reservation: Reservation,
        state: State,
        until: int,
        marks: dict[str, _Marks],
    ) -> None:
        self._records[reservation.id] = _Record(reservation, state, until, marks)
        heapq.heappush(self._due, (until, reservation.id))


def _labels(windows: Windows) -> tuple[str, str]:
    return windows.day.label, windows.month.label
