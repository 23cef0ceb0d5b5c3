"""Arrivals are what they are called: by their counts and gaps, against closed forms.

Seeds are fixed, and bounds are five standard deviations wide: a right process passes with all but
one seed in a million, and the wrong ones that are shown fail by far.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UserError
from loadtest.plan import arrivals, seeds
from loadtest.plan.arrivals import OpenLoop, Times
from loadtest.scenario.arrivals import Constant, Gamma, Poisson, Ramp, Steps

SEEDS = range(5)
HOUR = (0.0, 3600.0)


def due(kind: OpenLoop, seed: int, span: tuple[float, float] = HOUR, duration: float = 0) -> Times:
    return arrivals.times(kind, span, duration or span[1], seeds.of(seed))


def poisson(rate: float) -> Poisson:
    return Poisson(kind="poisson", rate=rate)


def dispersion(times: Times, windows: int, span: tuple[float, float] = HOUR) -> float:
    """Variance by mean of the counts in windows: 1 for Poisson."""
    counts, _ = np.histogram(times, windows, span)
    return float(counts.var(ddof=1) / counts.mean())


def spread(windows: int) -> float:
    """Five standard deviations of that: a chi-square's with so many windows, by its degrees."""
    return 5 * math.sqrt(2 / (windows - 1))


def farthest(times: Times, share: Callable[[Times], Times]) -> float:
    """Kolmogorov's distance between values and a distribution, in units of its own spread."""
    shares = np.sort(share(times))
    steps = np.arange(len(shares) + 1) / len(shares)
    away = max(np.abs(shares - steps[1:]).max(), np.abs(shares - steps[:-1]).max())
    return float(away * math.sqrt(len(shares)))


# Beyond it are less than one in a million samples of the distribution.
KOLMOGOROV = 2.7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("windows", [36, 360, 3600])
def test_poisson_counts_vary_as_much_as_their_mean(seed: int, windows: int) -> None:
    assert abs(dispersion(due(poisson(5), seed), windows) - 1) < spread(windows)


def test_processes_with_one_seed_would_be_found_out() -> None:
    """What GuideLLM does: ten processes, each with a tenth of the rate, all with the same seed."""
    merged = np.concatenate([due(poisson(0.5), 1)] * 10)
    assert abs(dispersion(merged, 360) - 10) < 10 * spread(360)
    assert abs(dispersion(merged, 360) - 1) > spread(360)


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_gaps_are_exponential(seed: int) -> None:
    gaps = np.diff(due(poisson(5), seed))
    assert farthest(gaps, lambda at: 1 - np.exp(-5 * at)) < KOLMOGOROV
    assert farthest(gaps, lambda at: 1 - np.exp(-5.5 * at)) > KOLMOGOROV


@pytest.mark.parametrize(
    ("kind", "variation"),
    [
        (poisson(5), 1.0),
        (Constant(kind="constant", rate=5), 0.0),
        (Gamma(kind="gamma", rate=5, burstiness=0.25), 2.0),
        (Gamma(kind="gamma", rate=5, burstiness=1), 1.0),
        (Gamma(kind="gamma", rate=5, burstiness=16), 0.25),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_kind_has_its_rate_and_its_burstiness(
    kind: OpenLoop, variation: float, seed: int
) -> None:
    times = due(kind, seed)
    gaps = np.diff(times)
    expected = 5 * 3600
    # A renewal process's count has a variance of about its mean times the squared variation.
    assert abs(len(times) - expected) <= 5 * math.sqrt(expected) * variation
    assert float(gaps.std() / gaps.mean()) == pytest.approx(variation, rel=0.07, abs=1e-9)


def test_a_run_is_not_stretched_to_its_exact_number_of_requests() -> None:
    """`vllm bench serve` scales its gaps so that n requests take n/rate."""
    counts = {len(due(poisson(5), seed)) for seed in range(20)}
    assert len(counts) > 15


@pytest.mark.parametrize("burstiness", [0.1, 0.5, 4.0])
def test_short_bursty_runs_have_their_mean_rate_too(burstiness: float) -> None:
    """As if it had been going on: with a whole gap at the start it would be 4.5 more at 0.1."""
    kind = Gamma(kind="gamma", rate=1, burstiness=burstiness)
    counts = [len(due(kind, seed, (0.0, 10.0))) for seed in range(4000)]
    error = np.std(counts) / math.sqrt(len(counts))
    assert abs(np.mean(counts) - 10) < 5 * error
    assert error < 0.25


@pytest.mark.parametrize("seed", SEEDS)
def test_a_constant_rate_is_exact_and_teams_are_out_of_step(seed: int) -> None:
    times = due(Constant(kind="constant", rate=4), seed)
    assert len(times) == 4 * 3600
    assert np.diff(times) == pytest.approx(0.25, abs=1e-9)
    assert 0 <= times[0] < 0.25
    assert times[0] != due(Constant(kind="constant", rate=4), seed + 1)[0]


@pytest.mark.parametrize(("start", "end"), [(0, 10), (10, 1), (4, 4)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_ramp_follows_the_integral_of_its_rate(start: float, end: float, seed: int) -> None:
    def passed(at: Times) -> Times:
        return start * at + (end - start) * at * at / 7200

    times = due(Ramp(kind="ramp", start=start, end=end), seed)
    expected = float(passed(np.array([3600.0]))[0])
    assert abs(len(times) - expected) < 5 * math.sqrt(expected)
    assert farthest(times, lambda at: passed(at) / expected) < KOLMOGOROV
    if start != end:
        assert farthest(times, lambda at: at / 3600) > KOLMOGOROV


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_have_each_their_rate(seed: int) -> None:
    times = due(Steps(kind="steps", rates=[1, 8, 2]), seed)
    counts, _ = np.histogram(times, 3, HOUR)
    for count, rate in zip(counts, [1, 8, 2], strict=True):
        assert abs(count - rate * 1200) < 5 * math.sqrt(rate * 1200)
    middle = times[(times >= 1200) & (times < 2400)]
    assert abs(dispersion(middle, 120, (1200.0, 2400.0)) - 1) < spread(120)


def test_a_late_team_enters_a_ramp_where_it_is_by_then() -> None:
    ramp = Ramp(kind="ramp", start=0, end=100)
    times = due(ramp, 1, (3240.0, 3600.0), 3600)
    assert abs(len(times) - 95 * 360) < 5 * math.sqrt(95 * 360)


def test_a_late_team_enters_steps_where_they_are_by_then() -> None:
    steps = Steps(kind="steps", rates=[1, 8, 2])
    counts, _ = np.histogram(due(steps, 1, (1800.0, 3000.0), 3600), 2, (1800, 3000))
    assert abs(counts[0] - 8 * 600) < 5 * math.sqrt(8 * 600)
    assert abs(counts[1] - 2 * 600) < 5 * math.sqrt(2 * 600)


KINDS = st.one_of(
    st.builds(Poisson, kind=st.just("poisson"), rate=st.floats(0.001, 50)),
    st.builds(Constant, kind=st.just("constant"), rate=st.floats(0.001, 50)),
    st.builds(
        Gamma,
        kind=st.just("gamma"),
        rate=st.floats(0.001, 50),
        burstiness=st.floats(0.05, 100),
    ),
    st.builds(Ramp, kind=st.just("ramp"), start=st.floats(0, 50), end=st.floats(0.001, 50)),
    st.builds(
        Steps,
        kind=st.just("steps"),
        rates=st.lists(st.floats(0.001, 50), min_size=1, max_size=9),
    ),
)


@given(KINDS, st.floats(0, 200), st.floats(0, 200), st.integers(0, 2**63 - 1))
def test_times_are_in_order_and_within_the_teams_span(
    kind: OpenLoop, one: float, other: float, seed: int
) -> None:
    start, stop = sorted([one, other])
    times = arrivals.times(kind, (start, stop), 200.0, seed)
    assert np.isfinite(times).all()
    assert (np.diff(times) >= 0).all()
    assert ((times >= start) & (times < stop)).all()
    assert (times == arrivals.times(kind, (start, stop), 200.0, seed)).all()


@pytest.mark.parametrize(
    "kind",
    [
        poisson(1e9),
        Constant(kind="constant", rate=1e9),
        Gamma(kind="gamma", rate=1e9, burstiness=1),
        Ramp(kind="ramp", start=0, end=1e9),
        Steps(kind="steps", rates=[1, 1e9]),
    ],
)
def test_more_than_fits_the_memory_is_refused_before_it_is_made(kind: OpenLoop) -> None:
    with pytest.raises(UserError, match="lower its rate or the duration"):
        due(kind, 1)
