"""A number of tokens, drawn from what a scenario says about it."""

import math
import random
from bisect import bisect_right
from itertools import accumulate
from statistics import NormalDist
from typing import Final

from loadtest.scenario.lengths import Empirical, Fixed, Length, LogNormal, Uniform

_NORMAL: Final = NormalDist()
# The normal distribution has no value for 0, which is drawn once in 2^53 times.
_LEAST: Final = 2.0**-54
# So many draws of a length give its mean.
_USUAL: Final = 2000


def draw(length: Length, rng: random.Random) -> int:
    """At least 1. One random number is used whatever the distribution is, so that a change to one
    length leaves those after it as they were."""
    share = rng.random()
    match length:
        case Fixed():
            return length.tokens
        case Uniform():
            return length.low + int(share * (length.high - length.low + 1))
        case LogNormal():
            return _lognormal(length, share)
        case Empirical():
            return _empirical(length, share)


def _lognormal(length: LogNormal, share: float) -> int:
    """What is beyond a bound is set to it: the median stays what it is said to be."""
    deviation = length.sigma * _NORMAL.inv_cdf(max(share, _LEAST))
    highest = math.log(length.high) + 1  # its exponential always fits a float
    tokens = math.exp(min(math.log(length.median) + deviation, highest))
    return max(length.low, min(length.high, round(tokens)))


def _empirical(length: Empirical, share: float) -> int:
    if length.weights is None:
        return length.tokens[int(share * len(length.tokens))]
    sums = list(accumulate(length.weights))
    place = bisect_right(sums, share * sums[-1])
    return length.tokens[min(place, len(length.tokens) - 1)]


def usual(length: Length) -> list[int]:
    """Many of them, by which its mean and its tail are known: the same ones each time."""
    rng = random.Random(0)  # noqa: S311
    return [draw(length, rng) for _ in range(_USUAL)]
