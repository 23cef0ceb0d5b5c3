"""A fault is charged with what it did, and with nothing that would have been without it."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.faults.events import Firing, Made
from loadtest.faults.seen import seen
from loadtest.outcome import Outcome
from loadtest.record import Attempt, Record
from loadtest.scenario.document import Scenario
from loadtest.summary import FaultSeen

FAILED = Outcome.CONNECT


def scenario(faults: int = 1, percent: float = 99.0, **more: Any) -> Scenario:
    one = {"at": 30, "do": "kill", "target": "x", "alert": "Down", "alert_within": 60}
    return Scenario.model_validate(
        {
            "name": "t",
            "duration": 100,
            "slo": {"ttft": 1.0, "percent": percent},
            "teams": {"a": {"arrivals": {"kind": "constant", "rate": 10}, **more}},
            "fault_targets": {"x": {"kind": "process", "command": "x"}},
            "faults": [one] * faults,
            "prometheus": "http://p",
        }
    )


def record(due: float, outcome: Outcome = Outcome.OK, took: float = 0.5, **more: Any) -> Record:
    """A request that took so long, with its first token halfway."""
    one = Record(0, "a", due, sent=due, ended=due + took, outcome=outcome, **more)
    one.first = due + took / 2 if one.good else None
    return one


def steady(
    bad: Sequence[tuple[float, float]] = (), rate: int = 10, seconds: int = 100
) -> list[Record]:
    """Ten a second, all good but those due between these times."""
    dues = [number / rate for number in range(rate * seconds)]
    return [
        record(due, FAILED if any(low <= due < high for low, high in bad) else Outcome.OK)
        for due in dues
    ]


def made(began: float = 30.0, ended: float | None = 40.0, number: int = 0, error: str = "") -> Made:
    return Made(number, "kill", "x", began, ended, error)


def one(
    records: list[Record],
    fault: Made | None = None,
    percent: float = 99.0,
    team: dict[str, Any] | None = None,
) -> FaultSeen:
    found = seen([fault or made()], records, scenario(percent=percent, **team or {}))
    assert len(found) == 1
    return found[0]


def test_an_outage_is_seen_in_all_its_figures() -> None:
    found = one(steady(bad=[(30, 45)]))
    assert (found.what, found.target, found.at, found.ended) == ("kill", "x", 30, 10)
    # The first that failed took half a second to.
    assert found.detected == pytest.approx(0.5)
    assert found.lost == 150
    assert found.retried == 0
    # It ended at 40, and requests were good from 45 on.
    assert found.recovered == pytest.approx(5.0)
    # A budget of 1 in 100 of 1000 requests, and 150 failed.
    assert found.budget_percent == pytest.approx(1500)
    assert found.error == ""


def test_what_the_next_fault_breaks_is_not_charged_to_a_harmless_one_before_it() -> None:
    faults = [made(30, 32), made(42, 44, number=1)]
    harmless, harmful = seen(faults, steady(bad=[(42, 48)]), scenario(faults=2))
    assert (harmless.detected, harmless.lost, harmless.recovered) == (None, 0, 0.0)
    assert harmful.lost == 60
    assert harmful.recovered == pytest.approx(4.0)


def test_a_fault_that_nobody_felt_did_nothing() -> None:
    found = one(steady())
    assert (found.detected, found.lost, found.retried, found.budget_percent) == (None, 0, 0, 0)
    assert found.recovered == 0


def test_requests_that_were_open_when_it_was_made_are_its_own() -> None:
    records = steady()
    # Long answers, which began before and broke off with it.
    records += [record(20 + number, Outcome.TRUNCATED, 10.5 - number) for number in range(10)]
    found = one(records, made(30, 30))
    assert found.lost == 10
    assert found.detected == pytest.approx(0.5)
    assert found.recovered == 0


def test_requests_that_ended_before_are_not() -> None:
    records = steady(bad=[(28, 29)])
    found = one(records)
    assert (found.lost, found.detected) == (0, None)


def test_failures_that_come_anyway_are_not_charged_to_it() -> None:
    records = [
        record(number / 10, FAILED if number % 10 == 0 else Outcome.OK) for number in range(1000)
    ]
    found = one(records)
    assert found.detected is None
    assert found.lost <= 2
    assert found.recovered is not None


def test_what_goes_beyond_the_failures_that_come_anyway_is() -> None:
    records = [
        record(
            number / 10,
            FAILED if number % 10 == 0 or 300 <= number < 400 else Outcome.OK,
        )
        for number in range(1000)
    ]
    found = one(records)
    assert found.lost == pytest.approx(90, abs=2)
    # One failure would say nothing where one in ten fails, several in a row do.
    assert found.detected == pytest.approx(0.7, abs=0.25)


def test_retries_are_counted_and_felt_when_the_first_sending_failed() -> None:
    records = steady()
    for number in range(305, 325):
        records[number].attempts = [
            Attempt(records[number].scheduled, records[number].scheduled + 0.1, FAILED)
        ]
    found = one(records)
    assert (found.lost, found.retried) == (0, 20)
    assert found.detected == pytest.approx(0.6)
    # They were answered in time: no budget was spent.
    assert found.budget_percent == 0


def test_answers_that_are_late_spend_budget_and_are_not_lost() -> None:
    records = [record(n / 10, took=9.0 if 300 <= n < 350 else 0.5) for n in range(1000)]
    found = one(records, made(30, 32))
    assert (found.lost, found.detected) == (0, None)
    assert found.budget_percent == pytest.approx(500)
    assert found.recovered == pytest.approx(3.0)


def test_what_never_comes_back_has_no_recovery() -> None:
    found = one(steady(bad=[(30, 100)]))
    assert found.recovered is None
    assert found.lost == 700


def test_a_run_that_ends_with_the_fault_cannot_say_whether_it_recovers() -> None:
    assert one(steady(), made(30, 98)).recovered is None
    assert one(steady(), made(30, None)).recovered is None
    # One window is enough, where no more is left.
    assert one(steady(), made(30, 92)).recovered == 0


def test_good_moments_within_an_outage_are_no_recovery() -> None:
    found = one(steady(bad=[(30, 42), (50, 55)]))
    assert found.recovered == pytest.approx(15.0)
    assert found.lost == 170
    # Far later is another story.
    assert one(steady(bad=[(30, 42), (80, 85)])).recovered == pytest.approx(2.0)


def test_a_window_has_twenty_requests_where_they_are_rare() -> None:
    # One a second: three of twenty that fail may be as it was before, three of five are not.
    records = steady(bad=[(30, 47), (50, 53)], rate=1)
    assert one(records, made(30, 40)).recovered == pytest.approx(7.0)


def test_without_anything_before_there_is_no_as_before() -> None:
    found = one(steady(), made(0.0, 5.0))
    assert found.recovered is None
    assert (found.detected, found.lost) == (None, 0)


def test_each_fault_has_what_was_before_it_as_its_base() -> None:
    records = steady(bad=[(30, 35), (60, 62)])
    faults = [made(30, 32), made(60, 61, number=1)]
    first, second = seen(faults, records, scenario(faults=2))
    assert first.lost == 50
    assert first.recovered == pytest.approx(3.0)
    # The outage before it is no reason to expect failures.
    assert second.lost == 20
    assert second.recovered == pytest.approx(1.0)
    assert second.detected == pytest.approx(0.5)
    assert seen(faults[::-1], records, scenario(faults=2)) == [first, second]


def test_a_fault_within_the_influence_of_another_has_its_base() -> None:
    records = steady(bad=[(30, 60)])
    first, second = seen([made(30, 32), made(40, 42, number=1)], records, scenario(faults=2))
    assert first.lost == 300
    assert second.lost == pytest.approx(200, abs=5)
    assert second.recovered == pytest.approx(18.0)


def test_what_says_nothing_about_the_service_is_left_out() -> None:
    records = steady()
    for number in range(300, 400):
        records[number].outcome = Outcome.CANCELLED if number % 2 else Outcome.QUOTA_429
    found = one(records, team={"expect": {"conforming": False}})
    assert (found.lost, found.detected, found.recovered) == (0, None, 0)
    # A team that keeps its limits is refused wrongly.
    assert one(records).lost == 50


def test_one_that_never_ended_is_open() -> None:
    records = steady()
    records.append(replaced(record(29.0, FAILED), ended=None))
    assert one(records).lost == 1


def replaced(one: Record, ended: float | None) -> Record:
    one.ended = ended
    return one


def test_a_fault_that_was_not_made_did_nothing() -> None:
    found = one(steady(bad=[(30, 35)]), made(error="no process"))
    assert found.error == "no process"
    assert (found.detected, found.lost, found.recovered, found.ended) == (None, 0, None, None)


def alerted(*firings: Firing) -> float | None:
    return seen([made()], steady(), scenario(), firings)[0].alerted


def test_an_alert_counts_from_the_fault_to_when_it_fires() -> None:
    assert alerted(Firing("Down", 42.0)) == 12.0
    assert alerted(Firing("Down", 70.0), Firing("Down", 42.0, 50.0)) == 12.0
    assert alerted() is None
    assert alerted(Firing("Other", 42.0)) is None
    # It fired already, for something else; it fired too late to be of use.
    assert alerted(Firing("Down", 29.0)) is None
    assert alerted(Firing("Down", 91.0)) is None


def test_a_run_with_no_budget_spends_it_with_the_first_failure() -> None:
    assert one(steady(bad=[(30, 30.05)]), percent=100.0).budget_percent == 100
    assert one(steady(), percent=100.0).budget_percent == 0


OUTCOMES = st.sampled_from([Outcome.OK, Outcome.OK, FAILED, Outcome.CANCELLED, Outcome.QUOTA_429])
RECORDS = st.builds(record, st.floats(0, 100), OUTCOMES, st.floats(0.01, 30), retry_after=st.none())


@settings(max_examples=200)
@given(
    st.lists(RECORDS, max_size=80),
    st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 30)), min_size=1, max_size=3),
)
def test_whatever_happened_figures_are_within_what_they_can_be(
    records: list[Record], times: list[tuple[float, float | None]]
) -> None:
    numbers = count()
    faults = [
        made(began, None if lasts is None else began + lasts, next(numbers))
        for began, lasts in times
    ]
    found = seen(faults, records, scenario(faults=3))
    assert [fault.at for fault in found] == sorted(began for began, _ in times)
    failed = sum(not record.good and record.outcome is not Outcome.CANCELLED for record in records)
    cancelled = sum(record.outcome is Outcome.CANCELLED for record in records)
    for fault in found:
        assert 0 <= fault.lost <= failed + cancelled
        assert fault.retried == 0
        assert fault.budget_percent >= 0
        assert fault.detected is None or fault.detected >= 0
        assert fault.recovered is None or fault.recovered >= 0


def test_the_order_of_records_says_nothing() -> None:
    records = steady(bad=[(30, 45)])
    assert one(records) == one(records[::-1])
