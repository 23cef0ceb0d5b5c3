"""Percentiles of times of which some are infinite, and how surely they are known.

A failed request took for ever: then shedding load makes no percentile better. A percentile is by
nearest rank, the smallest time that at least so many percent do not exceed: it is one that was
measured, and nothing is interpolated between a time and infinity.
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from loadtest.statistics import binomial

Ordered = npt.NDArray[np.float64]
"""Times in ascending order, infinite ones last."""


def ordered(times: Iterable[float], failed: int = 0) -> Ordered:
    """These times, and as many infinite ones as failed."""
    known = np.fromiter(times, dtype=np.float64)
    return np.sort(np.concatenate([known, np.full(failed, math.inf)]))


def rank(percent: float, count: int) -> int:
    """Which of `count` in order it is, from 1."""
    # 99.9 * 1000 / 100 is a little more than 999, in floating point.
    return min(max(math.ceil(round(percent * count / 100, 9)), 1), count)


def percentile(times: Ordered, percent: float) -> float | None:
    """Infinite where it falls among the failed ones, None where there are no times at all."""
    return float(times[rank(percent, len(times)) - 1]) if len(times) else None


def finite(time: float | None) -> float | None:
    """None for infinity: JSON has no such number."""
    return time if time is not None and math.isfinite(time) else None


def ranks(percent: float, count: int, confidence: float = 0.95) -> tuple[int, int]:
    """Between which two of `count` in order the true percentile is, with at least that confidence.

    Whatever the distribution: how many of a sample are below its percentile is binomial. Ranks are
    from 1; 0, or one more than `count`, where the sample is too small for a bound on that side.
    """
    beyond = (1 - confidence) / 2
    share = percent / 100
    # P(at most low - 1 are below) <= beyond, and P(at most high - 1 are below) >= 1 - beyond.
    low = binomial.quantile(beyond, count, share)
    if binomial.at_most(low, count, share) <= beyond:
        low += 1
    return low, binomial.quantile(1 - beyond, count, share) + 1


def interval(
    times: Ordered, percent: float, confidence: float = 0.95
) -> tuple[float | None, float | None]:
    """Between which times the true percentile is. None: infinite, or the sample is too small."""
    if not len(times):
        return None, None
    low, high = ranks(percent, len(times), confidence)
    below = float(times[low - 1]) if low >= 1 else None
    above = float(times[high - 1]) if high <= len(times) else None
    return finite(below), finite(above)
