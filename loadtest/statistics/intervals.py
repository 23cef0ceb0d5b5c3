"""Between what a share is, when so many of so many were counted, independent of each other.

Counts may be broken: where requests go together they are worth fewer (`evidence`).
"""

import math
from statistics import NormalDist


def wilson(good: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share. Of nothing nothing is known: (0, 1).

    Unlike the one with the standard deviation it holds near 0 and 1, where objectives are.
    """
    if count == 0:
        return 0.0, 1.0
    z = _z(confidence)
    share = good / count
    weight = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / weight
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / weight
    # Exactly, where rounding would leave a little.
    low = 0.0 if good == 0 else max(centre - half, 0.0)
    high = 1.0 if good == count else min(centre + half, 1.0)
    return low, high


def needed(good: float, count: float, share: float, confidence: float = 0.95) -> int | None:
    """Of how many it would have to be, at this ratio, for `share` to be outside of Wilson's
    interval. None: of no number, it is that share itself."""
    off = good / count - share if count else 0.0
    if off == 0:
        return None
    z = _z(confidence)
    # The interval is where (ratio - share)^2 <= z^2 share (1 - share) / count.
    return math.ceil(z * z * share * (1 - share) / (off * off))


def newcombe(
    good: float, count: float, other_good: float, other_count: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Between what the other share minus the first one is, of independent samples: Newcombe's
    hybrid of two Wilson intervals (his method 10, Statistics in Medicine 17, 1998)."""
    if count == 0 or other_count == 0:
        return -1.0, 1.0
    first, other = good / count, other_good / other_count
    low, high = wilson(good, count, confidence)
    other_low, other_high = wilson(other_good, other_count, confidence)
    less = math.hypot(other - other_low, high - first)
    more = math.hypot(other_high - other, first - low)
    return other - first - less, other - first + more


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
