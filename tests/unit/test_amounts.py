"""Amounts as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli import amounts as options
from service.errors import UserError
from service.quota import amounts
from service.quota.limits import MAX_TOKENS

WRITTEN = {
    "1": 1,
    "600": 600,
    "10k": 10_000,
    "2M": 2_000_000,
    "2m": 2_000_000,
    "1.5M": 1_500_000,
    "200M": 200_000_000,
    "1B": 1_000_000_000,
    "131072": 131_072,
}
NOT_COUNTS = ["", "-1", "1.5", "M", "2MM", "2 M", "1e6", "1_000", "٣", "2M\n", "1.0001k", "9" * 99]
NOT_DURATIONS = ["", "90", "d", "0d", "-1d", "1.5h", "90 d", "90D", "٣d", "99999999w", "9" * 99]


@pytest.mark.parametrize(("text", "value"), WRITTEN.items())
def test_a_count_means_what_it_says(text: str, value: int) -> None:
    assert amounts.count(text) == value


@pytest.mark.parametrize("text", NOT_COUNTS)
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a count"):
        amounts.count(text)


@given(st.integers(0, MAX_TOKENS))
def test_a_printed_count_reads_back_as_itself(value: int) -> None:
    assert amounts.count(amounts.count_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(600, "600"), (1000, "1k"), (2_000_000, "2M"), (1_500_000, "1.5M"), (131_072, "131072")],
)
def test_a_count_is_printed_short(value: int, text: str) -> None:
    assert amounts.count_text(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("4w", timedelta(weeks=4)),
    ],
)
def test_a_duration_means_what_it_says(text: str, value: timedelta) -> None:
    assert amounts.duration(text) == value


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        amounts.duration(text)


@given(st.integers(1, 99_999_999))
def test_a_printed_duration_reads_back_as_itself(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert amounts.duration(amounts.duration_text(value)) == value


def test_a_refused_amount_names_its_option() -> None:
    with pytest.raises(UserError, match=r"^--tpm 'many' is not a count: write it such as 600"):
        options.count("--tpm", "many")
    with pytest.raises(UserError, match=r"^--expires 'soon' is not a duration: write it such as"):
        options.duration("--expires", "soon")
