"""What each fault did, seen from the records of a run. Pure.

Some requests fail in any run: a fault is only charged with what goes beyond that. So each has a
*base*, the requests that were due between the end of the influence of the fault before it (or of
the warm-up) and its beginning, and had ended by then. One that began before its predecessor's
influence was over has the base of that one.

The *influence* of a fault goes from its beginning until things are as before, or until the run's
end where they never are. Its requests are those that were open when it began and those that were
due within it. Requests in the influence of two faults count for both.

What says nothing about the service is left out (`measured.fate`): what the client gave up in time,
and refusals of a team that is said to go beyond its limits.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from loadtest.faults.events import Firing, Made
from loadtest.measured import Fate, fate
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.binomial import at_most
from loadtest.statistics.intervals import wilson
from loadtest.summary import FaultSeen

WINDOW_SECONDS: Final = 5.0
WINDOW_REQUESTS: Final = 20
"""A window is as long as both ask for."""
WINDOWS: Final = 3
"""So many in a row must be as before, or all that are left of the run."""
SURE: Final = 0.01
"""What the base would bring about more rarely than this is the fault's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request, as far as faults go."""

    due: float
    ended: float
    """Infinite: it never did."""
    failed: bool
    retried: float | None
    """When its first sending ended, if there were more."""
    met: bool
    """Whether it kept all objectives."""
    budget: float
    """How much of a failure its team may have for each request."""

    @property
    def felt(self) -> float | None:
        """When its client first noticed something, if it did."""
        return self.retried if self.retried is not None else self.ended if self.failed else None


@dataclass(frozen=True, slots=True)
class Base:
    """How it was before a fault."""

    count: int
    met: int
    failed: int
    retried: int
    felt: int

    def share(self, number: int) -> float:
        """Of nothing nothing is expected."""
        return number / self.count if self.count else 0.0


def seen(
    made: Iterable[Made],
    records: Iterable[Record],
    scenario: Scenario,
    firings: Sequence[Firing] = (),
) -> list[FaultSeen]:
    """What each fault did, in order of time."""
    requests = sorted(_requests(records, scenario), key=lambda one: one.due)
    budget = sum(one.budget for one in requests if scenario.warmup <= one.due < scenario.duration)
    found = []
    base, clean = _base(requests, scenario.warmup, scenario.warmup), scenario.warmup
    faults = sorted(made, key=lambda one: one.began)
    began = [fault.began for fault in faults if not fault.error]
    for fault in faults:
        if fault.error:
            found.append(_not_made(fault, scenario))
            continue
        if fault.began > clean:
            base = _base(requests, clean, fault.began)
        after = min((one for one in began if one > (fault.ended or math.inf)), default=math.inf)
        one, until = _one(fault, base, requests, budget, scenario, firings, after)
        clean = max(clean, until)
        found.append(one)
    return found


def _one(
    fault: Made,
    base: Base,
    requests: Sequence[Seen],
    budget: float,
    scenario: Scenario,
    firings: Sequence[Firing],
    after: float,
) -> tuple[FaultSeen, float]:
    """What it did, and until when. `after` is when the next fault began after its end."""
    back = None
    if fault.ended is not None:
        # What the next one did says nothing against this one, if it was over before.
        before = [one for one in requests if one.due < after and (one.met or one.ended < after)]
        back = recovered(before, fault.ended, base)
        if back is None:
            back = recovered(requests, fault.ended, base)
    until = math.inf if back is None else back
    within = [one for one in requests if one.due < until and one.ended >= fault.began]
    late = _beyond(within, base, base.count - base.met, lambda one: not one.met)
    felt = detected(within, fault.began, base)
    return FaultSeen(
        what=fault.what,
        target=fault.target,
        at=fault.began,
        ended=None if fault.ended is None else fault.ended - fault.began,
        error="",
        detected=None if felt is None else felt - fault.began,
        alerted=alerted(fault, scenario, firings),
        alert=scenario.faults[fault.number].alert,
        lost=_beyond(within, base, base.failed, lambda one: one.failed),
        retried=_beyond(within, base, base.retried, lambda one: (one.retried or -1) >= fault.began),
        recovered=None if back is None or fault.ended is None else back - fault.ended,
        # A budget of less than one request is one that the first failure spends.
        budget_percent=100 * late / max(budget, 1.0),
    ), until


def detected(within: Iterable[Seen], began: float, base: Base) -> float | None:
    """When the first request failed or was retried for the fault: the first moment by which, of the
    requests in its influence that had ended, so many did that the base would bring it about in less
    than one of a hundred cases. Where none did before, that is the very first one."""
    usual = base.share(base.felt)
    moments = sorted(
        (one.ended if one.felt is None else one.felt, one.felt is not None)
        for one in within
        if one.felt is None or one.felt >= began
    )
    felt = 0
    for count, (moment, was_felt) in enumerate(moments, 1):
        felt += was_felt
        if was_felt and 1 - at_most(felt - 1, count, usual) < SURE:
            return moment
    return None


def recovered(requests: Sequence[Seen], ended: float, base: Base) -> float | None:
    """When things were as before: the first moment from the fault's end on, followed by three
    windows (or all that the run has left, at least one) in each of which the share of requests that
    kept their objectives may be the base's: their Wilson intervals overlap. Windows are by when
    requests were due, and each is the longer of 5 s and 20 requests.

    Moments that are looked at are the fault's end, and when the request after each miss was due.
    None: not within the run, or too little of it was left, or came before, to say.
    """
    if not base.count:
        return None
    lowest = wilson(base.met, base.count)[0]
    first = bisect_left(requests, ended, key=lambda one: one.due)
    after = requests[first:]
    sums = [0, *accumulate(one.met for one in after)]
    dues = [one.due for one in after]
    for place, one in enumerate(after):
        if place == 0 or (one.met and not after[place - 1].met):
            moment = ended if place == 0 else one.due
            if _as_before(place, moment, dues, sums, lowest):
                return moment
    return None


def alerted(fault: Made, scenario: Scenario, firings: Iterable[Firing]) -> float | None:
    """From when a fault was made to when the alert that it is to raise fired, s. One that fired
    already did not fire for it, and one that is later than it may be did not fire."""
    expected = scenario.faults[fault.number]
    times = (one.began - fault.began for one in firings if one.alert == expected.alert)
    return min((time for time in times if 0 <= time <= expected.alert_within), default=None)


def _as_before(
    place: int, moment: float, dues: Sequence[float], sums: Sequence[int], lowest: float
) -> bool:
    """Whether the windows from there on are."""
    for number in range(WINDOWS):
        end = max(place + WINDOW_REQUESTS, bisect_left(dues, moment + WINDOW_SECONDS))
        if end > len(dues) or dues[-1] < moment + WINDOW_SECONDS:
            return number > 0
        if wilson(sums[end] - sums[place], end - place)[1] < lowest:
            return False
        place, moment = end, max(moment + WINDOW_SECONDS, dues[end - 1])
    return True


def _beyond(within: Sequence[Seen], base: Base, usual: int, counts: Callable[[Seen], bool]) -> int:
    """How many of them, beyond as many as there would have been without the fault."""
    number = sum(map(counts, within))
    return max(round(number - base.share(usual) * len(within)), 0)


def _base(requests: Sequence[Seen], start: float, end: float) -> Base:
    before = [one for one in requests if start <= one.due < end and one.ended < end]
    return Base(
        count=len(before),
        met=sum(one.met for one in before),
        failed=sum(one.failed for one in before),
        retried=sum(one.retried is not None for one in before),
        felt=sum(one.felt is not None for one in before),
    )


def _requests(records: Iterable[Record], scenario: Scenario) -> Iterable[Seen]:
    for record in records:
        slo = scenario.slo_of(record.team)
        its_fate = fate(record, slo, scenario.teams[record.team].expect.conforming)
        if its_fate is Fate.ASIDE:
            continue
        yield Seen(
            due=record.scheduled,
            ended=math.inf if record.ended is None else record.ended,
            failed=not record.good,
            retried=record.attempts[0].ended if record.attempts else None,
            met=its_fate is Fate.MET,
            budget=1 - slo.percent / 100,
        )


def _not_made(fault: Made, scenario: Scenario) -> FaultSeen:
    return FaultSeen(
        what=fault.what,
        target=fault.target,
        at=fault.began,
        ended=None,
        error=fault.error,
        detected=None,
        alerted=None,
        alert=scenario.faults[fault.number].alert,
        lost=0,
        retried=0,
        recovered=None,
        budget_percent=0.0,
    )
