"""MLPerf's early stopping, as its own load generator computes it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.statistics import early_stopping
from loadtest.statistics.quantiles import Ordered, ordered, percentile


@pytest.mark.parametrize(
    ("late", "share", "expected"),
    # What LoadGen's `MinPassingQueriesFinder` gives with tolerance 0 and confidence 0.99.
    [(0, 0.99, 459), (0, 0.9, 44), (1, 0.99, 661)],
)
def test_as_many_must_be_in_time_as_for_loadgen(late: int, share: float, expected: int) -> None:
    assert early_stopping.in_time_needed(late, share) == expected


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.97, 0.99, 0.999])
def test_with_none_late_it_is_a_power_of_the_share(share: float) -> None:
    assert early_stopping.in_time_needed(0, share) == math.ceil(math.log(0.01) / math.log(share))


def test_a_tolerance_moves_the_share_that_is_tested() -> None:
    assert early_stopping.in_time_needed(0, 0.99, tolerance=0.04) == early_stopping.in_time_needed(
        0, 0.95
    )


@given(st.integers(0, 40), st.sampled_from([0.9, 0.95, 0.99]))
def test_it_is_the_least_number_by_the_binomial_sum_itself(late: int, share: float) -> None:
    def tail(in_time: int) -> float:
        count = late + in_time
        return sum(
            math.comb(count, each) * (1 - share) ** each * share ** (count - each)
            for each in range(late + 1)
        )

    needed = early_stopping.in_time_needed(late, share)
    assert tail(needed) < 0.01 <= tail(needed - 1)


def test_what_is_missing_is_said() -> None:
    assert early_stopping.more_needed(0, 459, 0.99) == 0
    assert early_stopping.more_needed(0, 400, 0.99) == 59
    assert early_stopping.more_needed(1, 600, 0.99) == 62


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_number_shows_that_all_are_in_time(share: float) -> None:
    assert not early_stopping.passes(0, 1_000_000, 1.0)
    with pytest.raises(ValueError, match="no number of requests"):
        early_stopping.in_time_needed(0, share)


def test_the_bound_is_the_highest_time_but_those_that_may_be_late() -> None:
    assert early_stopping.bound(ordered(range(661)), 0.99) is None
    assert early_stopping.bound(ordered(range(662)), 0.99) == 661
    # 836 + 2 are needed for two late ones: then the second highest is the bound.
    assert early_stopping.bound(ordered(range(837)), 0.99) == 836
    assert early_stopping.bound(ordered(range(838)), 0.99) == 836
    assert early_stopping.bound(ordered([]), 0.99) is None


def test_the_bound_is_infinite_where_more_failed_than_may_be_late() -> None:
    assert early_stopping.bound(ordered(range(836), failed=1), 0.99) is None
    assert early_stopping.bound(ordered(range(837), failed=1), 0.99) == 836


def _by_search(times: Ordered, share: float) -> float | None:
    """As LoadGen looks for it: one more late one at a time."""
    count, late = len(times), 1
    if count < early_stopping.in_time_needed(1, share) + 1:
        return None
    while count >= early_stopping.in_time_needed(late + 1, share) + late + 1:
        late += 1
    return float(times[count - late])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1200), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_bound_is_found_as_by_going_through_all(count: int, share: float) -> None:
    times = ordered(range(count))
    assert early_stopping.bound(times, share) == _by_search(times, share)


def test_the_bound_is_above_the_true_percentile_as_often_as_it_says() -> None:
    source = np.random.default_rng(11)
    true = -math.log(0.01)
    held = above_plain = 0
    for _ in range(600):
        times = ordered(source.exponential(size=2000).tolist())
        bound, plain = early_stopping.bound(times, 0.99), percentile(times, 99)
        assert bound is not None
        assert plain is not None
        held += bound >= true
        above_plain += plain >= true
    assert held / 600 >= 0.97
    # The percentile itself is above in about half of the cases: that is why it is not used.
    assert above_plain / 600 < 0.7
