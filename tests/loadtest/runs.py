"""Runs that are made by hand, so that what they come to is known."""

from collections.abc import Iterable, Sequence
from typing import Any

from loadtest.client.data import RunData, WorkerStats
from loadtest.outcome import Outcome
from loadtest.plan.arrival import Arrival
from loadtest.plan.plan import TeamPlan
from loadtest.record import Record
from loadtest.scenario.document import Scenario

CONSTANT = {"kind": "constant", "rate": 1}


def scenario(**said: Any) -> Scenario:
    """Of one team, `main`, for 100 s, unless it is said otherwise."""
    document = {"name": "made", "duration": 100, "teams": {"main": {"arrivals": CONSTANT}}}
    return Scenario.model_validate(document | said)


def answered(index: int, at: float, ttft: float = 0.5, tokens: int = 11, **said: Any) -> Record:
    """A whole answer: sent when it was due, then a token each 10 ms."""
    first = at + ttft
    last = first + 0.01 * (tokens - 1)
    made: dict[str, Any] = {
        "team": "main",
        "workload": "default",
        "sent": at,
        "headers": at,
        "first": first,
        "output": first,
        "last": last,
        "ended": last,
        "outcome": Outcome.OK,
        "status": 200,
        "finish": "stop",
        "prompt_tokens": 100,
        "output_tokens": tokens,
        "first_tokens": 1,
        "pieces": tokens,
        "max_gap": 0.01,
    }
    return Record(index=index, scheduled=at, **(made | said))


def failed(index: int, at: float, outcome: Outcome, **said: Any) -> Record:
    """One that came to nothing after 0.1 s."""
    made: dict[str, Any] = {"team": "main", "workload": "default", "sent": at, "ended": at + 0.1}
    return Record(index=index, scheduled=at, outcome=outcome, **(made | said))


def data(records: Sequence[Record], **said: Any) -> RunData:
    """What a healthy client gives of it."""
    made: dict[str, Any] = {
        "workers": [WorkerStats(worker=0, cpu_percent=20.0, loop_lags=[0.001], sent=len(records))],
        "began": 1_700_000_000.0,
        "seconds": max([100.0, *(record.ended or 0.0 for record in records)]),
        "interrupted": False,
        "clock_steps": 0.0,
        "run": "r1",
    }
    return RunData(records=list(records), **(made | said))


def planned(times: Iterable[float], closed: bool = False) -> TeamPlan:
    """A team's plan with its arrivals at these times."""
    arrivals = [Arrival(index=number, at=at, workload=0, seed=1) for number, at in enumerate(times)]
    return TeamPlan(arrivals=arrivals, closed=closed)
