"""One run at one level of load, and what is known of that level by all its runs together.

Each team is looked at by itself: a large one that is served well hides nothing of a small one that
is not. In a queue requests are late together: a thousand of them may say no more than a hundred
that are independent. So the share of good ones is compared between parts of a run; where it varies
more than by chance, requests count for so much less, as survey statistics has it (the design
effect).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from loadtest.measured import Fate, Requests, Span
from loadtest.statistics import binomial, early_stopping
from loadtest.statistics.intervals import needed, wilson
from loadtest.statistics.quantiles import finite, ordered, percentile
from loadtest.summary import Verdict

PARTS: Final = 10
"""Of a run. Each should be longer than what the service remembers: some times an answer."""


class Stopped(Exception):
    """Somebody ended a trial, and with it the search."""


class Count(msgspec.Struct, frozen=True):
    """One team's requests in one run."""

    good: int
    """Those that kept all objectives."""
    counted: int
    parts: Sequence[tuple[int, int]] = ()
    """Good ones and all, by part of the run. None: requests are taken to be independent."""
    outcomes: dict[str, int] = {}
    """What became of them: whether, say, a limit is but the team's quota."""
    ttft_p99: float | None = None
    """s. None: it falls among those that failed, or nothing was counted."""


class Trial(msgspec.Struct, frozen=True):
    """What one run at one level gave."""

    level: float
    teams: dict[str, Count]
    """Without those of which nothing counts, as of one that is refused all beyond its limits."""
    seconds: float = 0.0
    """What was measured: less than was asked for where it was ended early."""
    saturated: bool = False
    """It was beyond capacity, and has no steady state: it fails, whatever share was good."""
    valid: bool = True
    """Else the load test itself was too slow, and nothing is known of the service."""
    why: str = ""
    """Of one that is not valid."""


def measure(
    level: float,
    teams: Mapping[str, Requests],
    measured: Span,
    *,
    saturated: bool = False,
    invalid: str = "",
) -> Trial:
    """The trial that a run was. `invalid` says why its figures are not those of the service."""
    return Trial(
        level,
        {
            team: _count(one, measured)
            for team, one in teams.items()
            if one.counted or not one.planned
        },
        measured.seconds,
        saturated,
        valid=not invalid,
        why=invalid,
    )


def _count(requests: Requests, measured: Span) -> Count:
    good, counted = [0] * PARTS, [0] * PARTS
    width = max(measured.seconds, 1e-9) / PARTS
    for record, fate in zip(requests.records, requests.fates, strict=True):
        if fate is not Fate.ASIDE:
            part = min(max(int((record.scheduled - measured.start) / width), 0), PARTS - 1)
            good[part] += fate is Fate.MET
            counted[part] += 1
    return Count(
        requests.met,
        requests.counted,
        tuple(zip(good, counted, strict=True)),
        dict(Counter(str(record.outcome) for record in requests.records)),
        _ttft_p99(requests),
    )


def _ttft_p99(requests: Requests) -> float | None:
    """Of streams: a failed one took for ever."""
    streams = [record for record in requests.judged if record.streamed]
    whole = [record for record in streams if record.good]
    times = [time for record in whole if (time := record.ttft) is not None]
    failed = len(streams) - len(whole) + requests.unsent
    return finite(percentile(ordered(times, failed), 99))


class Evidence(msgspec.Struct, frozen=True):
    """All trials of one level together."""

    trials: Sequence[Trial] = ()
    seconds: float = 0.0

    def plus(self, trial: Trial, seconds: float) -> "Evidence":
        """With one more."""
        return Evidence((*self.trials, trial), self.seconds + seconds)

    @property
    def saturated(self) -> bool:
        """Whether any was."""
        return any(one.saturated for one in self.trials)

    @property
    def teams(self) -> list[str]:
        """Those of which anything is known."""
        return list(dict.fromkeys(team for one in self.trials for team in one.teams))

    def of(self, team: str) -> list[Count]:
        """A team's requests in each of them."""
        return [one.teams[team] for one in self.trials if team in one.teams]


def spread(counts: Sequence[Count]) -> float | None:
    """By how much the share of good ones varies more between parts than it would if each were good
    or not by itself: Pearson's chi square by its mean. None: it cannot be told, such as where all
    are good."""
    parts = [part for one in counts for part in one.parts if part[1]]
    total = sum(count for _, count in parts)
    share = sum(good for good, _ in parts) / total if total else 0.0
    if len(parts) < 2 or not 0 < share < 1:
        return None
    squares = sum((good - count * share) ** 2 / count for good, count in parts)
    return squares / (share * (1 - share)) / (len(parts) - 1)


class Weighed(msgspec.Struct, frozen=True):
    """Evidence as that many independent requests."""

    count: int
    late: float
    """Of them, those that were not good."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Between what the share of good ones is (Wilson): each bound with that confidence."""
        return wilson(self._good, self.count, 2 * confidence - 1)

    def verdict(self, share: float, confidence: float, among: int = 1) -> Verdict:
        """Whether at least that share is good. `among` is how many teams are judged: any of them
        may fail the level, so that each has but its part of the chance to do so wrongly.

        Two tests must agree. Wilson's interval is what is shown; where few failures are expected it
        is too narrow (where 1% are late, 1 of 10 is once in ten times, and outside of its 99%). So
        the exact binomial tail must say the same: for what passes that is MLPerf's early stopping.
        """
        most, least = min(math.ceil(self.late - 1e-9), self.count), int(self.late + 1e-9)
        wrong = (1 - confidence) / among
        low, high = self.interval(confidence)[0], self.interval(1 - wrong)[1]
        if low >= share and early_stopping.passes(most, self.count, share, confidence):
            return Verdict.PASSED
        chance = binomial.at_most(self.count - least, self.count, share)
        if high < share and chance < wrong:
            return Verdict.FAILED
        return Verdict.UNRESOLVED

    def times(self, share: float, confidence: float) -> float | None:
        """So many times as many it would have to be to tell, if things go on so. None: it is too
        near to tell by any number, or nothing came."""
        wanted = needed(self._good, self.count, share, 2 * confidence - 1)
        if wanted is None or not self.count:
            return None
        return max(wanted, early_stopping.in_time_needed(0, share, confidence)) / self.count

    @property
    def _good(self) -> int:
        return self.count - min(round(self.late), self.count)


def weigh(counts: Sequence[Count], spread: float) -> Weighed:
    """By that spread; one below 1 is chance."""
    spread = max(spread, 1.0)
    count = sum(one.counted for one in counts)
    late = sum(one.counted - one.good for one in counts)
    return Weighed(int(count / spread), min(late / spread, int(count / spread)))
