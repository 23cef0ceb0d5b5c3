"""What a run of a scenario would send: told without sending anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from loadtest.client.conversation import is_single
from loadtest.plan import lengths
from loadtest.plan.arrival import Arrival
from loadtest.plan.plan import TeamPlan, plan
from loadtest.scenario.document import Scenario, Team
from loadtest.scenario.workload import Workload


@dataclass(frozen=True, slots=True)
class Sent:
    """What comes of some arrivals, on average, if each answer is as long as it may be."""

    requests: float = 0.0
    prompts: float = 0.0
    """Tokens. Each turn has all before it in its prompt; what the server puts around messages, and
    the definitions of tools, come on top."""
    answers: float = 0.0
    """Tokens, at most."""

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(
            self.requests + other.requests,
            self.prompts + other.prompts,
            self.answers + other.answers,
        )


def forecast(scenario: Scenario) -> list[str]:
    """In a line for each team, warm-up included. Raises `UserError` for what cannot be planned."""
    plans = plan(scenario)
    head = f"{scenario.name}: sends for {scenario.duration:g} s, of which {scenario.warmup:g} s are"
    return [
        f"{head} warm-up",
        *(f"team {name}: {_said(team, plans[name])}" for name, team in scenario.teams.items()),
    ]


def sent(team: Team, arrivals: Iterable[Arrival]) -> Sent:
    """Of these."""
    usual = [_of_workload(one) for one in team.workloads]
    return sum((_of(arrival, usual[arrival.workload]) for arrival in arrivals), Sent())


def _said(team: Team, planned: TeamPlan) -> str:
    number = len(planned.arrivals)
    # With tools nobody knows either: each call is a turn more.
    open_ended = "at least " if any(one.tools for one in team.workloads) else ""
    single = all(map(is_single, team.workloads))
    if planned.closed:
        each = sent(team, planned.arrivals)
        mean = Sent(*(one / max(number, 1) for one in (each.requests, each.prompts, each.answers)))
        what = "requests" if single else "conversations"
        return (
            f"{number:,} clients, whose next {what} come when they have their answers: how many"
            f" depends on the server; each {open_ended}{_tokens(mean)}"
        )
    found = sent(team, planned.arrivals)
    if single:
        return f"{number:,} requests, {_tokens(found)}"
    return (
        f"{number:,} conversations, {open_ended or 'about '}{found.requests:,.0f} requests if all"
        f" come to their end, {_tokens(found)}"
    )


def _tokens(one: Sent) -> str:
    return (
        f"about {one.prompts:,.0f} tokens of prompts and at most about {one.answers:,.0f} of"
        " answers"
    )


def _of(arrival: Arrival, usual: Sent) -> Sent:
    """A trace has lengths of its own, for requests that stand alone."""
    return Sent(
        usual.requests,
        float(arrival.prompt) or usual.prompts,
        float(arrival.output) or usual.answers,
    )


def _of_workload(workload: Workload) -> Sent:
    """A conversation of it: turn k has k messages and the k-1 answers before it."""
    prompt, answer = (fmean(lengths.usual(one)) for one in (workload.prompt, workload.output))
    prefix = workload.prefix.tokens if workload.prefix else 0
    talks = lengths.usual(workload.turns)
    return Sent(
        fmean(talks),
        fmean(prefix * n + prompt * n * (n + 1) / 2 + answer * n * (n - 1) / 2 for n in talks),
        answer * fmean(talks),
    )
