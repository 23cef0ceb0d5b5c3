"""A run that was never made: records as a busy server would have left them, and their summary.

Two teams keep their limits and one does not; at 60 s a replica dies for 15 s.
"""

import math
from random import Random
from typing import Any, Final

import msgspec

from loadtest.client.data import RunData, WorkerStats
from loadtest.outcome import Outcome
from loadtest.plan.arrival import Arrival
from loadtest.plan.plan import TeamPlan
from loadtest.record import Attempt, Record
from loadtest.scenario.document import Scenario
from loadtest.summarise import summarise
from loadtest.summary import FaultSeen, Quota, Series, Summary

HOSTILE: Final = '<script>alert("x")</script> & <b>%{x}'
"""A team that would like to be a script."""
BEGAN: Final = 1_764_113_713.25
SECONDS: Final = 186.437


def scenario(*names: str, **changes: Any) -> Scenario:
    """For these teams, of which `batch` goes beyond its limits."""
    teams = {
        name: {
            "arrivals": {"kind": "poisson", "rate": 7.3},
            "workloads": [{"name": "short", "weight": 3}, {"name": "long"}],
            "expect": {
                "conforming": name != "batch",
                "limits": {"requests_per_minute": 240} if name == "batch" else None,
            },
        }
        for name in names
    }
    document = {
        "name": "noisy-neighbour",
        "description": "Two teams that keep their limits beside one that asks for far more.",
        "target": {
            "url": "https://planner:s3cret@gateway.example:8443",
            "headers": {"x-route-key": "very-secret"},
        },
        "duration": 180,
        "warmup": 20,
        "slo": {"ttft": 1.5, "tpot": 0.05, "percent": 95},
        "teams": teams,
        "cost": {"gpus": 3, "price_per_gpu_hour": 2.37},
    }
    return Scenario.model_validate(document | changes)


def records(made: Scenario, *, seed: int = 7, down: bool = True) -> list[Record]:
    """What its requests became."""
    return [
        _record(Random(f"{seed} {team} {arrival.index}"), team, arrival, down)
        for team, plan in plans(made).items()
        for arrival in plan.arrivals
    ]


def plans(made: Scenario) -> dict[str, TeamPlan]:
    """When they were due."""
    return {team: TeamPlan(_arrivals(team, made.duration)) for team in made.teams}


def summary(made: Scenario, its_records: list[Record], *, lag: float = 0.00002) -> Summary:
    """All of it. `lag` is how late the event loop was, s."""
    workers = [WorkerStats(n, 41.37 + 3 * n, [lag * k for k in range(1, 90)], 100) for n in (0, 1)]
    data = RunData(its_records, workers, BEGAN, SECONDS, False, 0.0, run="r-8f21c7")
    return summarise(
        made,
        data,
        plans(made),
        target="https://planner:s3cret@gateway.example:8443",
        model="openai/gpt-oss-120b",
        machine={"host": "planner-3", "processors": "16", "python": "3.11.7"},
        overhead_tokens=67,
        faults=[
            FaultSeen(
                what="kill",
                target="replica-1",
                at=60.0,
                ended=15.0,
                error="",
                detected=0.413,
                alerted=31.7,
                alert="ReplicaDown",
                lost=23,
                retried=41,
                recovered=4.31,
                budget_percent=37.81,
            ),
            FaultSeen(
                what="slow",
                target="proxy",
                at=140.0,
                ended=None,
                error="port 8001 is taken",
                detected=None,
                alerted=None,
                alert="",
                lost=0,
                retried=0,
                recovered=None,
                budget_percent=0.0,
            ),
        ],
        series=series(),
    )


def with_quotas(made: Summary) -> Summary:
    """As if its limits had been judged."""
    quotas = [
        Quota("requests per minute", 880.0, 3241.0, 871.0, 1.0371, False, 213, 207),
        Quota("concurrency", 64.0, 71.0, 64.0, 1.0, True),
    ]
    name = next(iter(made.teams))
    made.teams[name] = msgspec.structs.replace(made.teams[name], quotas=quotas)
    return made


def series() -> list[Series]:
    """Of a gateway and two engines."""
    times = [round(1.013 * n, 3) for n in range(184)]
    out = [60 <= t < 75 for t in times]

    def of(scrape: str, name: str, values: list[float], **labels: str) -> Series:
        return Series(scrape, name, labels, times, values)

    busy = [21 + 9 * math.sin(t / 11) for t in times]
    first_token = "gptoss_gateway_time_to_first_token_seconds"
    both = list(zip(busy, out, strict=True))
    return [
        of("gateway", "gptoss_gateway_requests_in_flight", [b * (2 - o) for b, o in both]),
        of("gateway", "gptoss_gateway_requests_total", [b / 2.1 for b in busy], outcome="ok"),
        of("gateway", "gptoss_gateway_requests_total", [7.7 * o for o in out], outcome="failed"),
        of("gateway", first_token, [0.21 + 0.9 * o for o in out], statistic="mean"),
        of("gateway", first_token, [0.83 + 4.1 * o for o in out], statistic="p99"),
        of("engine-1", "vllm:num_requests_running", [0.0 if o else b for b, o in both]),
        of("engine-2", "vllm:num_requests_running", [b + 17 * o for b, o in both]),
        of("engine-2", "vllm:kv_cache_usage_perc", [min(1.0, 0.31 + t / 320) for t in times]),
        of("engine-2", "my_own_<metric>", [3.5 for _ in times], zone="<i>eu</i>"),
    ]


def _arrivals(team: str, until: float) -> list[Arrival]:
    source = Random(f"arrivals {team}")
    found: list[Arrival] = []
    at = 0.0
    while (at := at + source.expovariate(_rate(team, at))) < until:
        found.append(Arrival(len(found), at, source.choice((0, 0, 0, 1)), len(found)))
    return found


def _rate(team: str, at: float) -> float:
    return 21.7 if team == "batch" and 90 <= at < 150 else 7.3


def _record(source: Random, team: str, arrival: Arrival, down: bool) -> Record:
    sent = arrival.at + source.uniform(0.0001, 0.0015)
    one = Record(
        arrival.index, team, arrival.at, workload=("short", "long")[arrival.workload], sent=sent,
        prompt_planned=323, output_planned=192,
    )  # fmt: skip
    bad = down and 60 <= arrival.at < 75
    if team == "batch" and 95 <= arrival.at < 150 and source.random() < 0.6:
        return _ended(one, sent + 0.004, Outcome.QUOTA_429, 429, "rate_limit_exceeded")
    if bad and source.random() < 0.35:
        outcome, status = source.choice(
            [(Outcome.CAPACITY_503, 503), (Outcome.TRUNCATED, 200), (Outcome.CONNECT, 0),
             (Outcome.ERROR_EVENT, 200), (Outcome.TIMEOUT_FIRST_TOKEN, 0)]
        )  # fmt: skip
        return _ended(one, sent + source.uniform(0.01, 3), outcome, status, "engine_disconnected")
    if source.random() < 0.004:
        return _ended(one, sent + 1, Outcome.CANCELLED, 0, "")
    return _answered(source, one, sent, bad)


def _ended(one: Record, at: float, outcome: Outcome, status: int, code: str) -> Record:
    one.ended, one.outcome, one.status, one.code = at, outcome, status, code
    return one


def _answered(source: Random, one: Record, sent: float, bad: bool) -> Record:
    if bad and source.random() < 0.5:
        one.attempts = [Attempt(sent, sent + 0.3, Outcome.CONNECT)]
        sent = one.sent = sent + 0.7
    crowded = 1 + 2.5 * (100 <= one.scheduled < 150)
    tokens = source.randint(7, 192)
    step = 0.0137 * source.lognormvariate(0, 0.2) * crowded**0.5
    one.first = sent + 0.117 * source.lognormvariate(0, 0.45) * crowded
    one.output = one.first + 12 * step
    one.last = one.first + step * (tokens - 1)
    one.ended = one.last + 0.0021
    one.pieces, one.output_tokens, one.first_tokens = tokens, tokens, 1
    one.reasoning_tokens = min(12, tokens)
    one.prompt_tokens, one.cached_tokens = 331, 256 if source.random() < 0.4 else 0
    one.max_gap = step * source.uniform(1.5, 9)
    one.status, one.finish = 200, "stop" if tokens < 180 else "length"
    one.outcome = Outcome.OK if tokens < 180 else Outcome.LENGTH
    return one
