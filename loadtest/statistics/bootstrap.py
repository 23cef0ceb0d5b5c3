"""How much of a difference between two runs is chance: blocks of time are drawn again.

Requests that are sent together are slow together, so single ones tell less than their number says.
A block of time is drawn with all its requests, and of both runs at once: what both have in common,
such as a burst of arrivals, is not taken for a difference.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RESAMPLES: Final = 1000
BLOCKS: Final = 40
"""So many blocks at most. Fewer and longer ones keep more of what goes together in one."""
LEAST_BLOCKS: Final = 10
"""With fewer, intervals are far too short."""


def blocks(times: Floats, most: int = BLOCKS, shortest: float = 1.0) -> Integers:
    """The number of each request's block: equal parts of the time from the first to the last, and
    at least `shortest` seconds. Numbers go from 0 without holes."""
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    begin = float(times.min())
    length = float(times.max()) - begin
    parts = min(most, max(int(length / shortest), 1))
    raw = np.minimum((times - begin) * parts / max(length, 1e-9), parts - 1).astype(np.int64)
    return np.unique(raw, return_inverse=True)[1].astype(np.int64)


def draws(count: int, resamples: int = RESAMPLES, seed: int = 1) -> Integers:
    """How often each of `count` blocks is in each resample: a row of it for each."""
    source = np.random.default_rng(seed)
    return source.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.int64)


def percentiles(values: Floats, block: Integers, drawn: Integers, percent: float) -> Floats:
    """The percentile of each resample, by nearest rank.

    Values are put in order once, and counted by cells of about the root of their number: of each
    resample only one cell is gone through.
    """
    order = np.argsort(values, kind="stable")
    ascending, places = values[order], block[order]
    size = math.isqrt(len(values)) + 1
    cells = np.zeros((-(-len(values) // size), drawn.shape[1]))
    np.add.at(cells, (np.arange(len(values)) // size, places), 1)
    upto = drawn @ np.cumsum(cells, axis=0).T
    found = np.empty(len(drawn))
    for number, weights in enumerate(drawn):
        rank = max(math.ceil(round(percent * float(upto[number, -1]) / 100, 9)), 1)
        cell = int(np.searchsorted(upto[number], rank))
        before = upto[number, cell - 1] if cell else 0
        inside = np.cumsum(weights[places[cell * size : (cell + 1) * size]])
        found[number] = ascending[cell * size + np.searchsorted(inside, rank - before)]
    return found


def interval(statistics: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Between what the middle ones of the resamples are. Values may be infinite."""
    ascending = np.sort(statistics)
    beyond = (1 - confidence) / 2
    low = math.floor(beyond * (len(ascending) - 1))
    return float(ascending[low]), float(ascending[len(ascending) - 1 - low])


def change(before: Floats, after: Floats) -> Floats:
    """By how much of `before` `after` is more, in percent. From infinite to infinite is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (after - before) / before * 100
    same = after == before
    lost = np.isinf(before) & ~np.isinf(after)
    return np.where(same, 0.0, np.where(lost, -100.0, found))
