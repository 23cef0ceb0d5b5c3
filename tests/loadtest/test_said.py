"""What a terminal is told of a run says what became of its requests, and why."""

from typing import Any

from loadtest.cli import said
from loadtest.client.data import WorkerStats
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.summarise import summarise
from tests.loadtest.runs import answered, data, failed, scenario


def _told(records: list[Record], **changes: Any) -> list[str]:
    return said.summary(summarise(scenario(), data(records, **changes), {})).splitlines()


def _outcomes(records: list[Record]) -> str:
    (line,) = (line for line in _told(records) if line.startswith("outcomes: "))
    return line


def test_each_outcome_has_its_codes_beside_it() -> None:
    codes = ["unknown_parameter"] * 3 + ["no_model"]
    records = [failed(n, n, Outcome.BAD_4XX, code=code) for n, code in enumerate(codes)]
    records += [failed(4, 4, Outcome.CONNECT, code="econnrefused"), answered(5, 5.0)]
    assert _outcomes(records) == (
        "outcomes: bad_4xx 4 (unknown_parameter 3, no_model 1), connect 1 (econnrefused 1), ok 1"
    )
    assert _outcomes([]) == "outcomes: none"


def test_what_a_server_says_does_nothing_to_the_terminal() -> None:
    line = _outcomes([failed(0, 1, Outcome.BAD_4XX, code="\x1b[2Jred\n" + "x" * 1000)])
    assert line.isprintable() and line.startswith("outcomes: bad_4xx 1 (?[2Jred?xxx")
    assert len(line) < 100 and line.endswith("x… 1)")


def test_one_process_is_no_processes() -> None:
    one = WorkerStats(worker=0, cpu_percent=20.0, loop_lags=[0.001], sent=1)
    two = [one, WorkerStats(worker=1, cpu_percent=20.0, loop_lags=[0.001], sent=1)]
    assert any(line.startswith("load test: 1 process, ") for line in _told([answered(0, 1.0)]))
    told = _told([answered(0, 1.0)], workers=two)
    assert any(line.startswith("load test: 2 processes, ") for line in told)
