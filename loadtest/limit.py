"""Trials of a search for the limit: a scenario at another level of load, run for another time."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Final, assert_never

import msgspec

from loadtest import measured
from loadtest.client.conversation import is_single
from loadtest.client.data import Progress, RunData
from loadtest.client.signals import Signals
from loadtest.errors import UserError
from loadtest.plan import lengths, seeds
from loadtest.plan.plan import TeamPlan
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
from loadtest.scenario.document import SLO, Scenario, Team
from loadtest.scenario.lengths import Length
from loadtest.scenario.workload import Workload
from loadtest.search.find import Found
from loadtest.search.trial import Stopped, Trial, measure
from loadtest.session import Session
from loadtest.summary import Trusted
from loadtest.trust import trusted

Observe = Callable[[Progress], None]

# So many draws of a length give its mean.
_DRAWS: Final = 1000


def rate_of(scenario: Scenario) -> float:
    """Arrivals per second of all its teams together. Raises `UserError` for one that has none."""
    return sum(_rate(name, team.arrivals) for name, team in scenario.teams.items())


def unit_of(scenario: Scenario) -> str:
    """What arrives: where workloads have several turns, it is conversations."""
    single = all(is_single(one) for team in scenario.teams.values() for one in team.workloads)
    return "requests/s" if single else "conversations/s"


def advice(scenario: Scenario) -> list[str]:
    """What makes a search of it say less than it seems to, in a line each."""
    longest = max(
        _conversation(workload, scenario.slo_of(name))
        for name, team in scenario.teams.items()
        for workload in team.workloads
    )
    if longest <= scenario.warmup:
        return []
    return [
        f"conversations may last {math.ceil(longest):,} s where the objectives are just kept, and"
        f" are not all under way after a warm-up of {scenario.warmup:g} s: the limit may be found"
        f" too high, give --set warmup={math.ceil(longest)}"
    ]


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


class Answer(Found, frozen=True):
    """What a search found."""

    notes: Sequence[str] = ()
    """What is to be known of its trials beside their figures, in a line each."""


class Trials:
    """Runs them. `at` makes the scenario of a level and a time; `observe` sees each as it goes.
    `signals` are entered for all of the search: one that comes ends it, with the trial that was
    over by then."""

    def __init__(
        self,
        at: Callable[[float, float], Scenario],
        environment: Mapping[str, str],
        observe: Callable[[Scenario], Observe],
        note: Callable[[str], None],
        signals: Signals,
    ) -> None:
        self._at = at
        self._environment = environment
        self._observe = observe
        self._note = note
        self._signals = signals
        self._made = 0
        self._notes: list[tuple[float, str]] = []

    async def __call__(self, level: float, seconds: float) -> Trial:
        """One trial. Raises `Stopped` where somebody ended it, and `UserError`."""
        if self._signals.came:
            raise Stopped
        task = asyncio.current_task()
        assert task is not None
        try:
            # Until the run hears them itself: they cancel what is made ready for it.
            with self._signals.heard_by(task.cancel):
                scenario = _seeded(self._at(level, seconds), self._made)
                self._made += 1
                return await self._run(level, scenario)
        except asyncio.CancelledError:
            raise Stopped from None

    def answer(self, found: Found) -> Answer:
        """What was found by these, with what is to be known of them."""
        lines = [f"at {level:.4g} {found.unit}: {note}" for level, note in self._notes]
        return Answer(**msgspec.structs.asdict(found), notes=lines)

    async def _run(self, level: float, scenario: Scenario) -> Trial:
        enough = asyncio.Event()
        observe = _watching(scenario, self._observe(scenario), enough)
        session = Session(scenario, self._environment, self._note)
        circumstances, records = await session.play(observe, enough, signals=self._signals)
        data = circumstances.data
        if data.interrupted and not enough.is_set():
            raise Stopped
        data.records = records
        plans = circumstances.plans
        assert plans is not None, "each run that is played has them"
        trial, trust = _judged(level, scenario, data, plans, saturated=enough.is_set())
        self._notes += [(level, note) for note in trust.notes]
        return trial


def _seeded(scenario: Scenario, number: int) -> Scenario:
    """With prompts and arrivals that no other trial has: else a cache knows them all, and repeats
    say nothing new."""
    return scenario.model_copy(update={"seed": seeds.of("trial", scenario.seed, number)})


def _watching(scenario: Scenario, show: Observe, enough: asyncio.Event) -> Observe:
    """Shows how it goes, and ends what is beyond capacity: the warm-up fills the service, and grows
    as that does."""
    saturation = Saturation()

    def observe(progress: Progress) -> None:
        show(progress)
        if scenario.warmup <= progress.elapsed <= progress.duration:
            at = progress.elapsed - scenario.warmup
            saturation.note(at, progress.open, progress.ttft_p50)
            if saturation.saturated:
                enough.set()

    return observe


def _judged(
    level: float,
    scenario: Scenario,
    data: RunData,
    plans: Mapping[str, TeamPlan],
    *,
    saturated: bool,
) -> tuple[Trial, Trusted]:
    """One that was ended early, by what was sent until then: its data say that it was."""
    span = measured.span(scenario, data)
    teams = measured.of_teams(scenario, data, plans, span)
    trust = trusted(scenario, data, measured.together(teams.values()), span)
    invalid = "; ".join(trust.reasons)
    return measure(level, teams, span, saturated=saturated, invalid=invalid), trust


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


def _conversation(workload: Workload, slo: SLO) -> float:
    """How long one lasts that just keeps what is promised, s; 0 where requests stand alone."""
    if is_single(workload):
        return 0.0
    turns = _mean(workload.turns)
    answer = (slo.ttft or 0.0) + (slo.tpot or 0.0) * _mean(workload.output)
    return turns * min(answer, slo.e2e or math.inf) + (turns - 1) * workload.think


def _mean(length: Length) -> float:
    rng = random.Random(0)  # noqa: S311 - no secret
    return fmean(lengths.draw(length, rng) for _ in range(_DRAWS))
