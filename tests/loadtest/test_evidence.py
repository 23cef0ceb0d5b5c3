"""A share is known as surely as is said, also where requests are missed together."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import statistics
from loadtest.statistics.early_stopping import passes
from loadtest.statistics.evidence import (
    PARTS,
    Sample,
    Weighed,
    difference,
    sample,
    spread,
    weigh,
)
from loadtest.statistics.intervals import newcombe, wilson
from tests.loadtest.bursts import SECONDS, misses

RUNS = 1000
SURE = 0.975
# The share, and how long bursts last, s: some ten of them or more are in a run.
BURSTS = [(0.99, 0.2), (0.99, 0.4), (0.95, 0.5), (0.95, 2.0), (0.9, 4.0), (0.7, 4.0), (0.7, 10.0)]


def _sample(source: np.random.Generator, share: float, length: float) -> Sample:
    due, good = misses(source, share, length)
    return sample(zip(due.tolist(), good.tolist(), strict=True), 0.0, SECONDS)


@pytest.mark.parametrize(("share", "length"), [(0.99, 0.0), (0.95, 0.0), *BURSTS])
def test_the_interval_holds_the_true_share_as_often_as_it_says(share: float, length: float) -> None:
    source = np.random.default_rng(1)
    held = plain = passed = failed = 0
    for _ in range(RUNS):
        one = _sample(source, share, length)
        worth = weigh([one])
        low, high = worth.interval(SURE)
        held += low <= share <= high
        low, high = wilson(one.good, one.counted)
        plain += low <= share <= high
        # Just what is promised is there: neither verdict is right.
        kept = worth.kept(share, SURE)
        passed += kept is True
        failed += kept is False
    assert held / RUNS >= 0.92, "93%, less what a thousand runs may be off by"
    assert failed / RUNS <= 0.04
    assert passed / RUNS <= 0.06
    # Taken for independent they say far too much: this test can fail.
    assert (plain / RUNS < 0.85) == (length > 0)


@pytest.mark.parametrize(("one", "other"), [(BURSTS[1], BURSTS[3]), (BURSTS[2], BURSTS[2])])
def test_so_does_that_of_a_difference(one: tuple[float, float], other: tuple[float, float]) -> None:
    source = np.random.default_rng(3)
    held = plain = 0
    true = other[0] - one[0]
    for _ in range(RUNS):
        before, after = _sample(source, *one), _sample(source, *other)
        low, high = difference(before, after)
        held += low <= true <= high
        low, high = newcombe(before.good, before.counted, after.good, after.counted)
        plain += low <= true <= high
    assert held / RUNS >= 0.92
    assert plain / RUNS < 0.7


def test_what_was_down_in_one_run_only_may_be_luck() -> None:
    clean = Sample(1200, 1200, [(120, 120)] * 10)
    down = Sample(1140, 1200, [(120, 120)] * 9 + [(60, 120)])
    assert newcombe(1200, 1200, 1140, 1200)[1] < -0.03
    low, high = difference(clean, down)
    assert low < -0.2 and high > 0
    assert difference(down, clean) == pytest.approx((-high, -low))
    assert difference(Sample(0, 0), clean) == (-1.0, 1.0)


def test_few_bursts_hide_how_often_they_come() -> None:
    """What nobody can see: where a run has one burst or none, a promise seems kept. That it is
    broken is said no more often for it."""
    source = np.random.default_rng(1)
    kept = [weigh([_sample(source, 0.99, 4.0)]).kept(0.99, SURE) for _ in range(300)]
    assert kept.count(True) > 0.2 * 300
    assert kept.count(False) <= 0.03 * 300


def test_the_spread_of_independent_requests_is_about_one_and_of_whole_blocks_their_size() -> None:
    chance = np.random.default_rng(1)

    def seen(block: int) -> float:
        found = []
        for _ in range(300):
            goods = chance.binomial(100 // block, 0.9, PARTS) * block
            parts = [(int(good), 100) for good in goods]
            found.append(spread([Sample(0, 0, parts)]) or 1.0)
        return float(np.mean(found))

    # As much more as the variance of Student's t with 9 degrees of freedom is more than 1.
    assert seen(1) == pytest.approx(9 / 7, abs=0.15)
    assert seen(10) == pytest.approx(10 * 9 / 7, rel=0.15)
    assert spread([Sample(0, 0, [(5, 5), (7, 7)])]) is None


def test_the_more_parts_the_better_the_spread_is_known() -> None:
    parts = [(8, 10), (10, 10)] * 5
    one, many = spread([Sample(0, 0, parts)]), spread([Sample(0, 0, parts)] * 20)
    assert one is not None and many is not None
    chi = sum((good - 9) ** 2 / 10 for good, _ in parts) / (0.9 * 0.1)
    assert one == pytest.approx(chi / 7)
    assert many == pytest.approx(20 * chi / 197)


def test_requests_are_told_apart_by_when_they_were_due() -> None:
    marks = [(20.0 + number, number < 90) for number in range(95)]
    one = sample(marks, 20.0, 100.0, timeless=2)
    assert (one.good, one.counted) == (90, 97)
    assert one.parts == (*[(10, 10)] * 9, (0, 5))
    # Also what is a little beyond the ends, and of a run of no time at all.
    assert sample([(-1.0, True), (101.0, True)], 0.0, 100.0).parts[::9] == ((1, 1), (1, 1))
    assert sample([(5.0, True)], 5.0, 0.0).counted == 1


MARKS = st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60)


@given(MARKS, st.integers(0, 5), st.floats(0.5, 20))
def test_fewer_requests_say_less_and_nothing_else(
    marks: list[tuple[float, bool]], timeless: int, least: float
) -> None:
    one = sample(marks, 0.0, 100.0, timeless)
    worth = weigh([one], least)
    assert worth.count <= one.counted
    low, high = worth.interval(SURE)
    plain_low, plain_high = wilson(one.good, one.counted)
    assert low <= plain_low + 1e-9 and plain_high <= high + 1e-9
    if one.counted:
        assert worth.good / worth.count == pytest.approx(one.good / one.counted)
    for share in (0.5, 0.9, 0.99):
        kept = worth.kept(share, SURE)
        assert kept is None or kept is (low >= share)
        # What is shown by the fewer is shown by all of them.
        assert kept in (None, Weighed(one.counted, one.counted - one.good).kept(share, SURE))


def test_a_service_that_was_down_once_shows_little_of_how_often_it_is() -> None:
    """For a tenth of a run it may be so in each tenth run only; for a quarter that is unlikely."""

    def kept(down: float) -> bool | None:
        marks = [(at, not 300 <= at < 300 + 1000 * down) for at in range(1000)]
        return weigh([sample(marks, 0.0, 1000.0)]).kept(0.99, SURE)

    assert kept(0.1) is None
    assert kept(0.25) is False
    assert kept(0.7) is False


def test_that_all_are_good_is_broken_by_one_and_shown_by_none() -> None:
    assert Weighed(1000.0, 0.5).kept(1.0, SURE) is False
    assert Weighed(1000.0, 0.0).kept(1.0, SURE) is None
    assert Weighed(1000.0, 0.0).times(1.0, SURE) is None


def test_few_requests_break_no_promise_by_chance() -> None:
    # Wilson's interval of 9 of 10 is below 99% already, and yet 1 of 10 is late once in ten times.
    ten = Weighed(10, 1)
    assert ten.interval(0.95)[1] < 0.999
    assert ten.kept(0.999, 0.999) is None


def test_few_requests_keep_no_promise_by_chance() -> None:
    # 15 of 15 are good once in five times where 90% are, and Wilson's interval begins above that.
    assert Weighed(15, 0).interval(0.9)[0] >= 0.9
    assert Weighed(15, 0).kept(0.9, 0.9) is None
    assert Weighed(22, 0).kept(0.9, 0.9) is True


def test_the_more_that_are_asked_the_surer_is_one_that_breaks_it() -> None:
    # 3 of 20 late are, where 99% are good, 1 in 1,000: of 20 teams one is so by chance.
    late = Weighed(20, 3)
    assert late.kept(0.99, 0.99) is False
    assert late.kept(0.99, 0.99, among=20) is None


@given(
    st.integers(0, 40),
    st.integers(1, 5000),
    st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_what_is_kept_is_shown_by_mlperfs_rule_too(
    late: int, count: int, share: float, confidence: float
) -> None:
    late = min(late, count)
    if Weighed(count, late).kept(share, confidence):
        assert passes(late, count, share, confidence)


def test_verdicts_are_wrong_as_rarely_as_they_say() -> None:
    chance = np.random.default_rng(5)
    for count in (50, 500, 5000):
        goods = chance.binomial(count, 0.99, 4000).tolist()
        verdicts = [Weighed(count, count - good).kept(0.99, 0.99) for good in goods]
        assert verdicts.count(True) <= 0.01 * 4000 + 20
        assert verdicts.count(False) <= 0.01 * 4000 + 20


def test_with_so_many_times_as_many_it_can_be_told() -> None:
    times = Weighed(100, 0).times(0.99, SURE)
    assert times is not None and math.ceil(times * 100) == 381
    assert Weighed(381, 0).kept(0.99, SURE) is True
    assert Weighed(100, 1).times(0.99, SURE) is None
    assert Weighed(0, 0).times(0.99, SURE) is None


def test_statistics_know_nothing_of_runs() -> None:
    (folder,) = statistics.__path__
    lines = [line for file in Path(folder).glob("*.py") for line in file.read_text().splitlines()]
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert len(imports) > 10
    ours = [line for line in imports if "loadtest" in line]
    assert all(line.startswith("from loadtest.statistics") for line in ours)
