"""Counters in this process: the store of a single gateway, and of one whose store is away."""

import time
from collections.abc import Callable, Iterable, Mapping

from service.quota.calendar import Windows
from service.quota.counters import SECOND, TeamCounters
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled

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
        self._day = ""

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none."""
        now, team = self._clock(), self._team(reservation.team)
        self._forget(reservation.windows)
        expired = team.expire(now)
        granted, levels = team.reserve(reservation, now, self._lease)
        return Outcome(granted, levels, tuple(expired))

    async def settle(self, settled: Settled) -> tuple[Reservation, ...]:
        """End a reservation."""
        now, team = self._clock(), self._team(settled.reservation.team)
        team.settle(settled, now)
        return tuple(team.expire(now))

    async def renew(self, gateway: str, open: Mapping[str, Iterable[str]]) -> int:
        """Extend leases. There is one gateway: this one."""
        now = self._clock()
        for team, ids in open.items():
            self._team(team).renew(ids, now, self._lease)
        return 1

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""
        return self._team(team).levels(scopes, windows, self._clock())

    def restore(self, team: str, day: str, scopes: Iterable[str], tokens: int) -> None:
        """Put back what the ledger says was used on a day (`2026-08-22`), after a restart."""
        self._team(team).restore(day, day[:7], scopes, tokens)

    async def close(self) -> None:
        """Nothing is held."""

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
