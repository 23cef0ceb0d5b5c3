"""Two runs are told apart where they surely differ, and nowhere else."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtest.compare import Change, Compared, Comparison, compare, gate
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.intervals import newcombe
from loadtest.summary import Verdict
from tests.loadtest.bursts import misses
from tests.loadtest.runs import CONSTANT, answered, failed, scenario

SAME = scenario(duration=400, slo={"ttft": 3, "percent": 95})


def _run(
    seed: int,
    slower: float = 1.0,
    pace: float = 1.0,
    spoil: Callable[[int], bool] = lambda number: False,
) -> list[Record]:
    """Of one plan with 1200 requests: what they ask is alike in each run, the server's mood is
    not. `spoil` says which fail."""
    asked = np.random.default_rng(1).lognormal(-1.5, 0.5, 1200)
    mood = np.random.default_rng(seed).lognormal(0.0, 0.05, 1200)
    records = []
    for number in range(1200):
        at = number / 3
        if spoil(number):
            records.append(failed(number, at, Outcome.SERVER_5XX, status=500))
            continue
        first = at + float(asked[number] * mood[number]) * slower
        last = first + 0.2 * float(mood[-number]) * pace
        times = {"first": first, "output": first, "last": last, "ended": last}
        records.append(answered(number, at, tokens=21, **times))
    return records


def _verdicts(comparison: Comparison) -> dict[str, Change]:
    return {one.measure: one.verdict for one in comparison.measures}


def _measure(comparison: Comparison, name: str) -> Compared:
    return next(one for one in comparison.measures if one.measure == name)


def _all_but(comparison: Comparison, *names: str) -> set[Change]:
    return {one.verdict for one in comparison.measures if one.measure not in names}


def test_a_run_is_not_told_from_itself() -> None:
    found = compare(_run(2), _run(2), SAME, SAME)
    assert found.pairs == 1200
    assert len(found.measures) == 7
    assert _all_but(found) == {Change.CANNOT_TELL}
    times = [one for one in found.measures if one.measure != "attainment"]
    assert all(one.difference == one.low == one.high == 0 for one in times)
    assert found.warnings == []
    assert gate(found).verdict is Verdict.PASSED


def test_two_runs_of_the_same_server_are_not_told_apart() -> None:
    for seed in range(3, 9):
        found = compare(_run(2), _run(seed), SAME, SAME)
        assert _all_but(found) == {Change.CANNOT_TELL}, found


def test_a_fifth_more_is_worse_and_the_other_way_round_better() -> None:
    slow = compare(_run(2), _run(3, slower=1.2), SAME, SAME)
    verdicts = _verdicts(slow)
    assert verdicts["ttft_p50"] is verdicts["ttft_p99"] is Change.WORSE
    assert verdicts["tpot_p50"] is verdicts["output_rate"] is Change.CANNOT_TELL
    one = _measure(slow, "ttft_p50")
    assert one.low is not None and one.high is not None
    assert 10 < one.low < 20 < one.high < 30
    assert one.difference == pytest.approx(20, abs=5)
    assert gate(slow).verdict is Verdict.FAILED
    fast = compare(_run(3, slower=1.2), _run(2), SAME, SAME)
    assert _verdicts(fast)["ttft_p50"] is Change.BETTER
    assert gate(fast).verdict is Verdict.PASSED


def test_what_may_be_much_worse_does_not_pass_the_gate() -> None:
    """That nothing is surely worse is no reason: of a short run nothing ever is."""
    found = compare(_run(2), _run(3, slower=1.03), SAME, SAME)
    assert Change.WORSE not in {one.verdict for one in found.measures}
    worst = max(one.high for one in found.measures if one.less_is_better and one.high is not None)
    assert gate(found, allow=worst + 0.1).verdict is Verdict.PASSED
    held = gate(found, allow=worst / 2)
    assert held.verdict is Verdict.UNRESOLVED
    assert "may be worse by" in held.reason


def test_a_measure_that_no_answer_has_holds_nobody_up() -> None:
    whole = [answered(number, number / 3, tokens=1) for number in range(1200)]
    found = compare(whole, whole, SAME, SAME)
    assert _measure(found, "tpot_p50").reason == "no answer has it"
    assert gate(found).verdict is Verdict.PASSED


def test_a_run_that_stopped_to_stream_does_not_pass_the_gate() -> None:
    streamed = [answered(number, number / 3, tokens=5) for number in range(1200)]
    whole = [answered(number, number / 3, tokens=1) for number in range(1200)]
    found = compare(streamed, whole, SAME, SAME)
    assert _measure(found, "tpot_p50").reason != "no answer has it"
    assert gate(found).verdict is not Verdict.PASSED


def test_each_measure_sees_what_it_is_of() -> None:
    found = compare(_run(2), _run(3, pace=1.2), SAME, SAME)
    verdicts = _verdicts(found)
    assert verdicts["tpot_p50"] is verdicts["tpot_p99"] is Change.WORSE
    assert verdicts["ttft_p50"] is verdicts["ttft_p99"] is Change.CANNOT_TELL
    assert _measure(found, "tpot_p50").before == pytest.approx(0.01, rel=0.05)


def test_a_difference_that_does_not_matter_is_none() -> None:
    pairs = _run(2), _run(2, slower=1.015)
    assert _verdicts(compare(*pairs, SAME, SAME))["ttft_p50"] is Change.CANNOT_TELL
    # It is sure all the same: with a smaller least one it is seen.
    assert _verdicts(compare(*pairs, SAME, SAME, least=0.1))["ttft_p50"] is Change.WORSE


def test_failures_make_attainment_and_the_tail_worse_and_not_the_middle() -> None:
    found = compare(_run(2), _run(3, spoil=lambda number: number % 20 == 0), SAME, SAME)
    verdicts = _verdicts(found)
    assert verdicts["attainment"] is verdicts["ttft_p99"] is Change.WORSE
    tail = _measure(found, "ttft_p99")
    assert (tail.after, tail.difference, tail.high) == (None, None, None)
    attained = _measure(found, "attainment")
    assert attained.difference == pytest.approx(-5)
    assert attained.before == 1.0
    assert attained.least == 0.5
    # Fewer tokens come too: a twentieth less.
    assert verdicts["output_rate"] is Change.WORSE
    assert gate(found).verdict is Verdict.FAILED
    restored = compare(_run(3, spoil=lambda number: number % 20 == 0), _run(2), SAME, SAME)
    assert _measure(restored, "ttft_p99").verdict is Change.BETTER


def test_failures_that_come_together_show_less_than_their_number() -> None:
    """60 of 1200 fail: in one stretch that is as of a service that is down once in a while, and
    may not have been in the other run. In twenty it is more than chance."""
    once = compare(_run(2), _run(3, spoil=lambda number: 500 <= number < 560), SAME, SAME)
    attained = _measure(once, "attainment")
    assert attained.difference == pytest.approx(-5)
    assert attained.low is not None and attained.high is not None
    assert attained.low < -20 and attained.high > -0.5
    assert attained.verdict is Change.CANNOT_TELL
    assert 100 * newcombe(1200, 1200, 1140, 1200)[1] < -3, "by their number it would be worse"
    often = compare(_run(2), _run(3, spoil=lambda number: number % 60 < 3), SAME, SAME)
    assert _measure(often, "attainment").difference == pytest.approx(-5)
    assert _measure(often, "attainment").verdict is Change.WORSE


def _now_and_then(source: np.random.Generator) -> list[Record]:
    """Of a service that misses in bursts, and keeps 95% in the long run."""
    due, good = misses(source, 0.95, 1.0, rate=2.0)
    marks = enumerate(zip(due.tolist(), good.tolist(), strict=True))
    return [answered(n, at, ttft=0.1 if kept else 9.0) for n, (at, kept) in marks]


def test_two_runs_of_a_service_that_is_down_now_and_then_are_not_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The intervals of times take long, and are not what this is about.
    monkeypatch.setattr("loadtest.compare._TIMES", ())
    source = np.random.default_rng(3)
    told = plain = 0
    for _ in range(60):
        a, b = _now_and_then(source), _now_and_then(source)
        one = _measure(compare(a, b, SAME, SAME), "attainment")
        told += one.verdict is not Change.CANNOT_TELL
        met, other = (sum((each.ttft or 9.0) < 3 for each in run) for run in (a, b))
        low, high = newcombe(met, len(a), other, len(b))
        plain += 100 * low > 0.5 or 100 * high < -0.5
    assert told <= 0.05 * 60
    assert plain > 0.1 * 60, "taken for independent they would be: this test can fail"


def test_two_runs_that_fail_alike_are_alike() -> None:
    half = _run(2, spoil=lambda number: number % 2 == 0)
    found = compare(half, half, SAME, SAME)
    assert _all_but(found) == {Change.CANNOT_TELL}
    assert _measure(found, "ttft_p99").difference == 0


def test_it_says_the_same_each_time() -> None:
    one, other = _run(2), _run(3, slower=1.03)
    assert compare(one, other, SAME, SAME) == compare(one[::-1], other[::-1], SAME, SAME)


def test_a_short_run_cannot_tell_and_says_why() -> None:
    short = scenario(duration=5)
    records = [answered(number, number) for number in range(5)]
    found = compare(records, [answered(n, n, ttft=2.0) for n in range(5)], short, short)
    assert _all_but(found) == {Change.CANNOT_TELL}
    assert _measure(found, "ttft_p50").reason == "too few requests, or too short a run"
    assert found.warnings == []
    assert gate(found).verdict is Verdict.UNRESOLVED, "nothing was told, and nothing passes"


def test_of_an_interrupted_run_and_a_whole_one_only_the_time_that_both_ran_counts() -> None:
    """Its rate is that of the time that it ran, and not less by what it never sent."""
    cut = [one for one in _run(3) if one.scheduled <= 200]
    found = compare(_run(2), cut, SAME, SAME, ended=(None, 200.0))
    assert found.pairs == 600
    assert _all_but(found) == {Change.CANNOT_TELL}
    rate = _measure(found, "output_rate")
    assert rate.before == pytest.approx(3 * 21, rel=0.02)
    assert rate.difference == pytest.approx(0, abs=2)
    assert found.warnings == [
        "the run after was interrupted after 200 s: of both, only what was due until then counts"
    ]
    assert gate(found).verdict is Verdict.UNRESOLVED


@pytest.mark.parametrize("records", [[], [failed(0, 1.0, Outcome.CANCELLED)]])
def test_runs_of_nothing_cannot_be_compared(records: list[Record]) -> None:
    found = compare(records, records, SAME, SAME)
    assert _all_but(found) == {Change.CANNOT_TELL}
    assert found.warnings == ["no request is in both runs: there is nothing to compare"]
    assert gate(found).verdict is Verdict.UNRESOLVED


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"seed": 2}, "seed"),
        ({"duration": 401}, "duration"),
        ({"slo": {"ttft": 1}}, "slo"),
        ({"teams": {"main": {"arrivals": {"kind": "constant", "rate": 2}}}}, "team main"),
        (
            {"teams": {"main": {"arrivals": CONSTANT}, "b": {"arrivals": CONSTANT}}},
            "team b is in one of them only",
        ),
    ],
)
def test_runs_that_did_something_else_are_warned_of(said: dict[str, Any], word: str) -> None:
    other = Scenario.model_validate(SAME.model_dump(by_alias=True) | said)
    found = compare(_run(2), _run(2), SAME, other)
    assert found.warnings == [f"the runs differ in what they did: {word}"]
    assert gate(found).verdict is Verdict.UNRESOLVED


def test_where_it_went_and_with_which_key_may_differ() -> None:
    teams = {"main": {"arrivals": CONSTANT, "key_env": "OTHER"}}
    said = {"target": {"url": "http://other"}, "teams": teams, "workers": 3}
    other = Scenario.model_validate(SAME.model_dump(by_alias=True) | said)
    assert compare(_run(2), _run(2), SAME, other).warnings == []


def test_requests_that_only_one_of_them_has_are_warned_of() -> None:
    found = compare(_run(2), _run(2)[:600], SAME, SAME)
    assert found.warnings == ["only 600 of 1,200 requests are in both runs"]


def test_later_turns_are_paired_with_later_turns() -> None:
    def turns(seed: int, second: float) -> list[Record]:
        return [
            msgspec.structs.replace(one, turn=turn, first=one.scheduled + ttft)
            for one in _run(seed)
            for turn, ttft in ((0, 1.0), (1, second))
        ]

    found = compare(turns(2, 2.0), turns(3, 2.0), SAME, SAME)
    assert found.pairs == 2400
    assert _measure(found, "ttft_p99").difference == 0
    assert _verdicts(compare(turns(2, 2.0), turns(3, 2.5), SAME, SAME))["ttft_p99"] is Change.WORSE


def test_it_can_be_written_as_json() -> None:
    found = compare(_run(2), _run(3, spoil=lambda number: number % 20 == 0), SAME, SAME)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Comparison) == found
    numbers = [number for one in found.measures for number in (one.low, one.high, one.before)]
    assert all(number is None or math.isfinite(number) for number in numbers)
