"""A refusal names the limit that takes the longest to pass, and says how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quota.calendar import Window, Windows
from service.quota.decision import Breach, fits, refill, tightest
from service.quota.limits import Limits
from service.quota.reservation import Kind, Level, Reservation, Scope

NOW = 1_000.0
WINDOWS = Windows(Window("2026-08-22", 1_600), Window("2026-08", 9_000))


def asked(*limits: Limits, tokens: int = 100) -> Reservation:
    scopes = tuple(Scope(f"scope:{index}", one) for index, one in enumerate(limits))
    return Reservation("a", "t", scopes, WINDOWS, tokens, 0)


def found(limits: Limits, level: Level, tokens: int = 100) -> Breach | None:
    return tightest(asked(limits, tokens=tokens), (level,), NOW)


def test_what_fits_exactly_is_granted() -> None:
    limits = Limits(rpm=1, tpm=100, concurrency=1, daily_tokens=100, monthly_tokens=100)
    assert found(limits, Level()) is None


@pytest.mark.parametrize(
    ("limits", "level", "kind", "wait"),
    [
        (Limits(rpm=60), Level(requests=60), Kind.REQUESTS, 1.0),
        (Limits(tpm=6_000), Level(tokens=6_000), Kind.TOKENS, 1.0),
        (Limits(concurrency=1), Level(open=1), Kind.CONCURRENCY, 1.0),
        (Limits(daily_tokens=199), Level(day_used=50, day_reserved=50), Kind.DAY, 600.0),
        (Limits(monthly_tokens=199), Level(month_used=100), Kind.MONTH, 8_000.0),
    ],
)
def test_each_limit_says_how_long_it_takes(
    limits: Limits, level: Level, kind: Kind, wait: float
) -> None:
    breach = found(limits, level)
    assert breach is not None
    assert (breach.kind, breach.wait) == (kind, wait)


def test_a_request_larger_than_a_minutes_worth_never_fits() -> None:
    breach = found(Limits(tpm=99, daily_tokens=50), Level(day_used=50))
    assert breach is not None
    assert (breach.kind, breach.wait) == (Kind.TOKENS, None)


def test_of_several_scopes_the_one_that_takes_longest_is_named() -> None:
    request = asked(Limits(rpm=60), Limits(rpm=1), Limits(concurrency=1))
    levels = (Level(requests=60), Level(requests=1), Level(open=1))
    breach = tightest(request, levels, NOW)
    assert breach is not None
    assert (breach.scope.name, breach.wait) == ("scope:1", 60.0)


numbers = st.integers(0, 300)
limit = st.none() | st.integers(1, 300)


@given(
    st.builds(
        Limits, rpm=limit, tpm=limit, concurrency=limit, daily_tokens=limit, monthly_tokens=limit
    ),
    st.builds(Level, numbers, numbers, numbers, numbers, numbers, numbers, numbers),
    numbers,
)
def test_a_breach_is_found_where_and_only_where_it_does_not_fit(
    limits: Limits, level: Level, tokens: int
) -> None:
    request = asked(limits, tokens=tokens)
    breach = tightest(request, (level,), NOW)
    assert (breach is None) == fits(request.scopes[0], level, request)
    if breach is not None:
        assert breach.used + breach.requested > breach.limit
        assert breach.wait is None or breach.wait >= 0


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_after_the_wait_that_much_has_refilled(amount: int, rate: int) -> None:
    assert refill(amount, rate) * rate / 60 == pytest.approx(amount)
