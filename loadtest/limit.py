"""Trials of a search for the limit: a scenario at another level of load, run for another time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

from loadtest import measured, session
from loadtest.client.data import Progress
from loadtest.errors import UserError
from loadtest.plan.plan import plan
from loadtest.saturation import Saturation
from loadtest.scenario.arrivals import (
    Arrivals,
    Closed,
    Constant,
    Gamma,
    Poisson,
    Ramp,
    Steps,
    Trace,
)
from loadtest.scenario.document import Scenario, Team
from loadtest.search.trial import Trial, measure
from loadtest.session import Session

Observe = Callable[[Progress], None]


def rate_of(scenario: Scenario) -> float:
    """Requests per second of all its teams together. Raises `UserError` for one that has none."""
    return sum(_rate(name, team.arrivals) for name, team in scenario.teams.items())


def at_rate(scenario: Scenario, rate: float, seconds: float) -> Scenario:
    """The same load at another rate, all teams alike, measured for so long."""
    factor = rate / rate_of(scenario)
    return _with(scenario, seconds, lambda team: _faster(team.arrivals, factor))


def with_clients(scenario: Scenario, clients: float, seconds: float) -> Scenario:
    """The same requests in a closed loop, with so many clients, measured for so long. Raises
    `UserError` for several teams: of which it would be a limit nobody could say."""
    if len(scenario.teams) != 1:
        raise UserError("a number of clients is searched for one team: this scenario has several")
    (team,) = scenario.teams.values()
    think = team.arrivals.think if isinstance(team.arrivals, Closed) else 0.0
    closed = Closed(kind="closed", clients=round(clients), think=think)
    return _with(scenario, seconds, lambda _: closed)


class Trials:
    """Runs them. `at` makes the scenario of a level and a time; `observe` sees each as it goes."""

    def __init__(
        self,
        at: Callable[[float, float], Scenario],
        environment: Mapping[str, str],
        observe: Callable[[Scenario], Observe],
        note: Callable[[str], None],
    ) -> None:
        self._at = at
        self._environment = environment
        self._observe = observe
        self._note = note
        self.interrupted = False
        """Whether somebody ended one: then the search is over too."""

    def __call__(self, level: float, seconds: float) -> Awaitable[Trial]:
        """One trial."""
        return self._run(level, self._at(level, seconds))

    async def _run(self, level: float, scenario: Scenario) -> Trial:
        saturation, enough = Saturation(), asyncio.Event()
        show = self._observe(scenario)

        def observe(progress: Progress) -> None:
            show(progress)
            if 0 <= progress.elapsed <= progress.duration:
                saturation.note(progress.elapsed, progress.open, progress.ttft_p50)
                if saturation.saturated:
                    enough.set()

        running = Session(scenario, self._environment, self._note)
        circumstances, records = await running.play(observe, enough)
        if circumstances.data.interrupted and not enough.is_set():
            self.interrupted = True
            return Trial(level, 0, 0, valid=False, why="it was interrupted")
        circumstances.data.interrupted = False
        summary = session.concluded(scenario, circumstances, records)
        data = circumstances.data
        data.records = records
        span = measured.span(scenario, data)
        teams = measured.of_teams(scenario, data, plan(scenario), span)
        return measure(
            level,
            measured.together(teams.values()),
            span,
            saturated=enough.is_set(),
            invalid="; ".join(summary.trusted.reasons) if not enough.is_set() else "",
        )


def _with(scenario: Scenario, seconds: float, arrivals: Callable[[Team], Arrivals]) -> Scenario:
    teams = {
        name: team.model_copy(update={"arrivals": arrivals(team), "start": 0.0, "stop": None})
        for name, team in scenario.teams.items()
    }
    changed = {"teams": teams, "duration": scenario.warmup + seconds, "faults": []}
    return scenario.model_copy(update=changed)


def _rate(name: str, arrivals: Arrivals) -> float:
    match arrivals:
        case Poisson(rate=rate) | Constant(rate=rate) | Gamma(rate=rate):
            return rate
        case Ramp() | Steps() | Trace() | Closed():
            raise UserError(
                f"the limit of a rate needs arrivals that have one: team {name} has"
                f" {arrivals.kind}, and not poisson, constant or gamma"
            )
        case _:
            assert_never(arrivals)


def _faster(arrivals: Arrivals, factor: float) -> Arrivals:
    assert isinstance(arrivals, Poisson | Constant | Gamma), "its rate is known"
    return arrivals.model_copy(update={"rate": arrivals.rate * factor})
