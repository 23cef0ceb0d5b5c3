"""Whether what was promised was kept, in sentences.

By intervals, not by what happened to be counted: a promise is kept where at least that much of all
such runs would keep it, broken where it would not, and else the run was too small to say. Requests
of one moment are late together: they count for as many independent ones as they are worth, as
`find-limit` and `compare` have it, to pass and to fail. What was down once in a run may be so in
each, or in one of a hundred: that one cannot say.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.measured import Fate, Requests, Span
from loadtest.scenario.document import SLO, Expectation
from loadtest.scenario.faults import Fault
from loadtest.statistics.evidence import Sample, Weighed, sample, weigh
from loadtest.statistics.intervals import needed, wilson
from loadtest.summary import FaultSeen, Quota, Verdict

_ORDER: Final = (Verdict.PASSED, Verdict.UNRESOLVED, Verdict.FAILED, Verdict.INVALID)
SURE: Final = 0.975
"""Of each bound of an interval by 95% confidence."""

# A run of more than that is not what anybody wants to be told to make.
_MOST_REQUESTS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and why."""

    verdict: Verdict
    reasons: list[str]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that counts for all. Of none, nothing is known."""
    return max(verdicts, key=_ORDER.index, default=Verdict.UNRESOLVED)


def verdict_of(kept: bool | None) -> Verdict:
    """Of what was promised. None: it cannot be told."""
    if kept is None:
        return Verdict.UNRESOLVED
    return Verdict.PASSED if kept else Verdict.FAILED


def all_of(judged: Iterable[Judgement]) -> Judgement:
    """The worst of them, with the reasons of all, the worst ones first."""
    by_weight = sorted(judged, key=lambda one: -_ORDER.index(one.verdict))
    reasons = [reason for one in by_weight for reason in one.reasons]
    return Judgement(worst(one.verdict for one in by_weight), reasons)


def named(judged: Judgement, name: str) -> Judgement:
    """With whose it is in front of each reason."""
    return Judgement(judged.verdict, [f"{name}: {reason}" for reason in judged.reasons])


def of_team(
    requests: Requests, span: Span, slo: SLO, expect: Expectation, quotas: Sequence[Quota]
) -> Judgement:
    """Its objectives, what its requests were to become, and its limits. They were due in `span`."""
    outcomes = Counter(record.outcome for record in requests.records)
    # None of a flood that is all refused, as was expected, is left to judge an objective by.
    as_expected = requests.planned > 0 and requests.counted == 0 and bool(expect.percent)
    return all_of(
        [
            *([] if as_expected else [of_objectives(requests, span, slo)]),
            *(
                of_share(str(outcome), outcomes[outcome], requests.planned, (low, high))
                for outcome, (low, high) in expect.percent.items()
            ),
            *(of_quota(quota) for quota in quotas),
        ]
    )


def of_objectives(requests: Requests, span: Span, slo: SLO) -> Judgement:
    """Whether enough requests met all of them, of those that were due in `span`."""
    met, count, promised = requests.met, requests.counted, slo.percent / 100
    if count == 0:
        why = "no request was due" if requests.planned == 0 else "no request says anything"
        return Judgement(Verdict.UNRESOLVED, [f"{why} within the measured time"])
    worth = worth_of(requests, span)
    low, high = worth.interval(SURE)
    said = (
        f"{_percent(met / count)} of {count:,} requests {_objectives(slo, _streamed(requests))}"
        f" ({_percent(low)} to {_percent(high)} by 95% confidence);"
        f" {_percent(promised)} is promised"
    )
    kept = worth.kept(promised, SURE)
    if kept is None:
        said = f"{said}: {_why_not(worth, met, count, promised)}"
    return Judgement(verdict_of(kept), [said])


def _why_not(worth: Weighed, met: int, count: int, promised: float) -> str:
    """It cannot be told."""
    times = worth.times(promised, SURE)
    longer = _longer(None if times is None else times * count, count)
    if Weighed(count, count - met).kept(promised, SURE) is None:
        return longer
    return (
        f"those that missed came together, and all say no more than {max(int(worth.count), 1):,}"
        f" would that are independent of each other; {longer}"
    )


def sampled(requests: Requests, span: Span) -> Sample:
    """They, by how they go over that time. What was never sent is missed, and of no moment."""
    marks = (
        (record.scheduled, fate is Fate.MET)
        for record, fate in zip(requests.records, requests.fates, strict=True)
        if fate is not Fate.ASIDE
    )
    return sample(marks, span.start, span.seconds, requests.unsent)


def worth_of(requests: Requests, span: Span) -> Weighed:
    """As many independent requests as those that were due in `span` are worth."""
    return weigh([sampled(requests, span)])


def of_share(name: str, number: int, count: int, percents: tuple[float, float]) -> Judgement:
    """Whether from so many to so many percent ended so. That none did, or all, is a fact of the run
    and needs no confidence."""
    low, high = percents[0] / 100, percents[1] / 100
    if count == 0:
        return Judgement(Verdict.UNRESOLVED, [f"no request was due that could end as {name}"])
    least, most = wilson(number, count)
    if high == 0 or low == 1:
        least = most = number / count
    said = (
        f"{_percent(number / count)} of {count:,} requests ended as {name}"
        f" ({_percent(least)} to {_percent(most)} by 95% confidence);"
        f" {_percent(low)} to {_percent(high)} was expected"
    )
    if low <= least and most <= high:
        return Judgement(Verdict.PASSED, [said])
    if most < low or least > high:
        return Judgement(Verdict.FAILED, [said])
    bound = low if least < low else high
    longer = _longer(needed(number, count, bound), count)
    return Judgement(Verdict.UNRESOLVED, [f"{said}: {longer}"])


def of_quota(quota: Quota) -> Judgement:
    """Whether no more was let in than the limit allows."""
    if quota.kept:
        return Judgement(Verdict.PASSED, [])
    return Judgement(
        Verdict.FAILED,
        [
            f"more was let in than the limit {quota.limit} allows: at worst"
            f" {quota.worst_window:.2f} times as much"
        ],
    )


def of_faults(
    wanted: Iterable[Fault], seen: Iterable[FaultSeen], watched: float
) -> list[Judgement]:
    """Of each of a scenario's faults, also of those that were never made. `watched` is until when
    alerts could be seen, s since the run's start."""
    left = sorted(wanted, key=lambda one: one.at)
    judged = []
    for one in sorted(seen, key=lambda one: one.at):
        alike = [each for each in left if (each.do, each.target) == (one.what, one.target)]
        fault = alike[0] if alike else None
        if fault is not None:
            left.remove(fault)
        judged.append(of_fault(one, fault is None or one.at + fault.alert_within <= watched))
    return [*judged, *map(_never_made, left)]


def of_fault(fault: FaultSeen, watched: bool = True) -> Judgement:
    """Whether it could be made, and whether the alert that it was to raise fired: `watched` says
    that alerts could be seen for as long as that may take."""
    if fault.error:
        said = f"{fault.what} of {fault.target} could not be made: {fault.error}"
        return Judgement(Verdict.UNRESOLVED, [said])
    if fault.alert and fault.alerted is None and not watched:
        said = (
            f"{fault.alert} was not seen to fire after {fault.what} of {fault.target}, and may have"
            " done so: let the run go on for `alert_within` after the fault, and Prometheus answer"
        )
        return Judgement(Verdict.UNRESOLVED, [said])
    if fault.alert and fault.alerted is None:
        said = f"{fault.alert} did not fire after {fault.what} of {fault.target}"
        return Judgement(Verdict.FAILED, [said])
    return Judgement(Verdict.PASSED, [])


def _never_made(fault: Fault) -> Judgement:
    said = f"{fault.do} of {fault.target} at {fault.at:g} s was never made"
    return Judgement(Verdict.UNRESOLVED, [said])


def of_interruption(after: float, duration: float) -> Judgement:
    """A run that was ended early cannot pass."""
    said = f"the run was interrupted after {after:.0f} of {duration:.0f} s: what ran is counted"
    return Judgement(Verdict.UNRESOLVED, [said])


def _longer(wanted: float | None, count: int) -> str:
    """How many more than `count` it takes."""
    if wanted is None or wanted > _MOST_REQUESTS:
        return "that is too near to tell by any run"
    more = max(math.ceil(round(wanted - count, 6)), 1)
    return f"run longer, about {more:,} more requests would tell"


def _streamed(requests: Requests) -> bool:
    """Whether any of them was to be: of one that is not there is no first token to see."""
    return not requests.records or any(record.streamed for record in requests.records)


def _objectives(slo: SLO, streamed: bool) -> str:
    of_streams = (("TTFT", slo.ttft), ("TPOT", slo.tpot)) if streamed else ()
    bounds = [
        f"{name} within {_time(bound)}"
        for name, bound in (*of_streams, ("E2E", slo.e2e))
        if bound is not None
    ]
    if not bounds:
        return "got a whole answer"
    return f"had {', '.join(bounds)}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"
