"""How even a share was, and what a noisy team cost the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.fairness import jain
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.summarise import summarise
from loadtest.summary import Fairness
from tests.loadtest.runs import CONSTANT, answered, data, failed, scenario

SHARES = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


@given(SHARES)
def test_jains_index_is_between_all_to_one_and_all_alike(shares: list[float]) -> None:
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9


@given(st.floats(1e-300, 1e300), st.integers(1, 30))
def test_all_alike_is_1_and_all_to_one_is_one_nth(share: float, count: int) -> None:
    assert jain([share] * count) == pytest.approx(1)
    assert jain([share, *[0.0] * (count - 1)]) == pytest.approx(1 / count)


@given(SHARES, st.floats(0.001, 1000))
def test_it_does_not_depend_on_the_unit(shares: list[float], unit: float) -> None:
    # Of numbers so small that nothing is left of them there is no ratio.
    shares = [share if share > 1e-200 else 0.0 for share in shares]
    assert jain([share * unit for share in shares]) == pytest.approx(jain(shares))


def test_nothing_to_anybody_is_even() -> None:
    assert jain([0.0, 0.0]) == jain([]) == 1.0


def test_by_hand() -> None:
    assert jain([1.0, 0.5]) == pytest.approx(2.25 / (2 * 1.25))


TEAMS: dict[str, Any] = {
    "quiet": {"arrivals": CONSTANT},
    "steady": {"arrivals": CONSTANT},
    "noisy": {"arrivals": CONSTANT, "expect": {"conforming": False}},
}


def _made(records: list[Record]) -> Fairness:
    found = summarise(scenario(teams=TEAMS), data(records), {}).fairness
    assert found is not None
    return found


def _run(quiet_beside: float = 0.5, quiet_fails: int = 0) -> list[Record]:
    """`noisy` sends from 40 s to 60 s, and 9 of 10 of its requests are refused for its limit."""
    records = []
    for number in range(500):
        at = number / 5
        beside = 40 <= at < 60
        ttft = quiet_beside if beside else 0.5
        records.append(answered(number, at, team="steady", ttft=0.25))
        if beside and number % 100 < quiet_fails:
            records.append(failed(number, at, Outcome.CAPACITY_503, team="quiet"))
        else:
            records.append(answered(number, at, team="quiet", ttft=ttft))
        if beside and number % 10:
            records.append(failed(number, at, Outcome.QUOTA_429, team="noisy"))
        elif beside:
            records.append(answered(number, at, team="noisy"))
    return records


def test_what_the_noisy_one_was_refused_by_its_own_limit_is_not_unfair() -> None:
    made = _made(_run())
    assert made.jain == pytest.approx(1)
    assert made.tokens["quiet"] == pytest.approx(5 * 11, rel=0.01)


def test_isolation_is_the_99th_percentile_beside_the_noisy_one_by_that_without() -> None:
    made = _made(_run(quiet_beside=1.5))
    assert made.isolation == {"quiet": pytest.approx(3.0), "steady": pytest.approx(1.0)}
    assert made.ttft_ratio == pytest.approx(1.5 / 0.25)
    for bound in (made.isolation_low, made.isolation_high):
        assert bound["quiet"] == pytest.approx(3.0), "they all took alike"


def test_isolation_has_an_interval_which_is_wide_where_few_windows_are_slow() -> None:
    slow = [
        answered(one.index, one.scheduled, ttft=2.0, team="quiet")
        if one.team == "quiet" and 42 <= one.scheduled < 44
        else one
        for one in _run()
    ]
    made = _made(slow)
    assert made.isolation["quiet"] == pytest.approx(4.0)
    # It is of one block in so many: it is in some resamples, and in others not.
    assert made.isolation_low["quiet"] == pytest.approx(1.0)
    assert made.isolation_high["quiet"] == pytest.approx(4.0)


def test_a_team_that_fails_beside_the_noisy_one_is_not_isolated_at_all() -> None:
    made = _made(_run(quiet_fails=20))
    assert made.isolation == {"quiet": None, "steady": pytest.approx(1.0)}
    assert made.ttft_ratio is None
    assert made.jain < 1


def test_a_few_requests_beside_the_noisy_one_say_nothing() -> None:
    few = [record for record in _run() if record.team != "quiet" or not 59 <= record.scheduled < 60]
    assert _made(few).isolation == {"steady": pytest.approx(1.0)}


def test_where_all_conform_nobody_is_isolated_from_anybody() -> None:
    teams = {"a": {"arrivals": CONSTANT}, "b": {"arrivals": CONSTANT}}
    records = [answered(number, number, team=team) for number in range(100) for team in teams]
    found = summarise(scenario(teams=teams), data(records), {}).fairness
    assert found is not None
    assert found.isolation == {}
    assert found.ttft_ratio == pytest.approx(1)


def test_one_team_alone_has_nobody_to_share_with() -> None:
    assert summarise(scenario(), data([answered(0, 1.0)]), {}).fairness is None
