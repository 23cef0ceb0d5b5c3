"""When the requests of an open loop are due: independent of how long answers take.

Nothing is adjusted afterwards so that a run has exactly rate times duration requests: that would
make the gaps of a Poisson process dependent on each other. A rate is a mean.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import UserError
from loadtest.scenario.arrivals import Constant, Gamma, Poisson, Ramp, Steps

OpenLoop = Poisson | Constant | Gamma | Ramp | Steps
Times = NDArray[np.float64]
Span = tuple[float, float]

MOST: Final = 20_000_000
"""Requests of a team in a run. More would not fit the memory of a usual machine."""


def times(arrivals: OpenLoop, span: Span, duration: float, seed: int) -> Times:
    """When they are due, in order, s since the run's start; from the first of `span` to before the
    last. A ramp and steps go over the whole `duration`, of which the span may be a part.

    Raises `UserError` if there would be more than `MOST`.
    """
    start, stop = span
    if stop <= start:
        return np.empty(0)
    rng = np.random.Generator(np.random.PCG64(seed))
    match arrivals:
        case Poisson():
            _check((stop - start) * arrivals.rate)
            due = start + _exponential((stop - start) * arrivals.rate, rng) / arrivals.rate
        case Constant():
            _check((stop - start) * arrivals.rate)
            due = _constant(arrivals.rate, span, rng)
        case Gamma():
            _check((stop - start) * arrivals.rate)
            due = start + _gamma(arrivals, stop - start, rng)
        case Ramp():
            due = _ramp(arrivals, span, duration, rng)
        case Steps():
            due = _steps(arrivals, span, duration, rng)
    # A sum may be rounded up to the end.
    return due[(due >= start) & (due < stop)]


def _exponential(length: float, rng: np.random.Generator) -> Times:
    """A Poisson process of rate 1, up to `length`."""
    return _renewal(length, lambda count: -np.log1p(-rng.random(count)))


def _constant(rate: float, span: Span, rng: np.random.Generator) -> Times:
    """The first is anywhere within the first gap: else all teams would send at one instant."""
    start, stop = span
    first = rng.random() / rate
    return start + first + np.arange(math.ceil((stop - start) * rate) + 1) / rate


def _gamma(arrivals: Gamma, length: float, rng: np.random.Generator) -> Times:
    """As if it had been going on before: the first gap is what is left of one that was met at a
    random instant. With a whole gap there the mean rate of a short run would be another."""
    shape, scale = arrivals.burstiness, 1 / (arrivals.rate * arrivals.burstiness)
    first = rng.random() * rng.standard_gamma(shape + 1) * scale
    return _renewal(length, lambda count: rng.standard_gamma(shape, count) * scale, first)


def _renewal(length: float, gaps: Callable[[int], Times], first: float | None = None) -> Times:
    """Sums of gaps, up to `length`."""
    sums = np.cumsum(gaps(1)) if first is None else np.array([first])
    while sums[-1] < length:
        _check(len(sums))
        sums = np.concatenate([sums, sums[-1] + np.cumsum(gaps(max(1024, len(sums))))])
    return sums[sums < length]


def _ramp(ramp: Ramp, span: Span, duration: float, rng: np.random.Generator) -> Times:
    """A process of rate 1, in the time in which the ramp is one: the integral of its rate."""
    slope = (ramp.end - ramp.start) / duration

    def passed(at: float) -> float:
        return ramp.start * at + slope * at * at / 2

    before, after = map(passed, span)
    _check(after - before)
    sums = np.maximum(before + _exponential(after - before, rng), np.finfo(np.float64).tiny)
    # The root in the form that also holds for a slope of 0.
    root: Times = np.sqrt(ramp.start**2 + 2 * slope * sums)
    return 2 * sums / (ramp.start + root)


def _steps(steps: Steps, span: Span, duration: float, rng: np.random.Generator) -> Times:
    rates = np.array(steps.rates)
    knots = np.linspace(0, duration, len(rates) + 1)
    passed = np.concatenate([[0.0], np.cumsum(rates * duration / len(rates))])
    before, after = (float(np.interp(at, knots, passed)) for at in span)
    _check(after - before)
    return np.interp(before + _exponential(after - before, rng), passed, knots)


def _check(expected: float) -> None:
    if expected > MOST:
        raise UserError(
            f"a team would send {expected:,.0f} requests or more, and {MOST:,} is the most: "
            "lower its rate or the duration"
        )
