"""A search finds the limit of a service whose limit is known, and never claims more than it saw."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.errors import UserError
from loadtest.measured import Fate, Requests, Span
from loadtest.record import Record
from loadtest.search.find import Found, Rules, Tried, find_concurrency, find_rate
from loadtest.search.trial import Count, Stopped, Trial, measure
from loadtest.statistics.evidence import PARTS, weigh
from loadtest.summary import Verdict
from tests.loadtest.queueing import kept, limit, queue

SEEDS = 200
Runs = Callable[[float, float], Awaitable[Trial]]


def cliff(limit: float, steepness: float, share: float = 0.99) -> Callable[[float], float]:
    """The share that keeps the objectives at a level: exactly `share` at the limit, and beyond that
    it falls off, the steeper the more: at a tenth above, steepness 30 leaves about 86 of 100."""
    beyond = math.log(share / (1 - share))
    return lambda level: 1 / (1 + math.exp(steepness * (level / limit - 1) - beyond))


def noisy(curve: Callable[[float], float], seed: int, per_second: float | None = None) -> Runs:
    """Trials of a service with that curve: as many requests as the rate, or `per_second`, makes in
    the time, each good or not by itself."""
    chance = np.random.default_rng(seed)

    async def run(level: float, seconds: float) -> Trial:
        count = round((per_second or level) * seconds)
        return one(level, int(chance.binomial(count, curve(level))), count)

    return run


def one(
    level: float,
    good: int,
    counted: int,
    parts: Sequence[tuple[int, int]] = (),
    *,
    saturated: bool = False,
    valid: bool = True,
    why: str = "",
) -> Trial:
    """A trial of one team."""
    teams = {"a": Count(good, counted, parts)}
    return Trial(level, teams, saturated=saturated, valid=valid, why=why)


def exact(limit: float) -> Runs:
    """Trials of a service that does all up to its limit and nothing beyond."""

    async def run(level: float, seconds: float) -> Trial:
        return one(level, 10_000 if level <= limit else 0, 10_000)

    return run


def rate(run: Runs, low: float, high: float, rules: Rules | None = None) -> Found:
    return asyncio.run(find_rate(run, low, high, rules))


def levels(found: Found) -> list[float]:
    return [tried.trial.level for tried in found.trials]


def test_the_limit_is_found_within_the_resolution() -> None:
    rules = Rules(seconds=60, resolution=0.1)
    near = above = below = 0
    for seed in range(SEEDS):
        true = random.Random(seed).uniform(15, 90)
        found = rate(noisy(cliff(true, 60), seed), 1, 256, rules)
        assert found.passed is not None and found.failed is not None
        near += abs(found.passed / true - 1) <= 0.1 and abs(found.failed / true - 1) <= 0.1
        above += found.resolved and found.passed > true
        below += found.resolved and found.failed < true
    assert near >= 0.95 * SEEDS
    # A claim is that what passed is kept: it is wrong where the limit is below.
    assert above <= 0.05 * SEEDS
    assert below <= 0.05 * SEEDS


def test_the_number_of_clients_is_found_to_one() -> None:
    near = wrong = 0
    rules = Rules(seconds=120, resolution=0.05)
    for seed in range(SEEDS):
        true = random.Random(seed).randint(2, 40)
        # Whole numbers: the last one that keeps the promise, with room to both sides of it.
        run = noisy(cliff(true + 0.5, 10 * true), seed, per_second=20)
        found = asyncio.run(find_concurrency(run, 1, 128, rules))
        near += found.resolved and found.passed == true and found.failed in (true + 1, true + 2)
        wrong += found.resolved and found.passed is not None and found.passed > true
    assert near >= 0.95 * SEEDS
    assert wrong <= 0.05 * SEEDS


def test_a_shallow_curve_is_called_unresolved_and_not_guessed() -> None:
    rules = Rules(seconds=60, resolution=0.02)
    wrong = unresolved = 0
    for seed in range(SEEDS):
        found = rate(noisy(cliff(20.0, 4), seed), 1, 256, rules)
        unresolved += not found.resolved
        wrong += found.resolved and not (found.passed or 0) <= 20 <= (found.failed or 0)
        if not found.resolved:
            assert "could not tell" in found.reason and "might" in found.reason
    # That this asks too much of trials of 8 minutes is the point.
    assert unresolved >= 0.5 * SEEDS
    assert wrong <= 0.05 * SEEDS


@pytest.mark.parametrize("independent", [False, True])
def test_requests_that_are_late_together_do_not_count_as_many(independent: bool) -> None:
    # The queue's requests are late together. Taken for independent they claim too much, which also
    # shows that this test can fail.
    servers, service, wait, share, settle = 32, 1.0, 0.3, 0.99, 20.0
    true = limit(share, servers, service, wait)
    assert kept(true, servers, service, wait) == pytest.approx(share)
    numbers = iter(range(10**6))

    async def run(level: float, seconds: float) -> Trial:
        run = queue(level, servers, service, settle + seconds, next(numbers))
        there = run.arrived >= settle
        good = (run.began - run.arrived)[there] <= wait
        part = ((run.arrived[there] - settle) / seconds * PARTS).astype(int)
        parts = zip(np.bincount(part, good, PARTS), np.bincount(part, minlength=PARTS), strict=True)
        return one(
            level,
            int(good.sum()),
            len(good),
            saturated=level > 1.2 * servers / service,
            parts=() if independent else [(int(one), int(all_)) for one, all_ in parts],
        )

    rules = Rules(share=share, seconds=120, resolution=0.1)
    found = [rate(run, 4, 128, rules) for _ in range(60)]
    above = sum(one.passed is not None and one.passed > true for one in found)
    if independent:
        assert above > 0.1 * len(found)
    else:
        assert above <= 0.05 * len(found)
        # And it is not for saying nothing: what it says is near.
        assert np.median([one.passed or 0 for one in found]) > 0.75 * true


def test_where_even_the_lowest_fails_that_is_said() -> None:
    found = rate(exact(0.5), 1, 64)
    assert (found.passed, found.failed, found.resolved) == (None, 1, False)
    assert found.reason == "even 1 requests/s failed: begin the search lower"
    assert levels(found) == [1]


def test_where_even_the_highest_passes_that_is_said() -> None:
    found = rate(exact(100), 1, 50)
    assert (found.passed, found.failed, found.resolved) == (50, None, False)
    assert found.reason == "even 50 requests/s passed: let the search go higher"
    assert levels(found) == [1, 2, 4, 8, 16, 32, 50]


def test_a_trial_beyond_capacity_fails_whatever_share_was_good() -> None:
    async def run(level: float, seconds: float) -> Trial:
        return one(level, 10_000, 10_000, saturated=level > 10)

    found = rate(run, 1, 64)
    assert found.resolved and found.passed is not None and found.failed is not None
    assert found.passed <= 10 < found.failed


def test_a_trial_that_the_load_test_was_too_slow_for_ends_the_search() -> None:
    async def run(level: float, seconds: float) -> Trial:
        return one(level, 10_000, 10_000, valid=level < 8, why="lag of 90 ms")

    found = rate(run, 1, 64)
    assert levels(found) == [1, 2, 4, 8, 8]
    assert (found.passed, found.failed, found.resolved) == (4, None, False)
    assert found.reason.startswith(
        "at 8 requests/s the load test itself was too slow, twice (lag of 90 ms): nothing above"
    )
    assert [one.verdict for one in found.trials[-2:]] == [Verdict.INVALID] * 2


def slow_at(slow: float, limit: float, *, times: int) -> Runs:
    """Trials of which the first few at one level are too slow, and say anything."""
    left = [times]

    async def run(level: float, seconds: float) -> Trial:
        if level == slow and left[0]:
            left[0] -= 1
            return one(level, 0, 10_000, valid=False, why="lag of 76 ms")
        return one(level, 10_000 if level <= limit else 0, 10_000)

    return run


def test_a_load_test_that_was_too_slow_for_a_moment_tries_once_more() -> None:
    found = rate(slow_at(3, 3.2, times=1), 1, 64, Rules(resolution=0.1))
    assert levels(found)[:5] == [1, 2, 4, 3, 3]
    assert [one.verdict for one in found.trials][3:5] == [Verdict.INVALID, Verdict.PASSED]
    assert found.resolved and found.passed is not None and found.failed is not None
    assert found.passed <= 3.2 < found.failed


@pytest.mark.parametrize(
    ("low", "known"), [(2, "the limit is between 2 and 4 requests/s"), (3, "nothing above")]
)
def test_what_was_known_is_said_where_it_is_too_slow_again(low: float, known: str) -> None:
    found = rate(slow_at(3, 2.5, times=2), low, 64)
    assert (found.failed, found.resolved) == (4 if low == 2 else None, False)
    assert f"too slow, twice (lag of 76 ms): {known}" in found.reason


def two(run_a: Callable[[float], Count], run_b: Callable[[float], Count]) -> Runs:
    """Trials of two teams, whatever the time."""

    async def run(level: float, seconds: float) -> Trial:
        return Trial(level, {"chat": run_a(level), "premium": run_b(level)})

    return run


def test_a_small_team_that_fails_is_not_hidden_by_a_large_one_that_is_served_well() -> None:
    # Of both together 99.5% are good.
    run = two(lambda _: Count(6000, 6000), lambda _: Count(0, 30))
    found = rate(run, 1, 64)
    assert found.failed == 1 and found.reason.startswith("even 1 requests/s failed")
    assert found.trials[0].verdict is Verdict.FAILED and found.trials[0].team == "premium"
    assert found.trials[0].high < 0.99


def test_the_limit_is_that_of_the_team_that_fails_first() -> None:
    run = two(
        lambda level: Count(9000 if level <= 40 else 0, 9000),
        lambda level: Count(2000 if level <= 10 else 0, 2000),
    )
    found = rate(run, 1, 64)
    assert found.resolved and found.passed is not None and found.failed is not None
    assert found.passed <= 10 < found.failed


def test_a_team_that_too_little_is_known_of_is_named() -> None:
    run = two(lambda _: Count(6000, 6000), lambda _: Count(10, 10))
    found = rate(run, 1, 1, Rules(longest=2))
    assert (found.passed, found.resolved) == (None, False)
    assert "of premium's requests kept the objectives" in found.reason
    assert "of a's" not in rate(noisy(cliff(20.0, 4), 1), 20, 20, Rules(longest=2)).reason


def test_one_teams_requests_that_are_late_together_make_no_other_team_less_sure() -> None:
    late_together = [(60, 60)] * 9 + [(50, 60)]
    run = two(lambda _: Count(590, 600, late_together), lambda _: Count(1000, 1000))
    found = rate(run, 1, 1, Rules(longest=1, share=0.9))
    # As if there were no other.
    alone = weigh([Count(590, 600, late_together)])
    assert (found.trials[0].team, found.trials[0].low) == ("chat", alone.interval(0.99)[0])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Stopped(), "interrupted at 8 requests/s: this is what was found until then"),
        (UserError("/v1/models timed out"), "at 8 requests/s no trial could be made (/v1/models"),
    ],
)
def test_what_ends_a_search_early_leaves_what_was_found(error: Exception, said: str) -> None:
    async def run(level: float, seconds: float) -> Trial:
        if level == 8:
            raise error
        return one(level, 10_000, 10_000)

    found = rate(run, 1, 64)
    assert (found.passed, found.failed, found.resolved) == (4, None, False)
    assert found.reason.startswith(said)
    assert levels(found) == [1, 2, 4]


def test_a_first_trial_that_cannot_be_made_is_an_error() -> None:
    async def run(level: float, seconds: float) -> Trial:
        raise UserError("it cannot be reached")

    with pytest.raises(UserError, match=r"^it cannot be reached$"):
        rate(run, 1, 64)


def test_a_search_says_of_what_its_levels_are() -> None:
    found = asyncio.run(find_rate(exact(0.5), 1, 2, unit="conversations/s"))
    assert found.unit == "conversations/s"
    assert found.reason.startswith("even 1 conversations/s failed")
    assert asyncio.run(find_concurrency(exact(2), 1, 4)).unit == "clients"


def test_what_is_unresolved_is_tried_for_longer_and_judged_together() -> None:
    # 200 requests a minute, all good, cannot show 99%: 600 can.
    asked: list[tuple[float, float]] = []

    async def run(level: float, seconds: float) -> Trial:
        asked.append((level, seconds))
        count = round(200 * seconds / 60)
        return one(level, count if level <= 1 else 0, count)

    found = rate(run, 1, 2, Rules(resolution=1.0))
    assert asked == [(1, 60), (2, 60), (1, 120)]
    assert [one.verdict for one in found.trials] == [
        Verdict.UNRESOLVED,
        Verdict.FAILED,
        Verdict.PASSED,
    ]
    assert (found.passed, found.failed, found.resolved) == (1, 2, True)


def test_what_is_hopeless_is_not_tried_to_the_end() -> None:
    async def run(level: float, seconds: float) -> Trial:
        # Exactly at the promise: no number of requests could tell.
        return one(level, round(0.99 * 100 * seconds), round(100 * seconds))

    found = rate(run, 1, 1, Rules(longest=1000))
    assert [one.seconds for one in found.trials] == [60, 120]
    assert "too near to that" in found.reason


def test_a_search_that_cannot_be_made_is_refused_in_one_line() -> None:
    for low, high in ((0, 5), (5, 4), (-1, 4), (1, math.inf), (math.nan, 4)):
        with pytest.raises(UserError, match="a search goes from above 0"):
            rate(exact(1), low, high)
    with pytest.raises(
        UserError, match=r"can show that 100% are good: .* an slo.percent below 100"
    ):
        rate(exact(1), 1, 2, Rules(share=1.0))
    with pytest.raises(UserError, match="resolution"):
        rate(exact(1), 1, 2, Rules(resolution=0))


@st.composite
def answers(draw: st.DrawFn) -> Runs:
    """A service that answers anything at all, even against all sense."""
    chance = draw(st.randoms(use_true_random=False))

    async def run(level: float, seconds: float) -> Trial:
        odd = chance.random()
        teams = {}
        for team in chance.choice(("a", "b", "ab", "")):
            count = chance.choice((0, 1, 10, 500, 2000))
            good = chance.choice((0, count, chance.randint(0, count), max(count - 5, 0)))
            parts = [(chance.randint(0, 9), 9) for _ in range(chance.choice((0, 10)))]
            teams[team] = Count(good, count, parts)
        return Trial(level, teams, saturated=odd < 0.05, valid=odd < 0.98)

    return run


@settings(max_examples=300)
@given(
    answers(),
    st.floats(0.01, 100),
    st.floats(1, 1000),
    st.floats(0.01, 1),
    st.floats(1, 20),
    st.booleans(),
)
def test_a_search_ends_with_what_passed_below_what_failed(
    run: Runs, low: float, factor: float, resolution: float, longest: float, whole: bool
) -> None:
    rules = Rules(resolution=resolution, longest=longest)
    low = max(round(low), 1) if whole else low
    high = round(low * factor) if whole else low * factor
    if whole:
        found = asyncio.run(find_concurrency(run, int(low), int(high), rules))
    else:
        found = rate(run, low, high, rules)
    if found.passed is not None and found.failed is not None:
        assert found.passed < found.failed
    if found.resolved:
        assert found.passed is not None and found.failed is not None
        gap = max(resolution * found.passed, 1.0 if whole else 0.0)
        assert found.failed - found.passed <= gap
    assert all(low <= level <= high for level in levels(found))
    assert not whole or all(level == int(level) for level in levels(found))
    # Each level is tried at most so often, and gaps are halved.
    repeats = 3 + math.ceil(math.log(longest, 3))
    doublings = 2 + math.ceil(math.log2(factor + 1))
    halvings = 2 * (2 + math.ceil(math.log2(2 * factor / resolution)))
    assert len(found.trials) <= repeats * (doublings + 2 + halvings)
    seconds: dict[float, float] = {}
    for tried in found.trials:
        level = tried.trial.level
        # One that says nothing is made again, once.
        if tried.verdict is not Verdict.INVALID:
            seconds[level] = seconds.get(level, 0.0) + tried.seconds
    slow = [one.trial.level for one in found.trials if one.verdict is Verdict.INVALID]
    assert all(slow.count(level) <= 2 for level in slow)
    assert len({level for level in slow if slow.count(level) == 2}) <= 1
    assert all(total <= rules.seconds * longest + 1e-6 for total in seconds.values())
    verdicts = _last(found.trials)
    if found.passed is not None:
        assert verdicts[found.passed] is Verdict.PASSED
    if found.failed is not None:
        assert verdicts[found.failed] is Verdict.FAILED
    assert found.reason and "\n" not in found.reason


def _last(trials: list[Tried]) -> dict[float, Verdict]:
    return {tried.trial.level: tried.verdict for tried in trials}


@given(st.floats(0.1, 1000), st.floats(0.01, 0.5))
def test_without_chance_the_limit_is_within_the_answer(limit: float, resolution: float) -> None:
    found = rate(exact(limit), 0.05, 4096, Rules(resolution=resolution))
    assert found.resolved and found.passed is not None and found.failed is not None
    assert found.passed <= limit < found.failed <= found.passed * (1 + resolution) * (1 + 1e-9)


def test_what_is_unresolved_is_closed_in_from_both_sides() -> None:
    async def run(level: float, seconds: float) -> Trial:
        count = round(1000 * seconds)
        share = 1.0 if level < 9.9 else 0.99 if level < 10.1 else 0.9
        return one(level, round(share * count), count)

    found = rate(run, 1, 64, Rules(resolution=0.1))
    assert (found.passed, found.failed, found.resolved) == (9.75, 10.5, True)
    # With less to tell apart, what stands between them is the answer.
    found = rate(run, 1, 64, Rules(resolution=0.01))
    assert not found.resolved and found.passed is not None and found.failed is not None
    assert found.passed < 9.9 and found.failed >= 10.1
    assert found.failed - found.passed < 0.5
    assert "could not tell" in found.reason


def test_a_run_becomes_a_trial_by_when_its_requests_were_due() -> None:
    records = [Record(index, "a", 20.0 + index) for index in range(100)]
    fates = [Fate.MET] * 90 + [Fate.MISSED] * 5 + [Fate.ASIDE] * 5
    teams = {"a": Requests(records, fates, unsent=2)}
    trial = measure(3.0, teams, Span(20.0, 120.0), invalid="slow")
    assert (trial.valid, trial.why, trial.seconds) == (False, "slow", 100.0)
    assert (trial.teams["a"].good, trial.teams["a"].counted) == (90, 97)
    assert trial.teams["a"].parts == (*[(10, 10)] * 9, (0, 5))
