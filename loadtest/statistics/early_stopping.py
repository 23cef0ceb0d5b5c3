"""MLPerf's test of a percentile: how few requests are enough to say that it is kept.

Had exactly the promised share of requests its latency, so few late ones among so many would be
rare: the binomial tail. With that below 1%, the run may stop and is good. As in LoadGen
(`early_stopping.cc`: confidence 0.99, tolerance 0), which a test holds this to.

Shares are of 1 here: 0.99 is the 99th percentile.
"""

from typing import Final

from loadtest.statistics import binomial

CONFIDENCE: Final = 0.99


def odds(late: float, count: float, share: float) -> float:
    """The chance of at most so many late ones, had exactly `share` been in time."""
    return binomial.at_most(late, count, 1 - share)


def passes(late: float, count: float, share: float, confidence: float = CONFIDENCE) -> bool:
    """Whether so many late ones of `count` show that at least `share` of all are in time."""
    return count > late and odds(late, count, share) < 1 - confidence


def in_time_needed(late: int, share: float, confidence: float = CONFIDENCE) -> int:
    """How many must be in time, beside `late` ones, for that to be shown: LoadGen's h. Raises
    `ValueError` for a share that no number shows."""
    if not 0 < share < 1:
        raise ValueError(f"no number of requests shows that a share of {share} is kept")
    high = 1
    while not passes(late, late + high, share, confidence):
        high *= 2
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        if passes(late, late + middle, share, confidence):
            high = middle
        else:
            low = middle + 1
    return high
