"""Counters in this process: the store of a single gateway, and of one whose store is away."""

import time
from collections.abc import Callable, Iterable, Mapping

from service.quota.calendar import Windows
from service.quota.counters import SECOND, TeamCounters
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.store import Used

# An id is repeated only by a mistake here, where nothing is ever sent twice.
_MEMORY = 300 * SECOND


class MemoryStore:
    """All teams' counters. `clock` gives µs and does not jump; `lease` is in seconds."""

    def __init__(
        self, lease: float, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self._lease = int(lease * SECOND)
        self._clock = clock
        self._teams: dict[str, TeamCounters] = {}
        self._expired: dict[str, Reservation] = {}
        self._day = ""

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none."""
        now, team = self._clock(), self._team(reservation.team)
        self._forget(reservation.windows)
        self._expire(team, now)
        return Outcome(*team.reserve(reservation, now, self._lease))

    async def settle(self, settled: Settled) -> None:
        """End a reservation."""
        now, team = self._clock(), self._team(settled.reservation.team)
        team.settle(settled, now)
        self._expired.pop(settled.reservation.id, None)
        self._expire(team, now)

    async def renew(self, open: Mapping[str, Iterable[str]]) -> None:
        """Extend leases."""
        now = self._clock()
        for team, ids in open.items():
            self._team(team).renew(ids, now, self._lease)

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""
        now, counters = self._clock(), self._team(team)
        self._expire(counters, now)
        return counters.levels(scopes, windows, now)

    async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
        """Reservations that were found unattended."""
        for reservation in told:
            self._expired.pop(reservation.id, None)
        return tuple(self._expired.values())

    async def restore(self, team: str, used: Used) -> None:
        """Raise what was used to what the ledger says, after a restart."""
        self._team(team).restore(used)

    async def close(self) -> None:
        """Nothing is held."""

    def _expire(self, team: TeamCounters, now: int) -> None:
        self._expired.update({one.id: one for one in team.expire(now)})

    def _team(self, name: str) -> TeamCounters:
        team = self._teams.get(name)
        if team is None:
            team = self._teams[name] = TeamCounters(_MEMORY)
        return team

    def _forget(self, windows: Windows) -> None:
        """Once a day, drop what lies two months back: time zones and clocks differ by less."""
        if windows.day.label == self._day:
            return
        self._day = windows.day.label
        year, month = int(self._day[:4]), int(self._day[5:7])
        before = f"{year - 1}-12" if month == 1 else f"{year}-{month - 1:02}"
        for team in self._teams.values():
            team.forget(f"{before}-01")
