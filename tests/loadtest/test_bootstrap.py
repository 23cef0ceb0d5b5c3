"""Intervals of differences hold what is known, and see what requests have in common."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.statistics import bootstrap
from loadtest.statistics.bootstrap import Floats
from loadtest.statistics.quantiles import ordered, percentile


def test_blocks_are_equal_parts_of_the_time() -> None:
    times = np.arange(100, dtype=np.float64)
    block = bootstrap.blocks(times, most=10)
    assert np.bincount(block).tolist() == [10] * 10
    assert (np.diff(block) >= 0).all()


def test_blocks_are_no_shorter_than_said_and_have_no_holes() -> None:
    assert bootstrap.blocks(np.array([0.0, 0.5, 1.5, 3.0])).max() + 1 == 3
    assert bootstrap.blocks(np.array([0.0, 1000.0])).tolist() == [0, 1]
    assert bootstrap.blocks(np.array([])).tolist() == []
    assert bootstrap.blocks(np.array([5.0, 5.0])).tolist() == [0, 0]


def test_the_same_seed_draws_the_same() -> None:
    assert (bootstrap.draws(20, seed=4) == bootstrap.draws(20, seed=4)).all()
    assert (bootstrap.draws(20, seed=4) != bootstrap.draws(20, seed=5)).any()
    assert (bootstrap.draws(20).sum(axis=1) == 20).all()


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=40),
    st.sampled_from([1.0, 50.0, 90.0, 99.0, 100.0]),
    st.integers(1, 6),
    st.integers(0, 100),
)
def test_a_resample_has_the_percentile_of_what_was_drawn(
    values: list[float], percent: float, count: int, seed: int
) -> None:
    block = np.arange(len(values), dtype=np.int64) % count
    count = int(block.max()) + 1
    drawn = bootstrap.draws(count, 5, seed)
    found = bootstrap.percentiles(np.array(values), block, drawn, percent)
    for weights, one in zip(drawn, found, strict=True):
        by_hand = [
            value
            for value, place in zip(values, block, strict=True)
            for _ in range(int(weights[place]))
        ]
        assert one == percentile(ordered(by_hand), percent)


def test_changes_are_in_percent_and_know_infinity() -> None:
    before = np.array([1.0, 2.0, math.inf, 1.0, math.inf, 0.0])
    after = np.array([1.2, 1.0, math.inf, math.inf, 1.0, 0.0])
    assert bootstrap.change(before, after).tolist() == pytest.approx(
        [20.0, -50.0, 0.0, math.inf, -100.0, 0.0]
    )


def _pair(source: np.random.Generator, count: int) -> tuple[Floats, Floats, Floats]:
    """Two runs of the same requests, the second by 20% slower: what is asked for makes most of a
    time, and ten seconds are slow or fast together."""
    times = np.sort(source.uniform(0, 400, count))
    moods = np.exp(0.3 * source.normal(size=40))[(times // 10).astype(int)]
    asked = source.exponential(size=count) * moods
    before = asked * np.exp(0.1 * source.normal(size=count))
    after = 1.2 * asked * np.exp(0.1 * source.normal(size=count))
    return times, before, after


@pytest.mark.parametrize("percent", [50.0, 90.0, 99.0])
def test_intervals_hold_a_known_shift_as_often_as_they_say(percent: float) -> None:
    source = np.random.default_rng(2)
    held = told = 0
    for seed in range(120):
        times, before, after = _pair(source, 1000)
        block = bootstrap.blocks(times)
        drawn = bootstrap.draws(int(block.max()) + 1, 300, seed)
        first, second = (
            bootstrap.percentiles(values, block, drawn, percent) for values in (before, after)
        )
        low, high = bootstrap.interval(bootstrap.change(first, second))
        held += low <= 20 <= high
        told += low > 0
    assert held / 120 >= 0.93
    # They are narrow enough to see it, except where few requests are that slow.
    assert percent == 99.0 or told / 120 > 0.9


def test_requests_that_are_slow_together_are_not_counted_as_many() -> None:
    """A mean of 40 independent blocks of 25 alike: single requests drawn say a fifth of the
    spread that there is, blocks say it."""
    source = np.random.default_rng(9)
    values = np.repeat(source.normal(10, 1, size=40), 25)
    spread = 1 / math.sqrt(40)
    widths = []
    for block in (np.arange(1000) // 25, np.arange(1000)):
        drawn = bootstrap.draws(int(block.max()) + 1, 500)
        medians = bootstrap.percentiles(values, block.astype(np.int64), drawn, 50)
        low, high = bootstrap.interval(medians)
        widths.append(high - low)
    assert widths[0] > 2 * spread
    assert widths[1] < widths[0] / 2
