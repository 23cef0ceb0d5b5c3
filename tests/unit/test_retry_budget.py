"""Retries are a part of the requests, whatever fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.routing.retry_budget import RetryBudget

# Seconds until it happens, and how many requests arrive or retries are asked for.
events = st.lists(
    st.tuples(
        st.floats(0, 30, allow_nan=False),
        st.sampled_from(["request", "retry"]),
        st.integers(1, 30),
    ),
    max_size=60,
)


def granted(budget: RetryBudget, now: float, asked: int) -> int:
    return sum(budget.take(now) for _ in range(asked))


@given(st.floats(0, 1), st.floats(0, 5), st.floats(1, 200), events)
def test_no_more_than_a_part_of_the_requests_the_floor_and_what_was_there_at_the_start(
    ratio: float, floor: float, most: float, events: list[tuple[float, str, int]]
) -> None:
    budget = RetryBudget(ratio, floor, 1000.0, most=most)
    start, passed, requests, retries = budget.balance(1000.0), 0.0, 0, 0
    for wait, what, count in events:
        passed += wait
        if what == "request":
            requests += count
            for _ in range(count):
                budget.deposit(1000.0 + passed)
        else:
            retries += granted(budget, 1000.0 + passed, count)
        assert retries <= ratio * requests + floor * passed + start + 1e-6
        assert 0 <= budget.balance(1000.0 + passed) <= most
    assert budget.spent == retries


def test_when_all_engines_fail_the_traffic_grows_by_the_ratio() -> None:
    budget = RetryBudget(0.2, 0.0, 0.0)
    for _ in range(1000):
        budget.deposit(0.0)
        budget.take(0.0)
    assert budget.spent == pytest.approx(200, abs=1)
    assert budget.spent + budget.refused == 1000


def test_a_gateway_that_has_just_started_may_retry() -> None:
    assert RetryBudget(0.2, 1.0, 0.0).take(0.0)


def test_one_request_a_minute_may_be_retried_each_time() -> None:
    budget = RetryBudget(0.2, 0.1, 0.0)
    for minute in range(100):
        budget.deposit(minute * 60.0)
        assert budget.take(minute * 60.0)


def test_all_that_wait_for_one_engine_may_be_retried_but_a_quiet_night_saves_up_no_more() -> None:
    budget = RetryBudget(0.2, 1.0, 0.0, most=100)
    assert granted(budget, 8 * 3600.0, 1000) == 100
    assert budget.refused == 900


def test_a_ratio_and_a_floor_of_nothing_mean_no_retries() -> None:
    budget = RetryBudget(0.0, 0.0, 0.0)
    budget.deposit(0.0)
    assert not budget.take(3600.0)


def test_a_clock_that_is_set_back_gives_nothing_twice() -> None:
    budget = RetryBudget(0.0, 1.0, 100.0)
    assert granted(budget, 100.0, 20) == 10
    budget.balance(50.0)
    assert granted(budget, 100.0, 20) == 0
