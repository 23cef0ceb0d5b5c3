"""A bucket drains at its rate, exactly, and gives back no more than is still inside."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from service.quota.bucket import MINUTE, WHOLE, Bucket
from service.quota.limits import MAX_PER_MINUTE

rates = st.integers(1, MAX_PER_MINUTE)
moments = st.lists(st.integers(0, 3 * MINUTE), max_size=30).map(sorted)


def test_a_minute_drains_a_minutes_worth() -> None:
    bucket = Bucket(0)
    bucket.add(100)
    bucket.drain(MINUTE, 60)
    assert bucket.used == 40


@given(rates, st.integers(0, 10**9), moments)
def test_however_often_it_drains_it_is_never_faster_than_its_rate(
    rate: int, amount: int, moments: list[int]
) -> None:
    bucket = Bucket(0)
    bucket.add(amount)
    for now in moments:
        bucket.drain(now, rate)
        assert amount - bucket.used <= Fraction(now * rate, MINUTE)


@given(rates, st.integers(0, 10**9), moments)
def test_however_often_it_drains_it_falls_behind_by_a_microsecond_each_time_at_most(
    rate: int, amount: int, moments: list[int]
) -> None:
    bucket = Bucket(0)
    bucket.add(amount)
    for count, now in enumerate(moments, 1):
        bucket.drain(now, rate)
        ideal = Fraction((now - count) * rate, MINUTE) - 1
        assert bucket.used == 0 or amount - bucket.used >= ideal


@given(rates, st.integers(1, 10**6), st.integers(1, MINUTE))
def test_a_clock_that_is_set_back_drains_nothing_and_goes_on_from_there(
    rate: int, amount: int, back: int
) -> None:
    bucket = Bucket(10 * MINUTE)
    bucket.add(amount)
    bucket.drain(10 * MINUTE - back, rate)
    assert bucket.used == amount
    bucket.drain(11 * MINUTE - back, rate)
    assert bucket.used == max(amount - rate, 0)


@given(rates, st.integers(0, 10**6), st.integers(0, MINUTE), st.integers(0, MINUTE))
def test_a_look_ahead_tells_what_draining_does_and_changes_nothing(
    rate: int, amount: int, at: int, now: int
) -> None:
    bucket = Bucket(at)
    bucket.add(amount)
    ahead = bucket.level(now, rate)
    assert (bucket.at, bucket.used) == (at, amount)
    bucket.drain(now, rate)
    assert bucket.used == ahead


def test_nothing_in_it_needs_more_than_the_53_bits_of_a_double() -> None:
    assert MINUTE * MAX_PER_MINUTE < 2**53
    assert WHOLE * MAX_PER_MINUTE < 2**53


def test_what_was_not_used_of_an_estimate_is_given_back() -> None:
    bucket = Bucket(0)
    marks = [bucket.hold(1000) for _ in range(10)]
    for mark in reversed(marks):
        bucket.settle(10, 1000, mark)
    assert (bucket.used, bucket.held) == (100, 0)


def test_what_was_used_beyond_an_estimate_is_a_debt() -> None:
    bucket = Bucket(0)
    bucket.settle(70, 50, bucket.hold(50))
    assert (bucket.used, bucket.held) == (70, 0)


def test_what_has_drained_is_not_given_back() -> None:
    bucket = Bucket(0)
    mark = bucket.hold(60)
    bucket.drain(MINUTE // 2, 60)
    bucket.add(20)
    bucket.settle(0, 60, mark)
    assert bucket.used == 20
    mark = bucket.hold(60)
    bucket.drain(3 * MINUTE, 60)
    bucket.add(60)  # another's
    bucket.settle(0, 60, mark)
    assert bucket.used == 60


def test_what_is_certainly_used_drains_before_estimates() -> None:
    bucket = Bucket(0)
    bucket.add(60)
    mark = bucket.hold(60)
    bucket.drain(MINUTE, 60)
    bucket.settle(0, 60, mark)
    assert bucket.used == 0


operations = st.lists(
    st.one_of(
        st.tuples(st.just("drain"), st.integers(0, 3 * MINUTE)),
        st.tuples(st.just("add"), st.integers(0, 1_000)),
        st.tuples(st.just("hold"), st.integers(0, 1_000)),
        st.tuples(st.just("settle"), st.integers(0, 1_500)),
    ),
    max_size=60,
)


@given(st.integers(1, 10_000), operations)
def test_all_that_can_be_given_back_is_inside(rate: int, operations: list[tuple[str, int]]) -> None:
    bucket, now = Bucket(0), 0
    held: list[tuple[int, int]] = []
    for what, number in operations:
        if what == "drain":
            now += number
            bucket.drain(now, rate)
        elif what == "add":
            bucket.add(number)
        elif what == "hold":
            held.append((number, bucket.hold(number)))
        elif held:
            estimate, mark = held.pop(number % len(held))
            bucket.settle(number, estimate, mark)
        back = 0
        for estimate, mark in held:
            later = replace(bucket)
            later.settle(0, estimate, mark)
            back += bucket.used - later.used
        assert back <= bucket.held <= bucket.used
