"""Intervals of shares are those of the literature, and hold as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.statistics.intervals import needed, newcombe, wilson

COUNTS = st.integers(1, 2000).flatmap(
    lambda count: st.tuples(st.integers(0, count), st.just(count))
)


@pytest.mark.parametrize(
    ("good", "count", "low", "high"),
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(
    good: int, count: int, low: float, high: float
) -> None:
    assert wilson(good, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    # Newcombe, Interval estimation for the difference (1998), table II, method 10: 56/70 - 48/80.
    [
        ((48, 80, 56, 70), 0.0524, 0.3339),
        ((3, 10, 9, 10), 0.1705, 0.8090),
        ((0, 10, 0, 10), -0.2775, 0.2775),
    ],
)
def test_newcombes_interval_is_the_published_one(
    sample: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert newcombe(*sample) == pytest.approx((low, high), abs=5e-5)


def test_of_nothing_anything_can_be() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 5, 5) == (-1.0, 1.0)


@pytest.mark.parametrize(("count", "share"), [(50, 0.9), (400, 0.99), (2000, 0.99), (100, 0.5)])
def test_wilsons_interval_holds_the_true_share_as_often_as_it_says(
    count: int, share: float
) -> None:
    source = np.random.default_rng(3)
    samples = source.binomial(count, share, size=4000).tolist()
    held = sum(low <= share <= high for low, high in (wilson(good, count) for good in samples))
    assert held / 4000 >= 0.93
    # The one with the standard deviation, at such shares, does not: this test can fail.
    if share >= 0.9 and count <= 400:
        plain = sum(
            abs(good / count - share) <= 1.96 * math.sqrt(good / count * (1 - good / count) / count)
            for good in samples
        )
        assert plain / 4000 < 0.93


@pytest.mark.parametrize("shares", [(0.99, 0.99), (0.99, 0.95), (0.5, 0.6)])
def test_newcombes_interval_holds_the_true_difference_as_often_as_it_says(
    shares: tuple[float, float],
) -> None:
    source = np.random.default_rng(5)
    first, second = (source.binomial(500, share, size=3000).tolist() for share in shares)
    true = shares[1] - shares[0]
    held = 0
    for good, other in zip(first, second, strict=True):
        low, high = newcombe(good, 500, other, 500)
        held += low <= true <= high
    assert held / 3000 >= 0.93


@given(COUNTS)
def test_the_share_itself_is_within_and_its_mirror_image_is_mirrored(
    counts: tuple[int, int],
) -> None:
    good, count = counts
    low, high = wilson(good, count)
    assert 0 <= low <= good / count <= high <= 1
    assert wilson(count - good, count) == pytest.approx((1 - high, 1 - low))


@given(COUNTS, COUNTS)
def test_the_difference_the_other_way_round_is_the_same_with_the_other_sign(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    low, high = newcombe(*one, *other)
    assert newcombe(*other, *one) == pytest.approx((-high, -low))


@given(COUNTS, st.floats(0.05, 0.99))
def test_with_as_many_as_are_said_to_be_needed_it_is_known(
    counts: tuple[int, int], share: float
) -> None:
    good, count = counts
    wanted = needed(good, count, share)
    if wanted is None or wanted > 10**9:
        return
    many = math.ceil(wanted * 1.001) + 1
    # As many times as that, at the same ratio: by the score test, of which it is the inversion.
    off = abs(good / count - share)
    assert off * off * many >= 1.95**2 * share * (1 - share)
    assert off * off * (wanted - 1) <= 1.97**2 * share * (1 - share)


def test_a_share_that_is_the_promised_one_is_never_told_from_it() -> None:
    assert needed(99, 100, 0.99) is None
    assert needed(50, 50, 0.9) == 35
    assert wilson(35, 35)[0] >= 0.9 > wilson(34, 34)[0]
