"""What a limit let in is held against what it allows, in every stretch of time."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.measured import Span
from loadtest.outcome import Outcome
from loadtest.quotas import most_of_bucket, quotas
from loadtest.record import Attempt, Record
from loadtest.scenario.document import Limits
from loadtest.summary import Quota
from tests.loadtest.runs import answered, failed

MINUTES = Span(0.0, 300.0)


def _quota(records: list[Record], span: Span = MINUTES, began: float = 0.0, **limits: int) -> Quota:
    (found,) = quotas(Limits(**limits), records, span, began)
    return found


def _bucket(rate: float, times: list[float], holds: float) -> list[Record]:
    """Requests at these times, of which a bucket lets in what it has."""
    level, at, records = holds, 0.0, []
    for number, now in enumerate(times):
        level, at = min(level + (now - at) * rate, holds), now
        if level >= 1:
            level -= 1
            records.append(answered(number, now))
        else:
            records.append(failed(number, now, Outcome.QUOTA_429, status=429))
    return records


TIMES = st.lists(st.floats(0, 300), max_size=120).map(sorted)


@given(TIMES, st.integers(1, 60))
def test_a_bucket_of_a_minute_keeps_the_limit_whatever_comes(
    times: list[float], limit: int
) -> None:
    found = _quota(_bucket(limit / 60, times, limit), requests_per_minute=limit)
    assert found.kept
    assert found.offered == len(times)
    assert found.admitted <= found.entitled


def test_a_flood_gets_a_full_bucket_and_what_comes_in() -> None:
    found = _quota(_bucket(1.0, [n / 5 for n in range(1500)], 60), requests_per_minute=60)
    assert found.entitled == 60 + 300
    assert found.offered == 1500
    assert found.admitted == 359  # the last is let in at 299.x s
    # A second is allowed for: 359 or so of 361.
    assert found.worst_window == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("rate", "holds"), [(1.1, 60), (1.0, 66)])
def test_a_tenth_too_much_is_seen(rate: float, holds: float) -> None:
    """Be it of what comes in, or of what is there at once."""
    found = _quota(_bucket(rate, [n / 5 for n in range(1500)], holds), requests_per_minute=60)
    assert not found.kept
    assert found.worst_window > 1


def test_what_is_let_in_twice_at_the_edge_of_a_minute_is_allowed_and_three_times_is_not() -> None:
    """A limiter that counts by the clock's minute lets in 120 within a second: no more than a
    bucket would within a minute, but far more than within that second."""
    edge = [answered(n, 59.5 if n < 60 else 60.5) for n in range(120)]
    found = _quota(edge, requests_per_minute=60)
    assert not found.kept
    assert found.worst_window == pytest.approx(120 / 62)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=30),
    st.floats(1, 100),
    st.floats(0, 20),
)
def test_the_worst_stretch_is_found_as_by_going_through_all(
    came: list[tuple[float, float]], per_minute: float, allowance: float
) -> None:
    came.sort()
    worst = max(
        sum(amount for _, amount in came[first : last + 1])
        / (per_minute + allowance + per_minute / 60 * (1 + came[last][0] - came[first][0]))
        for first in range(len(came))
        for last in range(first, len(came))
    )
    times, amounts = [at for at, _ in came], [amount for _, amount in came]
    assert most_of_bucket(times, amounts, per_minute, allowance) == pytest.approx(worst, abs=1e-9)


def test_what_was_not_answered_was_not_let_in() -> None:
    """Refused, without a connection, or with a wrong key: it cost the team nothing."""
    records = [
        failed(0, 0.0, Outcome.QUOTA_429, status=429),
        failed(1, 0.0, Outcome.CAPACITY_503, status=503),
        failed(2, 0.0, Outcome.AUTH, status=401),
        failed(3, 0.0, Outcome.CONNECT, sent=None),
        failed(4, 0.0, Outcome.TRUNCATED, status=200),
    ]
    found = _quota(records, requests_per_minute=60)
    assert (found.offered, found.admitted) == (4, 1)


@pytest.mark.parametrize(
    ("holds", "used"),
    [(60, 1.0), (6, 306 / 360)],
)
def test_a_limit_that_lets_too_little_in_is_seen_too(holds: float, used: float) -> None:
    """It is offered far more than the 360 that it is entitled to."""
    found = _quota(_bucket(1.0, [n / 5 for n in range(1500)], holds), requests_per_minute=60)
    assert found.kept
    assert found.used == pytest.approx(used, abs=0.01)


def test_who_asks_for_less_than_it_may_have_should_get_all_of_it() -> None:
    assert _quota(_bucket(1.0, [n * 2.0 for n in range(100)], 60), requests_per_minute=60).used == 1
    refused = [failed(n, n * 2.0, Outcome.QUOTA_429, status=429) for n in range(100)]
    assert _quota(refused, requests_per_minute=60).used == 0
    assert _quota([], requests_per_minute=60).used is None


def test_sendings_before_the_last_one_count_too() -> None:
    tries = [Attempt(0.0, 0.1, Outcome.QUOTA_429, 429), Attempt(1.0, 1.1, Outcome.ERROR_EVENT, 200)]
    found = _quota([answered(0, 0.0, sent=2.0, attempts=tries)], requests_per_minute=60)
    assert (found.offered, found.admitted) == (3, 2)


def test_tokens_are_prompts_and_answers_as_the_server_counted() -> None:
    refused = failed(1, 1.0, Outcome.QUOTA_429, status=429, prompt_planned=90, output_planned=20)
    found = _quota([answered(0, 0.0, tokens=50), refused], tokens_per_minute=600)
    assert (found.offered, found.admitted) == (260, 150)
    assert found.entitled == 600 + 3000


def _long(at: float, ended: float, tokens: int) -> Record:
    return answered(0, at, ended=ended, prompt_tokens=0, output_tokens=tokens)


def test_tokens_may_be_taken_when_a_request_comes_or_when_it_ends() -> None:
    """A minute's worth and ten a second, asked for evenly; all of it ends at once. And the other
    way round."""
    evenly = [_long(10.0 * n, 300.0, 100) for n in range(12)]
    assert _quota(evenly, tokens_per_minute=600).kept
    at_once = [_long(0.0, 10.0 * n + 1, 100) for n in range(12)]
    assert _quota(at_once, tokens_per_minute=600).kept
    both = [_long(0.0, 300.0, 100) for _ in range(12)]
    assert not _quota(both, tokens_per_minute=600).kept


def test_the_last_request_may_be_longer_than_what_was_left() -> None:
    assert _quota([_long(0.0, 1.0, 500), _long(1.0, 2.0, 500)], tokens_per_minute=600).kept
    three = [_long(n, n + 1.0, 500) for n in range(3)]
    assert not _quota(three, tokens_per_minute=600).kept


def test_concurrency_is_how_many_were_open_at_once() -> None:
    def made(count: int) -> Quota:
        return _quota([_long(n, n + 10.0, 1) for n in range(count)], concurrency=4)

    assert made(4).kept
    assert (made(5).kept, made(5).admitted, made(5).worst_window) == (False, 5, 1.25)
    assert made(100).admitted == 10


def test_one_that_begins_as_another_ends_is_not_beside_it() -> None:
    """To the client they overlap by what the network takes."""
    records = [_long(n, n + 1.08, 1) for n in range(50)]
    assert _quota(records, concurrency=1).admitted == 1


def test_refused_ones_were_offered_and_not_let_in() -> None:
    refused = [failed(n, 0.0, Outcome.QUOTA_429, status=429) for n in range(7)]
    found = _quota([_long(0.0, 10.0, 1), *refused], concurrency=2)
    assert (found.offered, found.admitted, found.kept) == (8, 1, True)


@pytest.mark.parametrize(
    ("began", "days"), [(0.0, 1), (86_400.0 - 150, 2), (86_400.0 * 19_000 + 5, 1)]
)
def test_a_day_ends_at_midnight(began: float, days: int) -> None:
    found = _quota([_long(1.0, 2.0, 900)], began=began, tokens_per_day=1000)
    assert found.entitled == 1000 * days
    assert (found.admitted, found.kept) == (900, True)


def test_a_day_s_tokens_are_not_exceeded_by_more_than_one_request() -> None:
    assert _quota([_long(n, n + 1.0, 400) for n in range(3)], tokens_per_day=1000).kept
    assert not _quota([_long(n, n + 1.0, 400) for n in range(4)], tokens_per_day=1000).kept


def _again(after: float, advice: float | None, outcome: Outcome, status: int) -> Record:
    said: dict[str, Any] = {"outcome": outcome, "status": status}
    refused = Attempt(10.0, 10.1, Outcome.QUOTA_429, 429, advice)
    return answered(0, 10.0, sent=10.1 + after, attempts=[refused], **said)


@pytest.mark.parametrize(
    ("record", "came", "honest"),
    [
        (_again(5.0, 5.0, Outcome.OK, 200), 1, 1),
        (_again(5.0, 5.0, Outcome.QUOTA_429, 429), 1, 0),
        (_again(5.0, 5.0, Outcome.CAPACITY_503, 503), 1, 0),  # it was not let in either
        (_again(5.0, 5.0, Outcome.TRUNCATED, 200), 1, 1),
        (_again(4.9, 5.0, Outcome.QUOTA_429, 429), 0, 0),  # it came too early
        (_again(9.0, None, Outcome.QUOTA_429, 429), 0, 0),  # nothing was advised
    ],
)
def test_advice_is_honest_if_who_keeps_to_it_is_let_in(
    record: Record, came: int, honest: int
) -> None:
    found = _quota([record], requests_per_minute=60)
    assert (found.retries_at_advice, found.admitted_at_advice) == (came, honest)


def test_each_time_that_it_comes_again_is_looked_at() -> None:
    tries = [
        Attempt(0.0, 0.1, Outcome.QUOTA_429, 429, 1.0),
        Attempt(1.1, 1.2, Outcome.QUOTA_429, 429, 1.0),
        Attempt(1.5, 1.6, Outcome.QUOTA_429, 429, 1.0),
    ]
    found = _quota([answered(0, 0.0, sent=2.6, attempts=tries)], requests_per_minute=60)
    assert (found.retries_at_advice, found.admitted_at_advice) == (2, 1)


def test_every_limit_has_its_own_and_what_was_sent_before_the_measured_time_is_not_in_it() -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=1, concurrency=1, tokens_per_day=1)
    records = [answered(0, 5.0), answered(1, 15.0)]
    found = quotas(limits, records, Span(10.0, 20.0))
    assert [one.limit for one in found] == list(Limits.model_fields)
    assert [one.admitted for one in found] == [1, 111, 1, 111]
    assert quotas(Limits(), records, MINUTES) == []
    assert all(math.isfinite(one.worst_window) for one in quotas(limits, [], MINUTES))
