"""What a run sends when, all of it, from the scenario's seed.

It is made once and cut into parts for the processes that send it. So what the server sees is one
process of arrivals per team, however many processes there are: had each of them drawn its own,
with the same seed they would all send at the same instants.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import msgspec
import numpy as np

from loadtest.errors import UserError
from loadtest.plan import arrivals, seeds, traces
from loadtest.plan.arrival import Arrival
from loadtest.scenario.arrivals import Closed, Trace
from loadtest.scenario.document import Scenario, Team

_MANTISSA = (1 << 53) - 1


class TeamPlan(msgspec.Struct, frozen=True):
    """What one team sends."""

    arrivals: list[Arrival]
    """By time. In a closed loop one per client, whose number is its index: its first request."""
    closed: bool = False


def plan(scenario: Scenario) -> dict[str, TeamPlan]:
    """By team. The teams' arrivals are independent of each other, and a change to one team leaves
    the others' as they are. Raises `UserError` for a trace that cannot be read, and for more
    requests than can be planned."""
    return {
        name: _team(team, scenario.span_of(name), scenario.duration, team_seed(scenario, name))
        for name, team in scenario.teams.items()
    }


def team_seed(scenario: Scenario, team: str) -> int:
    """What a team's random numbers come of, also those of `Prompts.conversation`."""
    return seeds.team(scenario.seed, team)


def slice(plans: Mapping[str, TeamPlan], worker: int, workers: int) -> dict[str, TeamPlan]:
    """One worker's part of a plan, with all teams: each arrival is in the part of one worker.

    Of open loops every so-many-th arrival of all teams by time, so that workers are as busy as
    each other at any time; of closed loops, every so-many-th client.
    """
    opened = _dealt(plans, closed=False, worker=worker, workers=workers)
    closed = _dealt(plans, closed=True, worker=worker, workers=workers)
    parts = opened | closed
    return {name: TeamPlan(parts[name], plans[name].closed) for name in plans}


def next_arrival(
    team: Team, client: Arrival, number: int, clients: int, at: float, seed: int
) -> Arrival:
    """Request `number`, from 0, of a closed loop's client, which is due at `at`. `seed` is the
    team's. Two runs have the same requests in it, if not at the same times."""
    return _arrival(client.index + number * clients, at, _sums(team), seed)


def _team(team: Team, span: tuple[float, float], duration: float, seed: int) -> TeamPlan:
    match team.arrivals:
        case Closed():
            return _closed(team, team.arrivals, span, seed)
        case Trace():
            return _trace(team, team.arrivals, span, seed)
        case kind:
            due = arrivals.times(kind, span, duration, seeds.of(seed, "arrivals"))
            sums = _sums(team)
            return TeamPlan(
                [_arrival(index, at, sums, seed) for index, at in enumerate(due.tolist())]
            )


def _closed(team: Team, closed: Closed, span: tuple[float, float], seed: int) -> TeamPlan:
    """Clients begin spread over a first while: at one instant they would stay in step."""
    start, stop = span
    if stop <= start:
        return TeamPlan([], closed=True)
    rng = np.random.Generator(np.random.PCG64(seeds.of(seed, "arrivals")))
    spread = min(closed.think or 1.0, stop - start)
    due = start + np.sort(rng.random(closed.clients)) * spread
    sums = _sums(team)
    return TeamPlan(
        [_arrival(index, at, sums, seed) for index, at in enumerate(due.tolist())], closed=True
    )


def _trace(team: Team, trace: Trace, span: tuple[float, float], seed: int) -> TeamPlan:
    start, stop = span
    sums = _sums(team)
    made: list[Arrival] = []
    if stop <= start:
        return TeamPlan(made)
    for index, row in enumerate(traces.read(trace, stop - start)):
        if index == arrivals.MOST:
            raise UserError(f"{trace.file} has more than {index:,} requests: shorten the duration")
        at = start + row.at
        if at >= stop:  # the sum may be rounded up
            break
        plain = _arrival(index, at, sums, seed)
        made.append(
            msgspec.structs.replace(
                plain, prompt=row.prompt, output=row.output, prefix=row.prefix, block=row.block
            )
        )
    return TeamPlan(made)


def _arrival(index: int, at: float, sums: list[float], seed: int) -> Arrival:
    """Request number `index` of a team: what it asks depends on nothing but its number."""
    own = seeds.of(seed, index)
    return Arrival(index, at, _chosen(sums, own), own)


def _sums(team: Team) -> list[float]:
    """Of the workloads' weights."""
    return list(accumulate(workload.weight for workload in team.workloads))


def _chosen(sums: list[float], seed: int) -> int:
    share = (seed & _MANTISSA) / (_MANTISSA + 1)
    return min(bisect_right(sums, share * sums[-1]), len(sums) - 1)


def _dealt(
    plans: Mapping[str, TeamPlan], *, closed: bool, worker: int, workers: int
) -> dict[str, list[Arrival]]:
    """One worker's, of the teams that are of this kind."""
    teams = {name: team.arrivals for name, team in plans.items() if team.closed == closed}
    if not teams:
        return {}
    due = np.concatenate([[one.at for one in its] for its in teams.values()])
    # Clients by team: those of a team that begins late are spread as evenly as the others.
    order = np.arange(len(due)) if closed else np.argsort(due, kind="stable")
    place = np.empty(len(due), dtype=np.int64)
    place[order] = np.arange(len(due))
    mine = place % workers == worker
    parts: dict[str, list[Arrival]] = {}
    first = 0
    for name, its in teams.items():
        chosen = np.flatnonzero(mine[first : first + len(its)]).tolist()
        parts[name] = [its[number] for number in chosen]
        first += len(its)
    return parts
