"""All of a run's records in one summary, with the verdict."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadtest import judgement
from loadtest.client.data import RunData
from loadtest.cost import price
from loadtest.fairness import fairness
from loadtest.judgement import Judgement
from loadtest.measured import Requests, Span, of_teams, of_workloads, span, together
from loadtest.parts import part
from loadtest.plan.plan import TeamPlan
from loadtest.quotas import quotas
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.summary import FaultSeen, Part, Quota, Series, Summary, Trusted, Verdict
from loadtest.trust import trusted
from loadtest.windows import windows

_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


def summarise(
    scenario: Scenario,
    data: RunData,
    planned: Mapping[str, TeamPlan],
    *,
    target: str = "",
    model: str = "",
    machine: Mapping[str, str] | None = None,
    overhead_tokens: int = 0,
    faults: Sequence[FaultSeen] = (),
    watched: float | None = None,
    series: Sequence[Series] = (),
) -> Summary:
    """Pure. `planned` is each team's plan, by which what was never sent is known; `watched` is
    until when alerts could be seen, s since the run's start: None where that is its end.

    A team is judged by how many of its requests met all its objectives, by what they were to
    become and by its limits; the run by the worst of its teams. Where the load test itself was too
    slow, the run is invalid, whatever its teams are.
    """
    measured = span(scenario, data)
    requests = of_teams(scenario, data, planned, measured)
    records = _by_team(scenario, data.records)
    teams = {
        team: _team(scenario, team, one, records[team], measured, data.began)
        for team, one in requests.items()
    }
    everything = together(requests.values())
    trust = trusted(scenario, data, everything, measured)
    until = data.seconds if watched is None else watched
    of_faults = judgement.of_faults(scenario.faults, faults, until)
    judged = _judged(scenario, data, teams, of_faults, measured)
    overall = part(everything, measured, data.records, judged)
    verdict = judged.verdict if trust.valid else Verdict.INVALID
    return Summary(
        run=data.run,
        scenario=_document(scenario),
        began=data.began,
        seconds=data.seconds,
        interrupted=data.interrupted,
        target=target or scenario.target.url,
        model=model or scenario.target.model,
        machine=dict(machine or {}),
        overhead_tokens=overhead_tokens,
        verdict=verdict,
        reasons=[*_distrust(trust), *judged.reasons],
        trusted=trust,
        overall=overall,
        teams=teams,
        workloads=_workloads(scenario, data, planned, measured, requests, records),
        windows=windows(scenario, data.records, data.seconds),
        fairness=fairness(scenario, requests, teams, data.records, measured),
        faults=list(faults),
        price=price(scenario.cost, overall) if scenario.cost else None,
        series=list(series),
    )


def _team(
    scenario: Scenario,
    team: str,
    requests: Requests,
    records: list[Record],
    measured: Span,
    began: float,
) -> Part:
    its_span = measured.within(*scenario.span_of(team))
    expect = scenario.teams[team].expect
    held: list[Quota] = []
    if expect.limits is not None:
        held = quotas(expect.limits, records, its_span, began)
    judged = judgement.of_team(requests, its_span, scenario.slo_of(team), expect, held)
    return part(requests, its_span, records, judged, held)


def _workloads(
    scenario: Scenario,
    data: RunData,
    planned: Mapping[str, TeamPlan],
    measured: Span,
    teams: Mapping[str, Requests],
    records: Mapping[str, list[Record]],
) -> dict[str, Part]:
    spans = {team: measured.within(*scenario.span_of(team)) for team in teams}
    return {
        name: part(
            requests,
            spans[team],
            [record for record in records[team] if record.workload == workload],
            judgement.of_objectives(requests, spans[team], scenario.slo_of(team)),
        )
        for name, (team, workload, requests) in of_workloads(
            scenario, data, planned, measured, teams
        ).items()
    }


def _judged(
    scenario: Scenario,
    data: RunData,
    teams: Mapping[str, Part],
    faults: Sequence[Judgement],
    measured: Span,
) -> Judgement:
    """Of all of the run."""
    each = [Judgement(one.verdict, one.reasons) for one in teams.values()]
    if len(each) > 1:
        each = [judgement.named(one, team) for one, team in zip(each, teams, strict=True)]
    if data.interrupted:
        each.append(judgement.of_interruption(measured.end, scenario.duration))
    return judgement.all_of([*each, *faults])


def _distrust(trust: Trusted) -> list[str]:
    return [f"the load test itself is not to be trusted: {reason}" for reason in trust.reasons]


def _by_team(scenario: Scenario, records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {team: [] for team in scenario.teams}
    for record in records:
        if record.team in found:
            found[record.team].append(record)
    return found


def _document(scenario: Scenario) -> dict[str, Any]:
    """As a file would have it, without what could be a key: a report is passed on."""
    document = scenario.model_dump(mode="json", by_alias=True)
    headers: dict[str, str] = document["target"]["headers"]
    for name in headers:
        if name.lower() in _SECRET:
            headers[name] = "(hidden)"
    return document
