"""What a client is told of its limits."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.ratelimit import duration, headers, refusal
from service.quota.calendar import windows_at
from service.quota.decision import fits, tightest
from service.quota.limits import Limits
from service.quota.reservation import Level, Reservation, Scope

NOON = datetime(2026, 8, 22, 12, tzinfo=UTC)
NOW = NOON.timestamp()
WINDOWS = windows_at(NOON, "UTC")


def reservation(*limits: Limits, prompt: int = 100, output: int = 100) -> Reservation:
    names = ("key:abc", "team", "model:big")
    scopes = tuple(Scope(name, limit) for name, limit in zip(names, limits, strict=False))
    return Reservation("r", "search", scopes, WINDOWS, prompt, output)


def shown(asked: Reservation, *levels: Level) -> dict[str, str]:
    return {
        name.decode(): value.decode() for name, value in headers(asked.scopes, levels, WINDOWS, NOW)
    }


def refused(asked: Reservation, *levels: Level) -> tuple[dict[str, str], str, str | None]:
    breach = tightest(asked, levels, NOW)
    assert breach is not None
    error = refusal(asked, breach, "gpt-oss-120b")
    assert error.status == 429
    return error.headers, error.message, error.code


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.012, "12ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (41.724, "41.724s"),
        (86.4, "1m26.4s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (43200, "12h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_a_duration_is_never_shorter_than_it_says(seconds: float) -> None:
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", duration(seconds))
    total = sum(float(number) * units[unit] for number, unit in parts)
    assert seconds - 1e-6 <= total <= seconds + 0.0011


def test_openais_headers_say_the_tightest_limit_of_each_kind() -> None:
    asked = reservation(Limits(rpm=60, tpm=1000), Limits(rpm=600, tpm=5000))
    found = shown(asked, Level(requests=1, tokens=200), Level(requests=590, tokens=200))
    assert found["x-ratelimit-limit-requests"] == "600"
    assert found["x-ratelimit-remaining-requests"] == "10"
    assert found["x-ratelimit-reset-requests"] == "59s"
    assert found["x-ratelimit-limit-tokens"] == "1000"
    assert found["x-ratelimit-remaining-tokens"] == "800"
    assert found["x-ratelimit-reset-tokens"] == "12s"


def test_the_ietfs_headers_say_every_limit_with_its_unit_and_window() -> None:
    asked = reservation(Limits(concurrency=4), Limits(tpm=1000, daily_tokens=5000))
    found = shown(asked, Level(open=1), Level(tokens=500, day_used=1000, day_reserved=200))
    assert found["ratelimit-policy"] == (
        '"key-concurrency";q=4;qu="concurrent-requests", "team-tpm";q=1000;w=60;qu="tokens",'
        ' "team-day";q=5000;w=86400;qu="tokens"'
    )
    assert found["ratelimit"] == (
        '"key-concurrency";r=3, "team-tpm";r=500;t=30, "team-day";r=3800;t=43200'
    )


def test_where_nothing_is_limited_nothing_is_said() -> None:
    assert shown(reservation(Limits(), Limits()), Level(), Level()) == {}


def test_a_debt_is_shown_as_nothing_left() -> None:
    found = shown(reservation(Limits(tpm=1000)), Level(tokens=1500))
    assert found["x-ratelimit-remaining-tokens"] == "0"
    assert found["x-ratelimit-reset-tokens"] == "1m30s"


def test_a_rate_says_when_to_come_back() -> None:
    told, message, code = refused(reservation(Limits(tpm=1000)), Level(tokens=900))
    assert code == "rate_limit_exceeded"
    assert told == {"retry-after": "6", "retry-after-ms": "6000"}  # 100 tokens too many: 6 s
    assert message == (
        "Rate limit reached for gpt-oss-120b in key abc of team search on tokens per min (TPM):"
        " Limit 1000, Used 900, Requested 200. Please try again in 6s."
    )


def test_a_spent_budget_is_not_to_be_retried_and_says_when_it_is_reset() -> None:
    asked = reservation(Limits(), Limits(daily_tokens=1000))
    told, message, code = refused(asked, Level(), Level(day_used=900))
    assert code == "insufficient_quota"
    assert told["x-should-retry"] == "false"
    assert told["retry-after"] == "43200"
    assert "team search on tokens per day: Limit 1000, Used 900, Requested 200" in message


def test_what_can_never_fit_says_so_instead_of_when() -> None:
    told, message, _ = refused(reservation(Limits(tpm=150)), Level())
    assert told == {"x-should-retry": "false"}
    assert "Request too large" in message


@pytest.mark.parametrize("limits", [Limits(daily_tokens=100), Limits(monthly_tokens=100)])
def test_what_is_larger_than_a_budget_does_not_fit_tomorrow_either(limits: Limits) -> None:
    told, message, _ = refused(reservation(limits), Level())
    assert told == {"x-should-retry": "false"}
    assert "Request too large" in message


def test_of_several_limits_the_one_that_takes_longest_is_named() -> None:
    asked = reservation(Limits(rpm=60), Limits(tpm=1000, concurrency=1), Limits())
    told, message, _ = refused(asked, Level(requests=60), Level(tokens=1000, open=1), Level())
    assert "tokens per min" in message
    assert told["retry-after"] == "12"
    asked = reservation(Limits(rpm=60), Limits(monthly_tokens=300))
    refusal = refused(asked, Level(requests=60), Level(month_used=200))
    assert refusal[2] == "insufficient_quota"


rates = st.integers(1, 100_000)


@given(rates, st.integers(0, 200_000), st.integers(1, 100_000))
def test_whoever_waits_as_told_gets_in(rate: int, used: int, wanted: int) -> None:
    from service.quota.bucket import MINUTE, Bucket

    asked = reservation(Limits(tpm=rate), prompt=wanted, output=0)
    breach = tightest(asked, (Level(tokens=used),), NOW)
    if breach is None or breach.wait is None:
        assert used + wanted <= rate or wanted > rate
        return
    wait = int(refusal(asked, breach, "m").headers["retry-after-ms"])
    bucket = Bucket(at=0, used=used)
    bucket.drain(wait * 1000, rate)
    assert bucket.used + wanted <= rate
    # ... and not much sooner: what is told is the truth.
    early = Bucket(at=0, used=used)
    early.drain(max(wait - 1, 0) * 1000 - MINUTE // rate - 1, rate)
    assert early.used + wanted > rate


numbers = st.integers(0, 60)
optional = st.none() | st.integers(1, 60)


@given(
    st.builds(
        Limits,
        rpm=optional,
        tpm=optional,
        concurrency=optional,
        daily_tokens=optional,
        monthly_tokens=optional,
    ),
    st.builds(Level, numbers, numbers, numbers, numbers, numbers, numbers, numbers),
    numbers,
)
def test_what_fits_has_nothing_in_its_way(limits: Limits, level: Level, wanted: int) -> None:
    asked = reservation(limits, prompt=wanted, output=0)
    breach = tightest(asked, (level,), NOW)
    assert fits(asked.scopes[0], level, asked) == (breach is None)
