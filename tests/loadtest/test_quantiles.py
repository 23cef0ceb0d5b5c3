"""Percentiles are times that were measured, failures make them infinite, and intervals hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.statistics import binomial
from loadtest.statistics.quantiles import finite, interval, ordered, percentile, rank, ranks

TIMES = st.lists(st.floats(0, 1000), min_size=1, max_size=60)
PERCENTS = st.one_of(
    st.sampled_from([1.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0]), st.floats(0.1, 100)
)


@given(TIMES, st.integers(0, 20), PERCENTS)
def test_a_percentile_is_the_smallest_time_that_enough_do_not_exceed(
    times: list[float], failed: int, percent: float
) -> None:
    everything = sorted([*times, *[math.inf] * failed])
    enough = percent * len(everything) / 100 - 1e-7
    by_search = next(
        time for time in everything if sum(other <= time for other in everything) >= enough
    )
    assert percentile(ordered(times, failed), percent) == by_search


@pytest.mark.parametrize(
    ("percent", "count", "expected"),
    [
        (50, 1, 1),
        (50, 2, 1),
        (50, 3, 2),
        (99, 100, 99),
        (99, 101, 100),
        (7, 100, 7),
        (99.9, 1000, 999),
    ],
)
def test_ranks_are_not_moved_by_floating_point(percent: float, count: int, expected: int) -> None:
    assert rank(percent, count) == expected


def test_failures_are_slower_than_anything() -> None:
    times = ordered([0.1] * 99, failed=1)
    assert percentile(times, 99) == 0.1
    assert percentile(times, 99.5) == math.inf
    assert finite(percentile(times, 99.5)) is None


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile(ordered([]), 50) is None
    assert interval(ordered([]), 50) == (None, None)


def test_the_interval_of_a_median_of_ten_is_the_one_in_the_tables() -> None:
    """Ranks 2 and 9, with 97.9%: 1 to 10 is more than needed, 3 to 8 (89%) is too little."""
    assert ranks(50, 10) == (2, 9)
    covered = binomial.at_most(8, 10, 0.5) - binomial.at_most(1, 10, 0.5)
    assert covered == pytest.approx(0.97852, abs=1e-5)


def test_too_small_a_sample_bounds_a_high_percentile_on_one_side_only() -> None:
    low, high = ranks(99, 100)
    assert low >= 1
    assert high == 101
    assert interval(ordered(range(100)), 99)[1] is None


def test_an_interval_that_reaches_into_the_failures_has_no_upper_end() -> None:
    low, high = interval(ordered(range(1000), failed=8), 99)
    assert low is not None
    assert high is None


@pytest.mark.parametrize(("percent", "count"), [(50, 15), (90, 100), (99, 1000), (99, 3000)])
def test_intervals_hold_the_true_percentile_as_often_as_they_say(
    percent: float, count: int
) -> None:
    source = np.random.default_rng(7)
    true = -math.log(1 - percent / 100)
    low, high = ranks(percent, count)
    samples = np.sort(source.exponential(size=(2000, count)), axis=1)
    above = samples[:, high - 1] if high <= count else np.full(2000, math.inf)
    held = (samples[:, low - 1] <= true) & (true <= above)
    assert held.mean() >= 0.93
    # And they are not there for nothing: with half the ranks they hold less.
    middle = rank(percent, count)
    narrow = samples[:, (low + middle) // 2 - 1] <= true
    assert (narrow & (true <= samples[:, min((high + middle) // 2, count) - 1])).mean() < 0.93


@given(st.integers(0, 80), st.integers(1, 80), st.floats(0.01, 0.99))
def test_binomial_tails_are_the_sums_that_they_stand_for(
    good: int, count: int, share: float
) -> None:
    exact = sum(
        math.comb(count, each) * share**each * (1 - share) ** (count - each)
        for each in range(min(good, count) + 1)
    )
    assert binomial.at_most(good, count, share) == pytest.approx(exact, abs=1e-11)


@given(st.floats(0, 1), st.floats(0.1, 50))
def test_the_incomplete_beta_function_has_its_closed_forms(x: float, a: float) -> None:
    assert binomial.beta(x, a, 1) == pytest.approx(x**a, abs=1e-11)
    assert binomial.beta(x, 1, a) == pytest.approx(1 - (1 - x) ** a, abs=1e-11)
    assert binomial.beta(0.5, a, a) == pytest.approx(0.5, abs=1e-11)


def test_tails_of_ten_millions_are_exact_too() -> None:
    """At the median of a symmetrical one: a half, and half of the middle term."""
    half_of_middle = 0.5 / math.sqrt(math.pi * 5_000_000)
    assert binomial.at_most(5_000_000, 10_000_000, 0.5) == pytest.approx(
        0.5 + half_of_middle, abs=1e-8
    )


@given(st.floats(0.001, 0.999), st.integers(1, 500), st.floats(0.01, 0.99))
def test_a_quantile_is_the_least_number_that_is_likely_enough(
    chance: float, count: int, share: float
) -> None:
    found = binomial.quantile(chance, count, share)
    assert binomial.at_most(found, count, share) >= chance
    assert found == 0 or binomial.at_most(found - 1, count, share) < chance
