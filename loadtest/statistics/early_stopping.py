"""MLPerf's test of a percentile: how few requests are enough to say that it is kept.

Had exactly the promised share of requests its latency, so few late ones among so many would be
rare: the binomial tail. With that below 1%, the run may stop and is good. A tolerance moves the
share that is tested down by itself. As in LoadGen (`early_stopping.cc`, `results.cc`: confidence
0.99, tolerance 0), which a test holds this to.

Shares are of 1 here: 0.99 is the 99th percentile.
"""

from typing import Final

from loadtest.statistics import binomial
from loadtest.statistics.quantiles import Ordered, finite

CONFIDENCE: Final = 0.99


def odds(late: int, count: int, share: float, tolerance: float = 0.0) -> float:
    """The chance of at most so many late ones, had exactly `share - tolerance` been in time."""
    return binomial.at_most(late, count, 1 - share + tolerance)


def passes(
    late: int, count: int, share: float, confidence: float = CONFIDENCE, tolerance: float = 0.0
) -> bool:
    """Whether so many late ones of `count` show that at least `share` of all are in time."""
    return count > late and odds(late, count, share, tolerance) < 1 - confidence


def in_time_needed(
    late: int, share: float, confidence: float = CONFIDENCE, tolerance: float = 0.0
) -> int:
    """How many must be in time, beside `late` ones, for that to be shown: LoadGen's h. Raises
    `ValueError` for a share that no number shows."""
    if not 0 < share - tolerance < 1:
        raise ValueError(f"no number of requests shows that a share of {share - tolerance} is kept")
    high = 1
    while not passes(late, late + high, share, confidence, tolerance):
        high *= 2
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        if passes(late, late + middle, share, confidence, tolerance):
            high = middle
        else:
            low = middle + 1
    return high


def more_needed(late: int, count: int, share: float, confidence: float = CONFIDENCE) -> int:
    """How many more requests are needed, if none of them is late. 0: it is shown already."""
    return max(in_time_needed(late, share, confidence) + late - count, 0)


def bound(times: Ordered, share: float, confidence: float = CONFIDENCE) -> float | None:
    """What the percentile surely is not above: the t-th highest time, t being the most late ones
    that this many requests may have. None: there are too few, or it is infinite."""
    count = len(times)
    if not passes(1, count, share, confidence):
        return None
    low, high = 1, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        if passes(middle, count, share, confidence):
            low = middle
        else:
            high = middle - 1
    return finite(float(times[count - low]))
