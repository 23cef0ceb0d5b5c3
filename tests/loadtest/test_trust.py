"""A load test that was too slow itself says so, by each of the ways in which it can be."""

import pytest

from loadtest.client.data import WorkerStats
from loadtest.outcome import Outcome
from loadtest.record import Attempt, Record
from loadtest.summarise import summarise
from loadtest.summary import Summary, Verdict
from tests.loadtest.runs import answered, data, failed, planned, scenario


def _healthy() -> list[Record]:
    return [answered(number, number / 10) for number in range(1000)]


def _made(records: list[Record], cpu: float = 20, loop: float = 0.001, **said: object) -> Summary:
    workers = [
        WorkerStats(worker=0, cpu_percent=10, loop_lags=[0.001] * 100, sent=500),
        WorkerStats(worker=1, cpu_percent=cpu, loop_lags=[0.0] * 98 + [loop] * 2, sent=500),
    ]
    return summarise(scenario(), data(records, workers=workers, **said), {})


def _late(lag: float, share: int) -> list[Record]:
    return [
        answered(number, number / 10, sent=number / 10 + (lag if number % 100 < share else 0))
        for number in range(1000)
    ]


def test_a_healthy_one_is_believed() -> None:
    made = _made(_healthy())
    assert made.verdict is Verdict.PASSED
    assert made.trusted.valid
    assert made.trusted.reasons == made.trusted.notes == []
    assert (made.trusted.rate_percent, made.trusted.workers) == (100.0, 2)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (_made(_late(0.06, 2)), "after they were due"),
        (_made(_healthy(), cpu=95), "used 95% of its core"),
        (_made(_healthy(), loop=0.06), "event loop"),
        (_made(_healthy(), lost_workers=["1 was killed by signal 9"]), "worker 1 was killed"),
    ],
)
def test_each_way_to_be_too_slow_makes_it_invalid(made: Summary, word: str) -> None:
    assert made.verdict is Verdict.INVALID
    assert not made.trusted.valid
    (reason,) = made.trusted.reasons
    assert word in reason
    assert made.reasons[0] == f"the load test itself is not to be trusted: {reason}"


@pytest.mark.parametrize("code", ["emfile", "enfile", "eaddrnotavail", "enobufs", "enomem"])
def test_a_connection_for_which_the_client_had_no_room_is_not_the_server_s_failure(
    code: str,
) -> None:
    records = _healthy()
    records[500] = failed(500, 50.0, Outcome.CONNECT, sent=None, began=50.0, code=code)
    made = _made(records)
    assert made.verdict is Verdict.INVALID
    (reason,) = made.trusted.reasons
    assert f"its own machine had no room for 1 connections ({code})" in reason
    records[500].code = "econnrefused"
    assert _made(records).trusted.valid


def test_what_the_drain_cut_is_said_where_it_is_much() -> None:
    def cut(count: int) -> list[str]:
        records = _healthy()
        for number in range(count):
            at = number / 10
            records[number] = failed(number, at, Outcome.CANCELLED, code="drained")
        return _made(records).trusted.notes

    assert cut(10) == []
    assert cut(11)[0].startswith("1.1% of requests were still open at the end of `drain`")


def test_at_its_bounds_it_is_believed() -> None:
    made = _made(_late(0.0499, 2), cpu=90, loop=0.05)
    assert made.trusted.valid, made.trusted.reasons
    assert made.trusted.lag_p99 == pytest.approx(0.0499)
    assert made.trusted.lag_highest == pytest.approx(0.0499)
    assert made.trusted.lag_p50 == 0.0


def test_less_than_one_late_request_in_a_hundred_is_no_99th_percentile() -> None:
    late_ones = [
        answered(number, number / 10, sent=number / 10 + (1.0 if number < 9 else 0.0))
        for number in range(1000)
    ]
    assert _made(late_ones).trusted.valid


def test_the_bound_of_lag_is_a_twentieth_of_what_is_promised() -> None:
    strict = scenario(slo={"ttft": 0.2, "percent": 90})
    assert strict.lag_bound == pytest.approx(0.01)
    records = [
        answered(number, number / 10, 0.05, sent=number / 10 + 0.02) for number in range(1000)
    ]
    assert not summarise(strict, data(records), {}).trusted.valid


def test_a_load_test_that_falls_behind_sends_too_little_in_its_time() -> None:
    """It sends at nine tenths of the rate: the last tenth comes after the measured time."""
    records = [answered(number, number / 10, ttft=20, sent=number / 9) for number in range(1000)]
    assert _made(records).trusted.rate_percent == pytest.approx(90, abs=0.2)


def test_a_request_that_found_no_connection_was_sent_as_far_as_it_could_be() -> None:
    records = [
        Record(number, "main", number / 10, began=number / 10, outcome=Outcome.CONNECT)
        for number in range(1000)
    ]
    assert _made(records).trusted.rate_percent == 100.0


@pytest.mark.parametrize(("cpu", "others"), [(2, True), (45, True), (46, False), (88, False)])
def test_who_was_kept_from_its_work_is_told_so_and_not_to_have_more_workers(
    cpu: float, others: bool
) -> None:
    slow = {"lag": _late(0.06, 2), "loop": _healthy(), "rate": _late(200, 100)}
    for why, records in slow.items():
        reasons = _made(records, cpu=cpu, loop=0.06 if why == "loop" else 0.001).trusted.reasons
        assert reasons
        for reason in reasons:
            assert ("something else on this machine takes the processor" in reason) == others
            assert ("more workers" in reason) != others
            assert not others or f"used {max(cpu, 10):.0f}% of a core at most" in reason


def test_who_was_busy_itself_is_told_to_have_more_workers() -> None:
    (reason,) = _made(_healthy(), cpu=95).trusted.reasons
    assert "give the load test more workers" in reason


def test_waiting_to_be_sent_again_is_no_lag() -> None:
    refused = Attempt(sent=1.0, ended=1.1, outcome=Outcome.QUOTA_429, status=429, retry_after=5)
    assert answered(0, 1.0, ttft=6.0, sent=6.1, attempts=[refused]).lag == 0.0


def test_one_that_was_killed_says_what_nobody_knows_of_it() -> None:
    made = _made(_healthy(), died=True)
    assert made.trusted.valid
    assert made.trusted.notes[0].startswith("the load test was killed: how its own processes did")


def test_one_that_was_killed_is_not_judged_by_what_was_open_then() -> None:
    """Six of ten were open, and have no record: nobody knows whether they were sent in time."""
    plans = {"main": planned(number / 10 for number in range(1000))}
    ended = [one for one in _healthy() if one.index % 10 < 4]

    def made(died: bool) -> Summary:
        return summarise(scenario(), data(ended, interrupted=died, died=died), plans)

    killed, lived = made(died=True).trusted, made(died=False).trusted
    assert killed.valid and killed.rate_percent == pytest.approx(40, abs=1)
    assert "whether it sent them in time is not judged" in killed.notes[0]
    (reason,) = lived.reasons
    assert reason.startswith("only 40% of the requests that were due were sent in time")


def test_where_no_process_told_how_it_did_nothing_is_believed() -> None:
    made = summarise(scenario(), data(_healthy(), workers=[], died=True), {})
    assert made.verdict is Verdict.INVALID
    (reason,) = made.trusted.reasons
    assert reason.endswith("before its processes had said how they did")


def test_a_clock_that_was_set_is_a_note_and_no_more() -> None:
    made = _made(_healthy(), clock_steps=-3.5)
    assert made.verdict is Verdict.PASSED
    assert made.trusted.notes[0].startswith("the wall clock was set by -3.50 s")
    assert not _made(_healthy(), clock_steps=0.01).trusted.notes


def test_nothing_that_was_due_is_nothing_that_is_missing() -> None:
    made = summarise(scenario(), data([], workers=[]), {"main": planned([])})
    assert made.trusted.rate_percent == 100.0
    assert made.trusted.valid
