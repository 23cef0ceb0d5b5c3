"""A client comes again as its policy says, and what a server advises is read right."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.headers import retry_after
from loadtest.client.retry import RETRIED, may_retry, wait
from loadtest.outcome import GOOD, Outcome
from loadtest.scenario.workload import Retry

POLICIES = st.sampled_from(["naive", "backoff", "retry_after"])
WAITS = st.floats(0, 1e6)


@given(st.sampled_from(list(Outcome)), POLICIES, st.integers(1, 100), st.integers(1, 100))
def test_only_refusals_and_failures_are_retried_and_no_oftener_than_is_said(
    outcome: Outcome, policy: str, attempts: int, made: int
) -> None:
    retry = Retry.model_validate({"policy": policy, "attempts": attempts})
    expected = outcome in RETRIED and made < attempts
    assert may_retry(retry, outcome, made) == expected
    assert not may_retry(Retry(), outcome, made)


def test_what_a_client_or_its_request_is_to_blame_for_is_not_retried() -> None:
    blamed = {Outcome.AUTH, Outcome.BAD_4XX, Outcome.CANCELLED, Outcome.MALFORMED}
    assert not RETRIED & (blamed | GOOD)


@given(st.integers(1, 10_000), st.floats(0.001, 60), st.floats(0.001, 60), st.integers())
def test_backoff_is_anything_up_to_the_doubled_time_and_the_cap(
    made: int, base: float, cap: float, seed: int
) -> None:
    retry = Retry(policy="backoff", base=base, cap=cap)
    waited = wait(retry, made, None, random.Random(seed))
    assert 0 <= waited <= cap
    if made < 60:
        assert waited <= base * 2 ** (made - 1)
    assert waited == wait(retry, made, None, random.Random(seed))


def test_backoff_uses_all_of_its_range() -> None:
    retry, source = Retry(policy="backoff", base=1.0, cap=100.0), random.Random(1)
    waits = [wait(retry, 3, None, source) for _ in range(1000)]
    assert min(waits) < 0.1
    assert max(waits) > 3.9
    assert sum(waits) / len(waits) == pytest.approx(2.0, rel=0.1)


@given(st.none() | WAITS, st.integers(1, 20))
def test_naive_never_waits(advised: float | None, made: int) -> None:
    assert wait(Retry(policy="naive"), made, advised, random.Random(0)) == 0


@given(WAITS, st.integers(1, 20))
def test_advice_is_followed_to_the_point_by_those_who_listen(advised: float, made: int) -> None:
    source = random.Random(0)
    assert wait(Retry(policy="retry_after", cap=1), made, advised, source) == advised
    assert wait(Retry(policy="backoff", cap=1), made, advised, source) <= 1
    # Without advice they are alike.
    alike = [
        wait(Retry.model_validate({"policy": policy}), made, None, random.Random(5))
        for policy in ("retry_after", "backoff")
    ]
    assert alike[0] == alike[1]


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "3", "retry-after-ms": "2750"}, 2.75),
        ({"retry-after-ms": "20"}, 0.02),
        ({"retry-after": "3", "retry-after-ms": "soon"}, 3.0),
        ({"retry-after": http_date(30), "date": http_date(0)}, 30.0),
        ({"retry-after": http_date(-30), "date": http_date(0)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1_0"}, None),
    ],
)
def test_advice_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_the_servers_own_is_taken_against_this_machines_clock() -> None:
    until = datetime.now(UTC) + timedelta(seconds=100)
    advised = retry_after({"retry-after": format_datetime(until, usegmt=True)})
    assert advised is not None
    assert 90 < advised <= 100


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_can_do_more_than_give_no_advice(value: str, date: str) -> None:
    advised = retry_after({"retry-after": value, "date": date, "retry-after-ms": date})
    assert advised is None or advised >= 0
