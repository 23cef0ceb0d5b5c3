"""Whether one run was better than another, worse, or whether they cannot tell.

Requests are paired by their place in the plan, which two runs of one scenario and seed have in
common: what the one was asked, the other was too. Intervals say how much of a difference is chance
within the runs. What differed between them, such as a warm cache or another tenant, they cannot
know: run A, B, A, B, and believe what comes twice.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np

from loadtest.measured import Fate, Span, fates
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics import bootstrap
from loadtest.statistics.bootstrap import Floats, Integers
from loadtest.statistics.evidence import Sample, difference, sample
from loadtest.summary import Verdict
from loadtest.windows import output_until

# Of promised shares: half a percent of requests is much, where 99% is promised.
_POINTS: Final = 0.25
# Of either run, without which the paired ones are no picture of it.
_PAIRED: Final = 0.9
_ATTAINMENT: Final = "attainment"
_NOBODY: Final = "no answer has it"


class Change(StrEnum):
    """What a measure says."""

    BETTER = "better"
    WORSE = "worse"
    CANNOT_TELL = "cannot_tell"


class Compared(msgspec.Struct, frozen=True):
    """One measure of both runs. Where one of the figures is infinite or unknown it is None."""

    measure: str
    before: float | None
    after: float | None
    difference: float | None
    """By how much the second is more: in percent of the first, and of shares in points."""
    low: float | None
    """Between this and the next that is by 95% confidence."""
    high: float | None
    least: float
    """A difference that is surely beyond this matters."""
    verdict: Change
    less_is_better: bool = True
    reason: str = ""
    """Why it cannot be told, where that is not just that the interval is too wide."""


class Comparison(msgspec.Struct, frozen=True):
    """Of run A, `before`, and run B, `after`."""

    pairs: int
    measures: list[Compared]
    warnings: list[str]
    """Why the two should not have been compared."""


@dataclass(frozen=True, slots=True)
class _Time:
    """A time of requests, of which less is better."""

    name: str
    of: Callable[[Record], float | None]
    percent: float


_TIMES: Final = (
    _Time("ttft_p50", lambda record: record.ttft, 50),
    _Time("ttft_p99", lambda record: record.ttft, 99),
    _Time("tpot_p50", lambda record: record.tpot, 50),
    _Time("tpot_p99", lambda record: record.tpot, 99),
    _Time("e2e_p50", lambda record: record.e2e, 50),
)


@dataclass(frozen=True, slots=True)
class _Run:
    scenario: Scenario
    span: Span
    all: Sequence[Record]
    fates: dict[tuple[str, int, int], tuple[Record, Fate]]
    """Of the requests that were due in the measured time and count."""


def compare(
    a: Iterable[Record],
    b: Iterable[Record],
    scenario_a: Scenario,
    scenario_b: Scenario,
    *,
    ended: tuple[float | None, float | None] = (None, None),
    least: float = 2.0,
    seed: int = 1,
) -> Comparison:
    """B against A. `ended` is when each was interrupted, s since its start, and None where it was
    not: beyond that neither is looked at. `least` is the smallest difference that matters, in
    percent; of the share of requests that met their objectives a quarter of it counts, in points.
    """
    until = min((one for one in ended if one is not None), default=math.inf)
    before, after = _run(a, scenario_a, until), _run(b, scenario_b, until)
    keys = sorted(before.fates.keys() & after.fates.keys())
    pairs = [(before.fates[key][0], after.fates[key][0]) for key in keys]
    measures = [
        *(_time(time, pairs, least, seed) for time in _TIMES),
        _attainment(before, after, least * _POINTS),
        _rate(before, after, least, seed),
    ]
    warnings = [*_interrupted(ended), *_warnings(before, after, len(pairs))]
    return Comparison(len(pairs), measures, warnings)


@dataclass(frozen=True, slots=True)
class Gated:
    """Whether B may take A's place, and the reason in one line."""

    verdict: Verdict
    reason: str


def gate(comparison: Comparison, allow: float = 10.0) -> Gated:
    """Passed where no measure can be worse by more than `allow` percent (of attainment a quarter of
    it, in points), failed where one is surely worse. Unresolved between the two, and where the runs
    should not be compared.
    """
    if comparison.warnings:
        return Gated(Verdict.UNRESOLVED, comparison.warnings[0])
    for one in comparison.measures:
        if one.verdict is Change.WORSE:
            return Gated(Verdict.FAILED, f"{one.measure} is worse")
    for one in comparison.measures:
        if doubt := _doubt(one, allow * (_POINTS if one.measure == _ATTAINMENT else 1)):
            return Gated(Verdict.UNRESOLVED, f"{doubt}: longer runs tell more")
    return Gated(Verdict.PASSED, f"nothing is worse by more than {allow:g}%")


def _doubt(one: Compared, allowed: float) -> str:
    """Why it cannot be said that it is not much worse, if so."""
    if one.reason == _NOBODY or (one.before is None and not one.reason):
        return ""  # there is none, or it took for ever before
    worst = one.high if one.less_is_better else one.low
    if worst is None:
        return f"of {one.measure} nothing can be told" + (f" ({one.reason})" if one.reason else "")
    if abs(worst) <= allowed or (worst > 0) != one.less_is_better:
        return ""
    unit = " points" if one.measure == _ATTAINMENT else "%"
    return f"{one.measure} may be worse by {abs(worst):.3g}{unit}, and {allowed:g}{unit} is allowed"


def _interrupted(ended: tuple[float | None, float | None]) -> list[str]:
    return [
        f"{name} was interrupted after {at:.0f} s: of both, only what was due until then counts"
        for name, at in zip(("the run before", "the run after"), ended, strict=True)
        if at is not None
    ]


def _run(records: Iterable[Record], scenario: Scenario, until: float) -> _Run:
    # In one order, whichever they came in: so that the same runs give the same figures.
    known = (record for record in records if record.team in scenario.teams)
    everything = sorted(known, key=lambda one: (one.team, one.index, one.turn))
    span = Span(scenario.warmup, scenario.duration).within(0.0, until)
    counted: dict[tuple[str, int, int], tuple[Record, Fate]] = {}
    for team in scenario.teams:
        due = [one for one in everything if one.team == team and one.scheduled in span]
        for record, fate in zip(due, fates(scenario, team, due), strict=True):
            if fate is not Fate.ASIDE:
                counted[team, record.index, record.turn] = record, fate
    return _Run(scenario, span, everything, counted)


def _time(time: _Time, pairs: Sequence[tuple[Record, Record]], least: float, seed: int) -> Compared:
    """Of those pairs in which both have it. A failed request took for ever."""
    rows = [
        (first.scheduled, _of(time, first), _of(time, second))
        for first, second in pairs
        if _of(time, first) is not None and _of(time, second) is not None
    ]
    if not rows and not any(_of(time, one) is not None for pair in pairs for one in pair):
        return _short(time.name, least, _NOBODY)
    due, before, after = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    block = bootstrap.blocks(due)
    drawn = _draws(block, seed)
    if drawn is None:
        return _short(time.name, least)
    first, second = (
        bootstrap.percentiles(values, block, drawn, time.percent) for values in (before, after)
    )
    return _compared(time.name, first, second, least, less_is_better=True)


def _of(time: _Time, record: Record) -> float | None:
    return time.of(record) if record.good else math.inf


def _rate(before: _Run, after: _Run, least: float, seed: int) -> Compared:
    """Tokens per second, by when they came: of the same part of the time in both."""
    start = max(before.span.start, after.span.start)
    end = min(before.span.end, after.span.end)
    parts = min(bootstrap.BLOCKS, int(max(end - start, 0.0)))
    if parts < bootstrap.LEAST_BLOCKS:
        return _short("output_rate", least)
    edges = [float(edge) for edge in np.linspace(start, end, parts + 1)]
    came, later = (np.diff(output_until(run.all, edges)) for run in (before, after))
    if np.count_nonzero(came + later) < bootstrap.LEAST_BLOCKS:
        return _short("output_rate", least)
    drawn = _with_all_once(bootstrap.draws(parts, seed=seed))
    first, second = (drawn @ tokens / (end - start) for tokens in (came, later))
    return _compared("output_rate", first, second, least, less_is_better=False)


def _attainment(before: _Run, after: _Run, least: float) -> Compared:
    one, other = _sampled(before), _sampled(after)
    if not one.counted or not other.counted:
        return _short(_ATTAINMENT, least)
    share, other_share = one.good / one.counted, other.good / other.counted
    low, high = (100 * bound for bound in difference(one, other))
    return Compared(
        measure=_ATTAINMENT,
        before=share,
        after=other_share,
        difference=100 * (other_share - share),
        low=low,
        high=high,
        least=least,
        verdict=_verdict(low, high, least, less_is_better=False),
        less_is_better=False,
    )


def _sampled(run: _Run) -> Sample:
    marks = ((record.scheduled, fate is Fate.MET) for record, fate in run.fates.values())
    return sample(marks, run.span.start, run.span.seconds)


def _compared(
    measure: str, before: Floats, after: Floats, least: float, *, less_is_better: bool
) -> Compared:
    """Of what all resamples gave, and last the runs themselves."""
    changes = bootstrap.change(before, after)
    low, high = bootstrap.interval(changes[:-1])
    return Compared(
        measure=measure,
        before=_finite(before[-1]),
        after=_finite(after[-1]),
        difference=_finite(changes[-1]),
        low=_finite(low),
        high=_finite(high),
        least=least,
        verdict=_verdict(low, high, least, less_is_better=less_is_better),
        less_is_better=less_is_better,
    )


def _verdict(low: float, high: float, least: float, *, less_is_better: bool) -> Change:
    """Only what is surely beyond the least difference that matters is called one: of many measures
    some would be off by chance else."""
    if low > least:
        return Change.WORSE if less_is_better else Change.BETTER
    if high < -least:
        return Change.BETTER if less_is_better else Change.WORSE
    return Change.CANNOT_TELL


def _short(
    measure: str, least: float, reason: str = "too few requests, or too short a run"
) -> Compared:
    return Compared(measure, None, None, None, None, None, least, Change.CANNOT_TELL, reason=reason)


def _draws(block: Integers, seed: int) -> Integers | None:
    """None: too few blocks for an interval."""
    count = int(block.max()) + 1 if len(block) else 0
    if count < bootstrap.LEAST_BLOCKS:
        return None
    return _with_all_once(bootstrap.draws(count, seed=seed))


def _with_all_once(drawn: Integers) -> Integers:
    """And, as the last, what was measured: each block once."""
    return np.vstack([drawn, np.ones((1, drawn.shape[1]), dtype=np.int64)])


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _warnings(before: _Run, after: _Run, pairs: int) -> list[str]:
    differences = _differences(before.scenario, after.scenario)
    found = [f"the runs differ in what they did: {name}" for name in differences]
    most = max(len(before.fates), len(after.fates))
    if not pairs:
        found.append("no request is in both runs: there is nothing to compare")
    elif pairs < _PAIRED * most and not _closed(before.scenario):
        found.append(f"only {pairs:,} of {most:,} requests are in both runs")
    return found


def _differences(before: Scenario, after: Scenario) -> list[str]:
    """Of what makes the load and what is promised. Where it goes, and how it is watched, is what
    may differ."""
    names = ("seed", "duration", "warmup", "slo", "faults")
    found = [name for name in names if getattr(before, name) != getattr(after, name)]
    for team in sorted(before.teams.keys() | after.teams.keys()):
        one, other = before.teams.get(team), after.teams.get(team)
        if one is None or other is None:
            found.append(f"team {team} is in one of them only")
        elif one.model_copy(update={"key_env": other.key_env}) != other:
            found.append(f"team {team}")
    return found


def _closed(scenario: Scenario) -> bool:
    """How many requests a closed loop makes is up to the server."""
    return any(team.arrivals.kind == "closed" for team in scenario.teams.values())
