"""How likely so many of so many are: the binomial distribution, also for millions.

Its tail is also that of numbers that are not whole, between those of the next ones that are: such
as of requests that are worth fewer, because they go together.
"""

import math
from typing import Final

# The continued fraction needs about the root of its larger parameter in steps.
_STEPS: Final = 1_000_000
_ENOUGH: Final = 1e-15
_TINY: Final = 1e-300


def at_most(good: float, count: float, share: float) -> float:
    """The chance that at most `good` of `count` happen, when each does with the chance `share`."""
    if good < 0:
        return 0.0
    if good >= count:
        return 1.0
    return beta(1.0 - share, count - good, good + 1)


def quantile(chance: float, count: int, share: float) -> int:
    """The least number that is not exceeded with at least that chance."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if at_most(middle, count, share) >= chance:
            high = middle
        else:
            low = middle + 1
    return low


def beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) for a, b > 0.

    Its continued fraction (DLMF 8.17.22), which converges fast below the mean; beyond, the other
    tail is computed.
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta(1 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    return front / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), by Lentz's method as Thompson and Barnett changed it."""
    value = numerator = 1.0
    denominator = 0.0
    for step in range(1, _STEPS):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + step - 1) * (a + step))
        denominator = 1.0 / _not_zero(1.0 + term * denominator)
        numerator = _not_zero(1.0 + term / numerator)
        change = numerator * denominator
        value *= change
        if abs(change - 1.0) < _ENOUGH:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
