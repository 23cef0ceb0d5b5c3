"""MLPerf's early stopping, as its own load generator computes it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.statistics import early_stopping


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


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_number_shows_that_all_are_in_time(share: float) -> None:
    assert not early_stopping.passes(0, 1_000_000, 1.0)
    with pytest.raises(ValueError, match="no number of requests"):
        early_stopping.in_time_needed(0, share)
