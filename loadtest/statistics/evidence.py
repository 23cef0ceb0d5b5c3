"""How much requests show of the share that is good, where neighbours are good or bad together.

In a queue requests are late together: a thousand of them may say no more than a hundred that are
independent. So the share of good ones is compared between parts of a run; where it varies more than
by chance, requests count for so much less, as survey statistics has it (the design effect). All
that is said of a share, of one run, of a search or of two runs, is said by these fewer ones.

It holds where a part is longer than what goes together, and where such things came some ten times:
what came once, or not at all, says little of how often it comes.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from loadtest.statistics import binomial, early_stopping
from loadtest.statistics.intervals import needed, newcombe, wilson

PARTS: Final = 10
"""Of a run. Each should be longer than what the service remembers: some times an answer."""


class Sample(msgspec.Struct, frozen=True):
    """Requests of one run."""

    good: int
    """Those that kept all objectives."""
    counted: int
    parts: Sequence[tuple[int, int]] = ()
    """Good ones and all, by part of the run. None: requests are taken to be independent."""


def sample(
    marks: Iterable[tuple[float, bool]], start: float, seconds: float, timeless: int = 0
) -> Sample:
    """Of requests by when they were due, s, and whether they were good, in a run that went on from
    `start` for so long. `timeless` ones more are bad, and of no part."""
    good, counted = [0] * PARTS, [0] * PARTS
    width = max(seconds, 1e-9) / PARTS
    for at, is_good in marks:
        part = min(max(int((at - start) / width), 0), PARTS - 1)
        good[part] += is_good
        counted[part] += 1
    parts = tuple(zip(good, counted, strict=True))
    return Sample(sum(good), sum(counted) + timeless, parts)


def spread(samples: Sequence[Sample]) -> float | None:
    """By how much the share of good ones varies more between parts than it would if each were good
    or not by itself. None: it cannot be told, such as where all are good.

    It is Pearson's chi square, by two less than its mean: seen in a few parts only, it may be off,
    and by so much the variance of Student's t is above that of the normal distribution.
    """
    parts = [part for one in samples for part in one.parts if part[1]]
    total = sum(count for _, count in parts)
    share = sum(good for good, _ in parts) / total if total else 0.0
    if len(parts) < 2 or not 0 < share < 1:
        return None
    squares = sum((good - count * share) ** 2 / count for good, count in parts)
    free = len(parts) - 1
    # Of three parts or two there is no such variance: they count as four do.
    return squares / (share * (1 - share)) / max(free - 2, free / 3)


class Weighed(msgspec.Struct, frozen=True):
    """Evidence as that many independent requests."""

    count: float
    late: float
    """Of them, those that were not good."""

    def interval(self, confidence: float) -> tuple[float, float]:
        """Between what the share of good ones is (Wilson): each bound with that confidence."""
        return wilson(self.good, self.count, 2 * confidence - 1)

    def kept(self, share: float, confidence: float, among: int = 1) -> bool | None:
        """Whether at least that share is good. None: it cannot be told. `among` is of how many that
        is asked: any of them may be said not to be, so that each has but its part of the chance to
        be so wrongly.

        Two tests must agree. Wilson's interval is what is shown; where few failures are expected it
        is too narrow (where 1% are late, 1 of 10 is once in ten times, and outside of its 99%). So
        the exact binomial tail must say the same: for what is kept that is MLPerf's early stopping.
        """
        if share >= 1 and self.late > 0:
            # A single one shows that not all are.
            return False
        wrong = (1 - confidence) / among
        low, high = self.interval(confidence)[0], self.interval(1 - wrong)[1]
        if low >= share and early_stopping.passes(self.late, self.count, share, confidence):
            return True
        if high < share and binomial.at_most(self.good, self.count, share) < wrong:
            return False
        return None

    def times(self, share: float, confidence: float) -> float | None:
        """So many times as many it would have to be to tell, if things go on so. None: it is too
        near to tell by any number, or nothing came."""
        if not self.count or not 0 < share < 1:
            return None
        wanted = needed(self.good, self.count, share, 2 * confidence - 1)
        if wanted is None:
            return None
        return max(wanted, early_stopping.in_time_needed(0, share, confidence)) / self.count

    @property
    def good(self) -> float:
        """Of them, those that were."""
        return self.count - self.late


def weigh(samples: Sequence[Sample], least: float = 1.0) -> Weighed:
    """All of them together, by their spread, or by `least` where that is more: less than 1 is
    chance."""
    by = max(spread(samples) or 1.0, least, 1.0)
    count = sum(one.counted for one in samples)
    late = sum(one.counted - one.good for one in samples)
    return Weighed(count / by, late / by)


def difference(one: Sample, other: Sample, confidence: float = 0.95) -> tuple[float, float]:
    """Between what the share of the other run minus that of the one is (Newcombe), by the greater
    spread of the two: that none missed together in the one, where they did in the other, may be
    luck."""
    first = weigh([one], spread([other]) or 1.0)
    second = weigh([other], spread([one]) or 1.0)
    return newcombe(first.good, first.count, second.good, second.count, confidence)
