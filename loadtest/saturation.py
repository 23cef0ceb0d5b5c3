"""Whether a run is beyond what the service can do: then it has no steady state, and need not go on.

In an open loop beyond capacity the number of open requests and the time to the first token both
grow without end. Both are looked at over the second half of the time until now, so that filling an
empty service, which looks alike at first, is soon left behind; each is cut into equal blocks whose
means are taken, and must grow in two ways:

- the slope of its regression on time is above 0 by Student's t-test;
- so is the mean of its steps from block to block. The regression takes errors to be independent,
  and in a queue they are not: it remembers. If it remembered all, as a random walk does, this test
  would be exact; where it remembers less, the test says yes less often.

A closed loop has as many open requests as clients: this never says yes to it.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from loadtest.statistics.binomial import beta


@dataclass(frozen=True, slots=True)
class Rules:
    """When it is said."""

    chance: float = 0.001
    """Of one test to say yes where nothing grows. It is made again and again: by simulation, fewer
    than 5 of 100 runs of two minutes at 90% of capacity are called saturated, and hardly any at
    less."""
    blocks: int = 12
    least: float = 20.0
    """Before that time of a run, s, nothing is said."""
    growth: float = 1.2
    """By so much the fitted number of open requests must grow from the first to the last block."""


class Saturation:
    """Watches one run: `note` it at about equal times, for example each second."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._times: list[float] = []
        self._opens: list[float] = []
        self._ttfts: list[float | None] = []

    def note(self, at: float, opened: int, ttft: float | None) -> None:
        """How many requests are open at a time of the run, s, and what time to the first token is
        usual just then, s (a median of the last seconds; None: none came)."""
        self._times.append(at)
        self._opens.append(opened)
        self._ttfts.append(ttft)

    @property
    def saturated(self) -> bool:
        """By what was noted until now."""
        if not self._times or self._times[-1] < self._rules.least:
            return False
        opens = self._blocks(self._opens)
        line = regress(opens)
        if line is None or line.chance > self._rules.chance:
            return False
        grown = line.at_end >= self._rules.growth * max(line.at_start, 1.0)
        return grown and self._grows(opens) and self._grows(self._blocks(self._ttfts))

    def _grows(self, blocks: Sequence[float]) -> bool:
        line = regress(blocks)
        bound = self._rules.chance
        return line is not None and line.chance <= bound and by_steps(blocks) <= bound

    def _blocks(self, values: Sequence[float | None]) -> list[float]:
        """The means of equal parts of the second half of the time. An empty part has none."""
        end = self._times[-1]
        width = end / 2 / self._rules.blocks
        edges = [
            bisect_left(self._times, end / 2 + number * width)
            for number in range(self._rules.blocks)
        ]
        parts = [
            [value for value in values[low:high] if value is not None]
            for low, high in zip(edges, [*edges[1:], len(values)], strict=True)
        ]
        return [fmean(part) for part in parts if part]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through values at equal distances."""

    at_start: float
    at_end: float
    chance: float
    """Of such a slope, or a greater one, if there were none."""


def regress(values: Sequence[float]) -> Line | None:
    """By least squares. None: fewer than three values say nothing."""
    count = len(values)
    if count < 3:
        return None
    middle, mean = (count - 1) / 2, fmean(values)
    spread = count * (count * count - 1) / 12
    slope = sum((x - middle) * (y - mean) for x, y in enumerate(values)) / spread
    rest = sum((y - mean - slope * (x - middle)) ** 2 for x, y in enumerate(values))
    error = math.sqrt(rest / (count - 2) / spread)
    return Line(mean - slope * middle, mean + slope * middle, _above(slope, error, count - 2))


def by_steps(values: Sequence[float]) -> float:
    """The chance of such a mean step from each value to the next, or a greater one, if the steps
    were of mean 0 and independent."""
    steps = [after - before for before, after in pairwise(values)]
    if len(steps) < 2:
        return 1.0
    return _above(fmean(steps), stdev(steps) / math.sqrt(len(steps)), len(steps) - 1)


def _above(mean: float, error: float, freedom: int) -> float:
    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return student(mean / error, freedom)


def student(t: float, freedom: int) -> float:
    """The chance of at least `t` by Student's distribution."""
    tail = beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return tail if t >= 0 else 1 - tail
