"""Requests that are missed together: bursts of misses whose share in the long run is known."""

import numpy as np
import numpy.typing as npt

SECONDS = 400.0
# Of the requests of a burst, those that miss.
_HIT = 0.8


def misses(
    source: np.random.Generator, share: float, length: float, rate: float = 5.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """When the requests of a run of 400 s were due, and whether each was good: in the long run that
    share is. Bursts last `length` seconds in the mean; 0: each request misses by itself."""
    due = np.sort(source.uniform(0, SECONDS, source.poisson(rate * SECONDS)))
    if not length:
        return due, source.random(len(due)) < share
    bad = (1 - share) / _HIT
    gap = length * (1 - bad) / bad
    within = np.zeros(len(due), dtype=bool)
    # So long before the run that it begins at any moment of this.
    at = -10 * (length + gap)
    while (at := at + source.exponential(gap)) < SECONDS:
        end = at + source.exponential(length)
        within[np.searchsorted(due, at) : np.searchsorted(due, end)] = True
        at = end
    return due, ~(within & (source.random(len(due)) < _HIT))
