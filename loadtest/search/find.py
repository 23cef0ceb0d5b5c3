"""Finds the highest level of load at which a service keeps its promise: a rate, or so many clients.

The level is doubled until a trial fails, and then the gap between the highest that passed and the
lowest that failed is halved until it is within the resolution. A trial passes where its requests
*show* that at least the promised share is kept, fails where they show that it is not, and is
*unresolved* where they show neither. Within the gap it is then repeated for longer, and judged by
all trials of its level together. What is unresolved even then is near the limit, and is closed in
from both sides.

Each team is judged by itself, and the worst of them is what counts. It is taken for granted that
less load is never worse. What ends a search early leaves what was found until then.
"""

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from loadtest.errors import UserError
from loadtest.judgement import verdict_of, worst
from loadtest.search.trial import Evidence, Stopped, Trial
from loadtest.statistics.evidence import Weighed, spread, weigh
from loadtest.summary import Verdict

# By how much a level may be above another one to have about its spread. A trial that would have to
# be so many times as long as it may be is not repeated again: it would tell nothing.
_NOT_FAR: Final = 1.25
_HOPELESS: Final = 2.0


class Run(Protocol):
    """Makes one trial at a level, for so many seconds. Raises `Stopped` where somebody ended it,
    and `UserError` where it could not be made."""

    def __call__(self, level: float, seconds: float, /) -> Awaitable[Trial]:
        """Its result."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How it is searched."""

    share: float = 0.99
    """What is promised, of 1."""
    seconds: float = 60.0
    """Of a level's first trial."""
    longest: float = 8.0
    """So many times `seconds` a level is tried in all. Each repeat has twice the time before it."""
    resolution: float = 0.05
    """How near the answer is to be, by itself. Clients are whole: one is near enough."""
    confidence: float = 0.99
    """Of each verdict: there are several before an answer is there."""


class Tried(msgspec.Struct, frozen=True):
    """A trial, and what was known of its level after it: by all its trials together."""

    trial: Trial
    seconds: float
    """That were asked for."""
    verdict: Verdict
    team: str
    """The one that it is for: that which stands worst."""
    low: float
    """Between this and the next the share of its good requests is (Wilson), each bound with the
    confidence of the search."""
    high: float


class Found(msgspec.Struct, frozen=True):
    """The answer."""

    passed: float | None
    """The highest level that passed. None: none did."""
    failed: float | None
    """The lowest that failed. None: none did."""
    resolved: bool
    """Whether the limit is between these two, and they are within the resolution."""
    reason: str
    """In words."""
    unit: str
    """Of levels."""
    trials: list[Tried]
    """All of them, in order."""


async def find_rate(
    run: Run, low: float, high: float, rules: Rules | None = None, unit: str = "requests/s"
) -> Found:
    """The highest rate of an open loop, from `low` to `high`: requests per second, or what `unit`
    says. Raises `UserError`."""
    return await _Search(run, rules or Rules(), unit, whole=False).find(low, high)


async def find_concurrency(run: Run, low: int, high: int, rules: Rules | None = None) -> Found:
    """The highest number of clients of a closed loop, from `low` to `high`. Raises `UserError`."""
    return await _Search(run, rules or Rules(), "clients", whole=True).find(low, high)


class _Ended(Exception):
    """The search cannot go on. Its text says why."""


class _Standing(NamedTuple):
    """What is known of a level by one team, or by the one that stands worst: of those with its
    verdict, the one whose lower bound is lowest."""

    verdict: Verdict
    team: str
    weighed: Weighed


class _Search:
    def __init__(self, run: Run, rules: Rules, unit: str, *, whole: bool) -> None:
        self._run = run
        self._rules = rules
        self._unit = unit
        self._whole = whole
        self._tried: list[Tried] = []
        self._known: dict[float, Evidence] = {}
        self._passed: float | None = None
        self._failed: float | None = None
        # Between these two, in order.
        self._unsure: list[float] = []
        # Levels with a trial that the load test was too slow for.
        self._slow: set[float] = set()

    async def find(self, low: float, high: float) -> Found:
        _check(low, high, self._rules)
        try:
            await self._double(low, high)
            await self._ends(low, high)
            while (level := self._next()) is not None:
                await self._settle(level)
        except _Ended as ended:
            return self._found(resolved=False, reason=str(ended))
        return self._found(self._is_resolved(), self._reason(low, high))

    async def _double(self, low: float, high: float) -> None:
        """Until one fails. What is unresolved is not repeated yet: it may be of no account."""
        level = low
        while True:
            self._learn(level, await self._try(level, self._rules.seconds))
            if self._failed is not None or level >= high:
                return
            level = min(2 * level, high)

    async def _ends(self, low: float, high: float) -> None:
        """Where nothing passed, or nothing failed, the ends of the range must say why."""
        if self._passed is None and self._failed != low:
            await self._settle(low)
        if self._failed is None and self._passed != high:
            await self._settle(high)

    async def _settle(self, level: float) -> None:
        """Try it until it is resolved, or as long as may be."""
        most = self._rules.longest * self._rules.seconds
        verdict = self._verdict(level)
        while verdict is Verdict.UNRESOLVED:
            used = self._known[level].seconds if level in self._known else 0.0
            seconds = min(2 * used or self._rules.seconds, most - used)
            if seconds <= 0 or self._is_hopeless(level):
                break
            verdict = await self._try(level, seconds)
        self._learn(level, verdict, final=True)

    def _is_hopeless(self, level: float) -> bool:
        """After a repeat: the first trial alone says too little about how it goes on."""
        evidence = self._known.get(level, Evidence())
        if len(evidence.trials) < 2:
            return False
        times = self._standing(level).weighed.times(self._rules.share, self._rules.confidence)
        most = self._rules.longest * self._rules.seconds
        return times is None or times * evidence.seconds > _HOPELESS * most

    async def _try(self, level: float, seconds: float) -> Verdict:
        """Once more where the load test was too slow for it: that may have been for a moment."""
        trial = await self._trial(level, seconds)
        before = self._known.get(level, Evidence())
        self._known[level] = before.plus(trial, seconds)
        verdict, team, weighed = self._standing(level)
        low, high = weighed.interval(self._rules.confidence)
        self._tried.append(Tried(trial, seconds, verdict, team, low, high))
        if verdict is not Verdict.INVALID:
            return verdict
        self._known[level] = before  # it says nothing of the service
        if level in self._slow:
            raise _Ended(self._too_slow(level, trial))
        self._slow.add(level)
        return await self._try(level, seconds)

    def _too_slow(self, level: float, trial: Trial) -> str:
        why = f" ({trial.why})" if trial.why else ""
        if self._failed is None:
            known = "nothing above can be said from here"
        elif self._passed is None:
            known = f"the limit is below {self._said(self._failed)}"
        else:
            known = f"the limit is between {self._passed:.4g} and {self._said(self._failed)}"
        return (
            f"at {self._said(level)} the load test itself was too slow, twice{why}: {known}; use a"
            " larger machine or more of its cores"
        )

    async def _trial(self, level: float, seconds: float) -> Trial:
        """Raises `UserError` for the first one only: after that there is something to lose."""
        try:
            return await self._run(level, seconds)
        except Stopped:
            raise _Ended(
                f"interrupted at {self._said(level)}: this is what was found until then"
            ) from None
        except UserError as error:
            if not self._tried:
                raise
            raise _Ended(
                f"at {self._said(level)} no trial could be made ({error}): this is what was found"
                " until then"
            ) from None

    def _verdict(self, level: float) -> Verdict:
        return self._standing(level).verdict

    def _standing(self, level: float) -> _Standing:
        evidence = self._known.get(level, Evidence())
        among = len(evidence.teams)
        standings = [self._of(level, team, among) for team in evidence.teams]
        verdict = worst(one.verdict for one in standings)
        lowest = min(
            (one for one in standings if one.verdict is verdict),
            key=lambda one: one.weighed.interval(self._rules.confidence)[0],
            default=_Standing(verdict, "", Weighed(0, 0.0)),
        )
        if not all(one.valid for one in evidence.trials):
            return lowest._replace(verdict=Verdict.INVALID)
        if evidence.saturated:
            return lowest._replace(verdict=Verdict.FAILED)
        return lowest

    def _of(self, level: float, team: str, among: int) -> _Standing:
        weighed = self._weighed(level, team)
        kept = weighed.kept(self._rules.share, self._rules.confidence, among)
        return _Standing(verdict_of(kept), team, weighed)

    def _weighed(self, level: float, team: str) -> Weighed:
        """By the spread at this level, or at the next one that is not far above, if it is greater
        there: it grows with load, and where hardly any are late it cannot be seen."""
        above = (
            spread(one.of(team))
            for other, one in sorted(self._known.items())
            if level < other <= level * _NOT_FAR and not one.saturated
        )
        nearest = next((one for one in above if one is not None), 1.0)
        return weigh(self._known[level].of(team), nearest)

    def _learn(self, level: float, verdict: Verdict, *, final: bool = False) -> None:
        if verdict is Verdict.PASSED:
            self._passed = level
            self._unsure = [one for one in self._unsure if one > level]
        elif verdict is Verdict.FAILED:
            self._failed = level
            self._unsure = [one for one in self._unsure if one < level]
        elif final:
            self._unsure = sorted({*self._unsure, level})

    def _next(self) -> float | None:
        """Which level to try. None: it is found, or nothing more can be."""
        if self._is_resolved():
            return None
        if not self._unsure:
            return self._between(self._passed, self._failed, self._rules.resolution)
        # Half of it on each side, so that both together are within it.
        half = self._rules.resolution / 2
        below = self._between(self._passed, self._unsure[0], half)
        return below if below is not None else self._between(self._unsure[-1], self._failed, half)

    def _between(self, low: float | None, high: float | None, resolution: float) -> float | None:
        """The middle of a gap that is too wide."""
        if low is None or high is None or high - low <= self._near(low, resolution):
            return None
        middle = (low + high) / 2
        return math.floor(middle) if self._whole else middle

    def _is_resolved(self) -> bool:
        if self._passed is None or self._failed is None:
            return False
        return self._failed - self._passed <= self._near(self._passed, self._rules.resolution)

    def _near(self, level: float, resolution: float) -> float:
        return max(resolution * level, 1.0 if self._whole else 0.0)

    def _found(self, resolved: bool, reason: str) -> Found:
        return Found(self._passed, self._failed, resolved, reason, self._unit, self._tried)

    def _reason(self, low: float, high: float) -> str:
        if self._unsure and not self._is_resolved():
            return self._unresolved()
        if self._failed == low:
            return f"even {self._said(low)} failed: begin the search lower"
        if self._passed == high:
            return f"even {self._said(high)} passed: let the search go higher"
        assert self._passed is not None and self._failed is not None
        return f"{self._said(self._passed)} passed, and {self._said(self._failed)} failed"

    def _unresolved(self) -> str:
        level = self._unsure[0]
        seconds = self._known[level].seconds
        _, team, weighed = self._standing(level)
        low, high = weighed.interval(self._rules.confidence)
        whose = f" of {team}'s requests" if len(self._known[level].teams) > 1 else ""
        times = weighed.times(self._rules.share, self._rules.confidence)
        longer = (
            "the promise is too near to that"
            if times is None
            else f"{math.ceil(max(times, 1) * seconds):,} s might"
        )
        return (
            f"at {self._said(level)} trials of {seconds:g} s could not tell:"
            f" {100 * low:.2f}% to {100 * high:.2f}%{whose} kept the objectives,"
            f" {100 * self._rules.share:g}% is promised; {longer}"
        )

    def _said(self, level: float) -> str:
        return f"{level:.4g} {self._unit}"


def _check(low: float, high: float, rules: Rules) -> None:
    if not 0 < low <= high < math.inf:
        raise UserError(f"a search goes from above 0 to no less: it cannot go from {low} to {high}")
    if not 0 < rules.share < 1:
        raise UserError(
            f"no number of requests can show that {100 * rules.share:g}% are good: a search needs"
            " an slo.percent below 100"
        )
    if rules.resolution <= 0 or rules.seconds <= 0 or rules.longest < 1:
        raise UserError(
            "a search needs a resolution and a time above 0, and `longest` of at least 1"
        )
