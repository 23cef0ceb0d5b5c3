"""How much of its limits each team has used, for the metrics.

Read from the store now and then, not at a scrape: a scrape must not wait for it. All gateways that
share a store see the same, as far as it answers.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import Metric

from service.quota.calendar import Calendar, Windows
from service.quota.reservation import Kind, Level, Scope
from service.quota.store import StoreUnavailable
from service.telemetry import contract
from service.telemetry.metrics import Value, shown
from service.tenants.team import Team

log = logging.getLogger(__name__)

_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
"""After a store that did not answer in time: once late is not away."""
_RESERVED = {Kind.DAY: "day_reserved", Kind.MONTH: "month_reserved"}


class Census:
    """The levels of the teams that have a label of their own (`named`), among all `teams`.

    `levels` is a store's.
    """

    def __init__(
        self,
        levels: Callable[[str, tuple[Scope, ...], Windows], Coroutine[Any, Any, tuple[Level, ...]]],
        teams: Mapping[str, Team],
        named: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = levels
        self._teams = teams
        self._named = named
        self._clock = clock
        self._calendar = Calendar()
        self._levels: list[tuple[str, Scope, Level]] = []

    async def run(self) -> None:
        """Read again and again, until cancelled."""
        while True:
            rest = _SECONDS
            try:
                self._levels = await self._read()
            except StoreUnavailable:
                self._levels, rest = [], _AGAIN_SECONDS  # nothing is better than what was
            except Exception:
                self._levels = []
                log.exception("what teams have used is not known to the metrics")
            await asyncio.sleep(rest)

    async def _read(self) -> list[tuple[str, Scope, Level]]:
        found = []
        for name in self._named():
            team = self._teams.get(name)
            if team is not None:
                scope = Scope("team", team.limits)
                windows = self._calendar.at(self._clock(), team.timezone)
                (level,) = await self._ask(name, (scope,), windows)
                found.append((name, scope, level))
        return found

    def series(self) -> Iterator[Metric]:
        """What was read last, of limits that there are."""
        yield shown(contract.QUOTA_LIMIT, self._each(lambda _, limit, __: limit))
        yield shown(contract.QUOTA_USED, self._each(lambda kind, _, level: _used(kind, level)))
        yield shown(contract.QUOTA_DEBT, self._each(_debt))
        yield shown(contract.QUOTA_RESERVED, self._reserved())

    def _each(self, value: Callable[[Kind, int, Level], float]) -> Iterator[Value]:
        for team, scope, level in self._levels:
            for kind in Kind:
                limit = scope.limit(kind)
                if limit is not None:
                    yield (team, kind.value), value(kind, limit, level)

    def _reserved(self) -> Iterator[Value]:
        for team, scope, level in self._levels:
            for kind, field in _RESERVED.items():
                if scope.limit(kind) is not None:
                    yield (team, kind.value), getattr(level, field)


def _used(kind: Kind, level: Level) -> int:
    """Without what is reserved, where that is counted apart."""
    return level.used(kind) - (getattr(level, _RESERVED[kind]) if kind in _RESERVED else 0)


def _debt(kind: Kind, limit: int, level: Level) -> int:
    return max(_used(kind, level) - limit, 0)
