"""`gptoss usage`: what a person's words mean, and how the answer is shown."""

import io
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from service.cli.usage import print_table, render_csv
from service.errors import UserError
from service.ledger import words as ledger_words
from service.ledger.usage import Dimension, UsageRow

read_query = partial(ledger_words.read_query, prefix="--")
NOW = datetime(2026, 8, 22, 14, 3, 59, tzinfo=UTC)
ROWS = [
    UsageRow({"team": "search", "hour": None}, 12, 123_456_789_012, 64, 20, 10, 1.25),
    UsageRow({"team": "s" * 63, "hour": "2026-08-22T14:00Z"}, 1, 0, 0, 5, 0, 0.5),
]
BY = (Dimension.TEAM, Dimension.HOUR)


@pytest.mark.parametrize(
    ("words", "point"),
    [
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        ("4w", NOW - timedelta(weeks=4)),
        ("2026-08-01", date(2026, 8, 1)),
        ("2026-08-01T14:00", datetime(2026, 8, 1, 14, tzinfo=UTC)),
        ("2026-08-01T14:00Z", datetime(2026, 8, 1, 14, tzinfo=UTC)),
        ("2026-08-01T14:00+02:00", datetime(2026, 8, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_age_a_day_or_an_iso_time(words: str, point: date | datetime) -> None:
    query = read_query(NOW, "team", words, None)
    assert (type(query.since), query.since) == (type(point), point)
    assert read_query(NOW, "team", "520w", words).until == point


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9]{0,12}[hdw]\Z"))
def test_any_other_time_is_refused_in_one_line_that_says_what_is_accepted(words: str) -> None:
    try:
        read_query(NOW, "team", words, None)
    except UserError as error:
        assert "\n" not in str(error)
        assert all(form in str(error) for form in ("12h, 7d, 4w", "2026-08-01", "T14:00Z"))


@pytest.mark.parametrize(
    "words", ["", "7", "d", "-7d", "7m", "²d", "2026-13-01", "9999999w", "now"]
)
def test_these_are_no_times(words: str) -> None:
    with pytest.raises(UserError, match="--until"):
        read_query(NOW, "team", "520w", words)


@pytest.mark.parametrize(
    ("since", "until"), [("7d", "8d"), ("2026-08-02", "2026-08-02"), ("12h", "2026-08-01")]
)
def test_a_time_that_ends_before_it_begins_is_refused(since: str, until: str) -> None:
    with pytest.raises(UserError, match="not after"):
        read_query(NOW, "team", since, until)


def test_dimensions_keep_their_order_and_count_once() -> None:
    query = read_query(NOW, "model, day,model", "7d", None)
    assert query.by == (Dimension.MODEL, Dimension.DAY)


@pytest.mark.parametrize("words", ["", "teams", "team,", "team;day", "id"])
def test_an_unknown_dimension_is_refused_and_the_known_ones_are_listed(words: str) -> None:
    with pytest.raises(UserError, match="team, key, model, route, settlement, day, hour"):
        read_query(NOW, words, "7d", None)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_number_is_cut_however_narrow_the_terminal(width: int) -> None:
    text = io.StringIO()
    print_table(Console(file=text, width=width, force_terminal=True, no_color=True), BY, ROWS)
    shown = text.getvalue()
    assert "123,456,789,012" in shown
    assert "123,456,789,037" in shown  # the total
    assert "…" not in shown
    assert "2026-08-22T14:00Z" in shown


def test_a_file_gets_the_whole_table() -> None:
    text = io.StringIO()
    print_table(Console(file=text, width=40), BY, ROWS)
    (line,) = [line for line in text.getvalue().splitlines() if "search" in line]
    assert "123,456,789,012" in line
    assert " - " in line  # its hour is not known


def test_csv_quotes_what_it_must() -> None:
    row = UsageRow({"model": 'a,"b"', "hour": None}, 1, 2, 0, 3, 0, 0.5)
    assert render_csv((Dimension.MODEL, Dimension.HOUR), [row]).splitlines() == [
        "model,hour,requests,prompt_tokens,cached_tokens,completion_tokens,reasoning_tokens,"
        "total_tokens,seconds",
        '"a,""b""",,1,2,0,3,0,5,0.5',
    ]
