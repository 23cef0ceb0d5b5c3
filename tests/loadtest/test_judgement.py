"""A verdict is by what is surely so, and says why."""

from typing import Any

import pytest

from loadtest.judgement import Judgement, all_of, of_fault, of_objectives, of_share, worst
from loadtest.measured import Fate, Requests, Span
from loadtest.scenario.document import SLO, Scenario
from loadtest.statistics.intervals import wilson
from loadtest.summarise import summarise
from loadtest.summary import FaultSeen, Summary, Verdict
from tests.loadtest.runs import answered, data, scenario

SPAN = Span(0.0, 100.0)


@pytest.mark.parametrize(
    ("met", "count", "verdict"),
    [
        (380, 380, Verdict.UNRESOLVED),  # Wilson's lower end is 0.98999...
        (381, 381, Verdict.PASSED),
        (990, 1000, Verdict.UNRESOLVED),
        (978, 1000, Verdict.FAILED),
        (985, 1000, Verdict.UNRESOLVED),
        (0, 0, Verdict.UNRESOLVED),
    ],
)
def test_the_verdict_is_by_the_interval(met: int, count: int, verdict: Verdict) -> None:
    fates = [Fate.MET] * met + [Fate.MISSED] * (count - met)
    requests = Requests([answered(0, 0.0)] * count, fates)
    judged = of_objectives(requests, SPAN, SLO(ttft=3.0, percent=99))
    assert judged.verdict is verdict
    low, high = wilson(met, count)
    assert (verdict is Verdict.PASSED) == (low >= 0.99)
    assert (verdict is Verdict.FAILED) == (high < 0.99)


def _late(late: set[int]) -> Judgement:
    """Of a run of 100 s with 20 requests a second, of which these were late."""
    records = [answered(n, n / 20, ttft=9.0 if n in late else 0.1) for n in range(2000)]
    judged = summarise(scenario(slo={"ttft": 3, "percent": 99}), data(records), {})
    return Judgement(judged.verdict, judged.reasons)


def test_requests_that_are_late_together_show_less_than_their_number() -> None:
    """Eight of two thousand are late: spread over the run that passes, and all within a second it
    does not, as one such second more would be too many."""
    assert _late(set(range(100, 2000, 250))).verdict is Verdict.PASSED
    judged = _late(set(range(1000, 1008)))
    assert judged.verdict is Verdict.UNRESOLVED
    assert "(97.33% to 99.94% by 95% confidence)" in judged.reasons[0]
    assert "came together, and all say no more than 193" in judged.reasons[0]
    assert judged.reasons[0].endswith("run longer, about 8,916 more requests would tell")


def test_nor_do_they_fail_a_run_by_their_number() -> None:
    """By their number 4% late are too many for a promise of 99%. In one stretch they may be what a
    service has once in many such runs; in twenty they are not."""
    once = _late(set(range(1000, 1080)))
    assert wilson(1920, 2000)[1] < 0.99
    assert once.verdict is Verdict.UNRESOLVED
    assert "those that missed came together" in once.reasons[0]
    often = {start + n for start in range(40, 2000, 100) for n in range(4)}
    assert len(often) == 80
    assert _late(often).verdict is Verdict.FAILED
    # That half of a run was beyond capacity needs no other run.
    assert _late(set(range(1000, 2000))).verdict is Verdict.FAILED


def test_a_promise_of_all_is_broken_by_one() -> None:
    records = [answered(n, n / 20, ttft=9.0 if n == 7 else 0.1) for n in range(2000)]
    judged = summarise(scenario(slo={"ttft": 3, "percent": 100}), data(records), {})
    assert judged.verdict is Verdict.FAILED
    fine = summarise(scenario(slo={"ttft": 3, "percent": 100}), data(records[8:]), {})
    assert fine.verdict is Verdict.UNRESOLVED
    assert fine.reasons[0].endswith("too near to tell by any run")


def test_an_unresolved_run_says_how_much_longer() -> None:
    requests = Requests([answered(0, 0.0)] * 100, [Fate.MET] * 100)
    judged = of_objectives(requests, SPAN, SLO(ttft=3.0, percent=99))
    assert judged.reasons == [
        "100% of 100 requests had TTFT within 3 s (96.3% to 100% by 95% confidence); 99% is"
        " promised: run longer, about 281 more requests would tell"
    ]
    assert wilson(381, 381)[0] >= 0.99


def test_a_share_at_the_promise_itself_is_not_to_be_told() -> None:
    requests = Requests([answered(0, 0.0)] * 100, [Fate.MET] * 99 + [Fate.MISSED])
    (reason,) = of_objectives(requests, SPAN, SLO(percent=99)).reasons
    assert reason.endswith("that is too near to tell by any run")


@pytest.mark.parametrize(
    ("number", "percents", "verdict"),
    [
        (750, (60, 90), Verdict.PASSED),
        (620, (60, 90), Verdict.UNRESOLVED),
        (500, (60, 90), Verdict.FAILED),
        (950, (60, 90), Verdict.FAILED),
        (0, (0, 0), Verdict.PASSED),
        (1, (0, 0), Verdict.FAILED),
        (1000, (100, 100), Verdict.PASSED),
        (0, (0, 5), Verdict.PASSED),
    ],
)
def test_outcomes_are_held_to_what_was_expected(
    number: int, percents: tuple[float, float], verdict: Verdict
) -> None:
    judged = of_share("quota_429", number, 1000, percents)
    assert judged.verdict is verdict
    assert "quota_429" in judged.reasons[0]


def test_faults_count_by_their_alerts() -> None:
    def seen(**said: Any) -> FaultSeen:
        made: dict[str, Any] = dict.fromkeys(("detected", "alerted", "recovered", "ended"))
        made |= {"what": "kill", "target": "engine", "at": 1.0, "error": "", "alert": "Down"}
        made |= {"lost": 0, "retried": 0, "budget_percent": 0.0}
        return FaultSeen(**(made | said))

    assert of_fault(seen()).verdict is Verdict.FAILED
    assert of_fault(seen(alerted=5.0)).verdict is Verdict.PASSED
    assert of_fault(seen(alert="")).verdict is Verdict.PASSED
    assert of_fault(seen(error="no such process")).verdict is Verdict.UNRESOLVED
    records = [answered(number, number / 10) for number in range(1000)]
    made = summarise(scenario(), data(records), {}, faults=[seen()])
    assert (made.verdict, made.reasons[0]) == (
        Verdict.FAILED,
        "Down did not fire after kill of engine",
    )


def _with_faults(*ats: float, within: float = 30.0) -> Scenario:
    return scenario(
        prometheus="http://127.0.0.1:9090",
        fault_targets={"engine": {"kind": "process", "command": "x"}},
        faults=[
            {"at": at, "do": "kill", "target": "engine", "alert": "Down", "alert_within": within}
            for at in ats
        ],
    )


def _killed(at: float, alerted: float | None) -> FaultSeen:
    return FaultSeen(
        what="kill", target="engine", at=at, ended=1.0, error="", detected=None, alerted=alerted,
        alert="Down", lost=0, retried=0, recovered=None, budget_percent=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("faults", "verdict", "reason"),
    [
        ([_killed(10.0, 5.0), _killed(60.0, 5.0)], Verdict.PASSED, "100% of"),
        ([_killed(10.0, 5.0)], Verdict.UNRESOLVED, "kill of engine at 60 s was never made"),
        ([], Verdict.UNRESOLVED, "kill of engine at 10 s was never made"),
        # The run ended 40 s after the second one, 90 s after the first.
        ([_killed(10.0, None), _killed(60.0, 5.0)], Verdict.FAILED, "Down did not fire after"),
        ([_killed(10.0, 5.0), _killed(60.0, None)], Verdict.UNRESOLVED, "Down was not seen to"),
    ],
)
def test_a_fault_that_was_not_made_or_not_watched_long_enough_leaves_the_run_unresolved(
    faults: list[FaultSeen], verdict: Verdict, reason: str
) -> None:
    said = _with_faults(10.0, 60.0, within=50.0)
    records = [answered(number, number / 10) for number in range(1000)]
    made = summarise(said, data(records, seconds=100.5), {}, faults=faults)
    assert made.verdict is verdict
    assert made.reasons[0].startswith(reason)


def test_an_alert_that_nobody_could_see_leaves_the_run_unresolved() -> None:
    """Prometheus never answered, or not for as long as the alert may take."""
    said = _with_faults(10.0)
    records = [answered(number, number / 10) for number in range(1000)]

    def made(watched: float | None) -> Summary:
        run = data(records, seconds=100.5)
        return summarise(said, run, {}, faults=[_killed(10.0, None)], watched=watched)

    assert [made(until).verdict for until in (0.0, 39.0, 40.0, None)] == [
        *[Verdict.UNRESOLVED] * 2,
        *[Verdict.FAILED] * 2,
    ]


def test_the_worst_verdict_comes_first() -> None:
    assert worst([]) is Verdict.UNRESOLVED
    assert worst([Verdict.PASSED, Verdict.UNRESOLVED]) is Verdict.UNRESOLVED
    judged = all_of([Judgement(Verdict.PASSED, ["fine"]), Judgement(Verdict.FAILED, ["not"])])
    assert (judged.verdict, judged.reasons) == (Verdict.FAILED, ["not", "fine"])
