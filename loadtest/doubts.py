"""What a run of a scenario will not be able to say: told before it, not after ten minutes."""

from collections.abc import Iterator
from statistics import fmean
from typing import Final

from loadtest.judgement import SURE
from loadtest.plan import lengths
from loadtest.scenario.arrivals import Closed, Constant, Gamma, Poisson, Ramp, Steps, Trace
from loadtest.scenario.document import SLO, Scenario, Team
from loadtest.scenario.workload import Workload
from loadtest.statistics.evidence import Weighed

# So many minutes of a limit are there at once, beside those that pass.
_BURST: Final = 1.0


def doubts(scenario: Scenario) -> list[str]:
    """A line for each, with what to do about it."""
    return [
        f"team {name}: {doubt}"
        for name, team in scenario.teams.items()
        for doubt in _of_team(scenario, name, team)
    ]


def due(scenario: Scenario, name: str) -> float | None:
    """About how many of a team's requests will be judged: those that are due after the warm-up,
    and of a team that goes beyond its limit those that are let in. None: nobody knows before, as
    where answers make the requests, or a trace does."""
    team = scenario.teams[name]
    begins = _begun(scenario, name)
    if begins is None or any(workload.tools for workload in team.workloads):
        return None
    weights = sum(workload.weight for workload in team.workloads)
    turns = sum(one.weight * fmean(lengths.usual(one.turns)) for one in team.workloads) / weights
    limits = team.expect.limits
    if team.expect.conforming or limits is None or limits.requests_per_minute is None:
        return begins * turns
    start, stop = _counted(scenario, name)
    let_in = limits.requests_per_minute * ((stop - start) / 60 + _BURST)
    return min(begins * turns, let_in)


def least(percent: float) -> int | None:
    """How few requests show that `percent` of all keep what is promised, if none of them misses:
    by what a run is judged by. None: no number does."""
    share = percent / 100
    if share >= 1:
        return None
    low, high = 1, 1
    while not Weighed(high, 0).kept(share, SURE):
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if Weighed(middle, 0).kept(share, SURE):
            high = middle
        else:
            low = middle + 1
    return high


def _of_team(scenario: Scenario, name: str, team: Team) -> Iterator[str]:
    slo = scenario.slo_of(name)
    yield from _few(slo, due(scenario, name))
    yield from _unseen(slo, team)
    yield from _unsteady(scenario, team)


def _few(slo: SLO, coming: float | None) -> Iterator[str]:
    """Whether there are enough requests to say that the promise is kept."""
    needed = least(slo.percent)
    if needed is None:
        yield (
            "100% can never be shown, only that one request missed: this run cannot pass."
            " Promise less, such as percent: 99.9"
        )
    elif coming is not None and coming < needed:
        yield (
            f"about {coming:,.0f} requests will be due after the warm-up, and {needed:,} without a"
            f" miss are the fewest that show {slo.percent:g}%: this run cannot pass. Raise the rate"
            " or the duration, or promise a lower slo.percent"
        )


def _unseen(slo: SLO, team: Team) -> Iterator[str]:
    """Objectives that say nothing of what is sent, and none at all."""
    if slo.ttft is None and slo.tpot is None and slo.e2e is None:
        yield "no time is promised, only whole answers: give slo.ttft, slo.tpot or slo.e2e"
    whole = [one.name for one in team.workloads if not one.stream]
    named = [name for name, bound in (("ttft", slo.ttft), ("tpot", slo.tpot)) if bound is not None]
    if whole and named and slo.e2e is None:
        yield (
            f"{' and '.join(named)} say nothing of answers that are not streamed (workload"
            f" {', '.join(whole)}): any whole one keeps them. Give slo.e2e as well"
        )


def _unsteady(scenario: Scenario, team: Team) -> Iterator[str]:
    """Whether conversations begin to end before what is sent counts: until then there are ever
    more of them, and less is sent than later."""
    pauses = max(_pauses(workload) for workload in team.workloads)
    # A team that begins later, or whose rate changes, is not meant to be steady.
    steady = isinstance(team.arrivals, Poisson | Constant | Gamma)
    begins = min(team.start, scenario.duration)
    if steady and begins <= scenario.warmup and pauses > scenario.warmup - begins:
        yield (
            f"the pauses alone of a long conversation take {pauses:.0f} s, and the warm-up ends"
            " before that: less is sent at first than later, and it counts. Give a longer warmup"
        )


def _pauses(workload: Workload) -> float:
    """Of a conversation that is longer than nine in ten, s."""
    turns = sorted(lengths.usual(workload.turns))
    return (turns[len(turns) * 9 // 10] - 1) * workload.think


def _counted(scenario: Scenario, name: str) -> tuple[float, float]:
    """From when to when its requests count, s since the run's start."""
    start, stop = scenario.span_of(name)
    start = max(start, scenario.warmup)
    return start, max(stop, start)


def _begun(scenario: Scenario, name: str) -> float | None:
    """How many requests, or conversations, are due in the time that counts, on average."""
    start, stop = _counted(scenario, name)
    match scenario.teams[name].arrivals:
        case Closed() | Trace():
            return None
        case Ramp() as ramp:
            middle = (start + stop) / 2 / scenario.duration
            return (stop - start) * (ramp.start + (ramp.end - ramp.start) * middle)
        case Steps() as steps:
            return _stepped(steps, start, stop, scenario.duration / len(steps.rates))
        case kind:
            return (stop - start) * kind.rate


def _stepped(steps: Steps, start: float, stop: float, width: float) -> float:
    return sum(
        rate * max(min(stop, (place + 1) * width) - max(start, place * width), 0.0)
        for place, rate in enumerate(steps.rates)
    )
