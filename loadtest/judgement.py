"""Whether what was promised was kept, in sentences.

By intervals, not by what happened to be counted: a promise is kept where at least that much of all
such runs would keep it, broken where it would not, and else the run was too small to say.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.measured import Requests
from loadtest.scenario.document import SLO, Expectation
from loadtest.statistics.intervals import needed, wilson
from loadtest.summary import FaultSeen, Quota, Verdict

_ORDER: Final = (Verdict.PASSED, Verdict.UNRESOLVED, Verdict.FAILED, Verdict.INVALID)
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


def all_of(judged: Iterable[Judgement]) -> Judgement:
    """The worst of them, with the reasons of all, the worst ones first."""
    by_weight = sorted(judged, key=lambda one: -_ORDER.index(one.verdict))
    reasons = [reason for one in by_weight for reason in one.reasons]
    return Judgement(worst(one.verdict for one in by_weight), reasons)


def named(judged: Judgement, name: str) -> Judgement:
    """With whose it is in front of each reason."""
    return Judgement(judged.verdict, [f"{name}: {reason}" for reason in judged.reasons])


def of_team(
    requests: Requests, slo: SLO, expect: Expectation, quotas: Sequence[Quota]
) -> Judgement:
    """Its objectives, what its requests were to become, and its limits."""
    outcomes = Counter(record.outcome for record in requests.records)
    # None of a flood that is all refused, as was expected, is left to judge an objective by.
    as_expected = requests.planned > 0 and requests.counted == 0 and bool(expect.percent)
    return all_of(
        [
            *([] if as_expected else [of_objectives(requests, slo)]),
            *(
                of_share(str(outcome), outcomes[outcome], requests.planned, (low, high))
                for outcome, (low, high) in expect.percent.items()
            ),
            *(of_quota(quota) for quota in quotas),
        ]
    )


def of_objectives(requests: Requests, slo: SLO) -> Judgement:
    """Whether enough requests met all of them."""
    met, count, promised = requests.met, requests.counted, slo.percent / 100
    if count == 0:
        why = "no request was due" if requests.planned == 0 else "no request says anything"
        return Judgement(Verdict.UNRESOLVED, [f"{why} within the measured time"])
    low, high = wilson(met, count)
    said = (
        f"{_percent(met / count)} of {count:,} requests {_objectives(slo)}"
        f" ({_percent(low)} to {_percent(high)} by 95% confidence);"
        f" {_percent(promised)} is promised"
    )
    if low >= promised:
        return Judgement(Verdict.PASSED, [said])
    if high < promised:
        return Judgement(Verdict.FAILED, [said])
    return Judgement(Verdict.UNRESOLVED, [f"{said}: {_longer(met, count, promised)}"])


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
    return Judgement(Verdict.UNRESOLVED, [f"{said}: {_longer(number, count, bound)}"])


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


def of_fault(fault: FaultSeen) -> Judgement:
    """Whether it could be made, and whether the alert that it was to raise fired."""
    if fault.error:
        said = f"{fault.what} of {fault.target} could not be made: {fault.error}"
        return Judgement(Verdict.UNRESOLVED, [said])
    if fault.alert and fault.alerted is None:
        said = f"{fault.alert} did not fire after {fault.what} of {fault.target}"
        return Judgement(Verdict.FAILED, [said])
    return Judgement(Verdict.PASSED, [])


def of_interruption(after: float, duration: float) -> Judgement:
    """A run that was ended early cannot pass."""
    said = f"the run was interrupted after {after:.0f} of {duration:.0f} s: what ran is counted"
    return Judgement(Verdict.UNRESOLVED, [said])


def _longer(number: int, count: int, bound: float) -> str:
    wanted = needed(number, count, bound)
    if wanted is None or wanted > _MOST_REQUESTS:
        return "that is too near to tell by any run"
    return f"run longer, about {max(wanted - count, 1):,} more requests would tell"


def _objectives(slo: SLO) -> str:
    bounds = [
        f"{name} within {_time(bound)}"
        for name, bound in (("TTFT", slo.ttft), ("TPOT", slo.tpot), ("E2E", slo.e2e))
        if bound is not None
    ]
    if not bounds:
        return "got a whole answer"
    return f"had {', '.join(bounds)}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"
