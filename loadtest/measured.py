"""Which requests of a run count, and what became of each by what was promised to its team.

The measured time goes from the end of the warm-up to the end of sending; a request belongs to it by
when it was due. What was due and never sent, as of a worker that died, counts as missed: the load
test hides nothing that it did not do. Where a run was interrupted, its measured time ends with the
last request that was sent, and what would have come after was not due.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from loadtest.client.data import RunData
from loadtest.outcome import Outcome
from loadtest.plan.plan import TeamPlan
from loadtest.record import Record
from loadtest.scenario.document import SLO, Scenario


class Fate(Enum):
    """What a request says about the promise."""

    MET = "met"
    MISSED = "missed"
    ASIDE = "aside"
    """Nothing: it is left out."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, s since the run's start: from `start` until before `end`."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(self.end - self.start, 0.0)

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end

    def within(self, start: float, end: float) -> "Span":
        """The part of it that is between these."""
        start = max(self.start, start)
        return Span(start, max(min(self.end, end), start))


@dataclass(frozen=True, slots=True)
class Requests:
    """Those that were due in the measured time: of a team, a workload, or all."""

    records: list[Record]
    fates: list[Fate]
    """Of each of them."""
    unsent: int = 0
    """Due, and without a record."""

    @property
    def planned(self) -> int:
        """All that were due."""
        return len(self.records) + self.unsent

    @property
    def met(self) -> int:
        """Those that met all objectives."""
        return self.fates.count(Fate.MET)

    @property
    def counted(self) -> int:
        """Those by which the promise is judged."""
        return len(self.fates) - self.fates.count(Fate.ASIDE) + self.unsent

    @property
    def judged(self) -> list[Record]:
        """The records of these."""
        return [
            record
            for record, fate in zip(self.records, self.fates, strict=True)
            if fate is not Fate.ASIDE
        ]


def span(scenario: Scenario, data: RunData) -> Span:
    """The measured time of a run."""
    end = scenario.duration
    if data.interrupted:
        last = max((at for one in data.records if (at := one.opened) is not None), default=0.0)
        end = min(end, last)
    return Span(scenario.warmup, max(end, scenario.warmup))


def fate(record: Record, slo: SLO, conforming: bool) -> Fate:
    """What it says about the promise.

    A refusal for the team's own limit says nothing where the team is said to go beyond its limits,
    and is a miss where it is said to keep them. A request that the client gave up says nothing,
    unless it had missed an objective before that, or was too slow until then by its time per token:
    else a server that answers nothing until the end of the run would look better than a slow one.
    """
    if record.outcome is Outcome.CANCELLED:
        return Fate.MISSED if _late_when_left(record, slo) else Fate.ASIDE
    if record.outcome is Outcome.QUOTA_429 and not conforming:
        return Fate.ASIDE
    return Fate.MET if meets(record, slo) else Fate.MISSED


def meets(record: Record, slo: SLO) -> bool:
    """Whether a whole answer came, within all that is promised. What an answer has not is kept: the
    time per token of one that came in one piece, and the first token of one that is not
    streamed."""
    return record.good and all(
        time is None or bound is None or time <= bound
        for time, bound in (
            (record.ttft, slo.ttft),
            (record.tpot, slo.tpot),
            (record.e2e, slo.e2e),
        )
    )


def of_teams(
    scenario: Scenario, data: RunData, planned: Mapping[str, TeamPlan], measured: Span
) -> dict[str, Requests]:
    """The requests of each team, each by its own promise."""
    due: dict[str, list[Record]] = {team: [] for team in scenario.teams}
    for record in data.records:
        if record.team in due and record.scheduled in measured:
            due[record.team].append(record)
    known = _indices(data.records)
    return {
        team: Requests(
            records,
            fates(scenario, team, records),
            sum(_unsent(planned.get(team), known.get(team, set()), measured).values()),
        )
        for team, records in due.items()
    }


def of_workloads(
    scenario: Scenario,
    data: RunData,
    planned: Mapping[str, TeamPlan],
    measured: Span,
    teams: Mapping[str, Requests],
) -> dict[str, tuple[str, str, Requests]]:
    """The requests of each workload with its team's name and its own, by `team/workload`."""
    found: dict[str, tuple[str, str, Requests]] = {}
    known = _indices(data.records)
    for team, requests in teams.items():
        unsent = _unsent(planned.get(team), known.get(team, set()), measured)
        names = [workload.name for workload in scenario.teams[team].workloads]
        for name in dict.fromkeys(names):
            pairs = [
                pair
                for pair in zip(requests.records, requests.fates, strict=True)
                if pair[0].workload == name
            ]
            never = sum(unsent[number] for number, one in enumerate(names) if one == name)
            own = Requests([one for one, _ in pairs], [one for _, one in pairs], never)
            found[f"{team}/{name}"] = (team, name, own)
    return found


def fates(scenario: Scenario, team: str, records: Iterable[Record]) -> list[Fate]:
    """Of each of a team's records."""
    slo, conforming = scenario.slo_of(team), scenario.teams[team].expect.conforming
    return [fate(record, slo, conforming) for record in records]


def together(parts: Iterable[Requests]) -> Requests:
    """All of them."""
    records: list[Record] = []
    its_fates: list[Fate] = []
    unsent = 0
    for part in parts:
        records += part.records
        its_fates += part.fates
        unsent += part.unsent
    return Requests(records, its_fates, unsent)


def _late_when_left(record: Record, slo: SLO) -> bool:
    if record.ended is None:
        return False
    first = record.ended if record.first is None else record.first
    late = record.streamed and slo.ttft is not None and first - record.scheduled > slo.ttft
    if slo.tpot is not None and (so_far := _tpot_so_far(record)) is not None:
        late = late or so_far > slo.tpot
    return late or (slo.e2e is not None and record.ended - record.scheduled > slo.e2e)


def _tpot_so_far(record: Record) -> float | None:
    """As if the next token had come as the client left. Where the server does not count by piece, a
    piece is taken for a token."""
    if record.first is None or record.ended is None or not record.streamed:
        return None
    later = max(record.output_tokens, record.pieces) - max(record.first_tokens, 1)
    return (record.ended - record.first) / (max(later, 0) + 1)


def _indices(records: Iterable[Record]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for record in records:
        found.setdefault(record.team, set()).add(record.index)
    return found


def _unsent(plan: TeamPlan | None, known: set[int], measured: Span) -> Counter[int]:
    """How many of each workload were due and have no record. What a closed loop would have sent
    nobody knows: it has none."""
    if plan is None or plan.closed:
        return Counter()
    return Counter(
        arrival.workload
        for arrival in plan.arrivals
        if arrival.at in measured and arrival.index not in known
    )
