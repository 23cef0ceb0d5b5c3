"""How many processes a run needs.

A worker is loaded to about a third of what one process was measured to do (`selfcheck`), so that
none is ever the bottleneck: 10,000 chunks a second, 300 requests a second, 2,500 open streams. The
planned load is counted in its busiest five seconds, one chunk to a token; a client of a closed loop
is taken for a stream with 50 tokens a second. One core is left for the parent and everything else.
"""

import math
from collections.abc import Mapping

import numpy as np

from loadtest.plan.plan import TeamPlan
from loadtest.scenario.document import Scenario
from loadtest.scenario.lengths import Empirical, Fixed, Length, LogNormal, Uniform

_CHUNKS = 10_000
_REQUESTS = 300
_STREAMS = 2_500
_STREAM_RATE = 50
_WINDOW = 5.0


def size(scenario: Scenario, plans: Mapping[str, TeamPlan], cores: int) -> int:
    """Workers for a scenario that leaves it open."""
    rate = chunks = streams = 0.0
    for name, plan in plans.items():
        if plan.closed:
            streams += len(plan.arrivals)
            chunks += len(plan.arrivals) * _STREAM_RATE
        elif plan.arrivals:
            busiest = _busiest([arrival.at for arrival in plan.arrivals])
            rate += busiest
            chunks += busiest * _tokens(scenario, name, plan)
    needed = math.ceil(max(rate / _REQUESTS, chunks / _CHUNKS, streams / _STREAMS))
    requests = sum(len(plan.arrivals) for plan in plans.values())
    return max(1, min(needed, cores - 1, requests))


def _busiest(times: list[float]) -> float:
    """Arrivals per second, in the five seconds with the most."""
    at = np.asarray(times)
    last = np.searchsorted(at, at + _WINDOW, side="left")
    return float((last - np.arange(len(at))).max()) / _WINDOW


def _tokens(scenario: Scenario, team: str, plan: TeamPlan) -> float:
    """Of an answer, by the mean of what its team asks for: whole answers are one chunk."""
    workloads = scenario.teams[team].workloads
    means = [mean(workload.output) if workload.stream else 1.0 for workload in workloads]
    turns = [mean(workload.turns) for workload in workloads]
    total = sum(
        (arrival.output or means[arrival.workload]) * turns[arrival.workload]
        for arrival in plan.arrivals
    )
    return total / len(plan.arrivals)


def mean(length: Length) -> float:
    """Of a distribution of lengths, tokens; of a lognormal one between its bounds about."""
    match length:
        case Fixed():
            return float(length.tokens)
        case Uniform():
            return (length.low + length.high) / 2
        case LogNormal():
            free = length.median * math.exp(length.sigma**2 / 2)
            return min(max(free, length.low), length.high)
        case Empirical():
            weights = length.weights or [1.0] * len(length.tokens)
            pairs = zip(length.tokens, weights, strict=True)
            return sum(tokens * weight for tokens, weight in pairs) / sum(weights)
