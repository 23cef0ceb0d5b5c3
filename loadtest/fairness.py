"""How what there was got shared among the teams."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.measured import Requests, Span
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics import bootstrap
from loadtest.statistics.quantiles import finite, ordered, percentile
from loadtest.summary import Fairness, Part
from loadtest.windows import width

# With fewer requests on a side a 99th percentile is only the slowest one of a few.
_LEAST: Final = 100


@dataclass(frozen=True, slots=True)
class _Isolated:
    """How many times as long a team waits beside a noisy one, and between what that is."""

    ratio: float
    between: tuple[float, float] | None


def fairness(
    scenario: Scenario,
    requests: Mapping[str, Requests],
    parts: Mapping[str, Part],
    records: Iterable[Record],
    span: Span,
) -> Fairness | None:
    """None where there is one team only. `records` are all of the run."""
    if len(parts) < 2:
        return None
    conforming = {team for team, said in scenario.teams.items() if said.expect.conforming}
    asked = {team: one for team, one in requests.items() if one.counted}
    isolation = _isolation(requests, conforming, records, span)
    between = {team: one.between for team, one in isolation.items() if one.between is not None}
    return Fairness(
        jain=jain([_good(one) / one.counted for one in asked.values()]),
        tokens={team: part.output_rate for team, part in parts.items()},
        ttft_ratio=_ratio([parts[team] for team in parts if team in conforming]),
        isolation={team: finite(one.ratio) for team, one in isolation.items()},
        isolation_low={team: finite(low) for team, (low, _) in between.items()},
        isolation_high={team: finite(high) for team, (_, high) in between.items()},
    )


def jain(shares: Sequence[float]) -> float:
    """Jain's index of what each got: 1 where all are alike, 1/n where one has all.

    Where nobody got anything all are alike.
    """
    most = max(shares, default=0.0)
    if most == 0:
        return 1.0
    # Relative to the largest, so that no square is too small or too large for a float.
    each = [share / most for share in shares]
    return sum(each) ** 2 / (len(each) * sum(share * share for share in each))


def _good(requests: Requests) -> int:
    return sum(record.good for record in requests.judged)


def _ratio(parts: Sequence[Part]) -> float | None:
    """None where there are not two, or one of them is infinite."""
    slowest = [part.ttft.p99 for part in parts if part.ttft.count]
    known = [time for time in slowest if time is not None]
    if len(known) < 2 or len(known) < len(slowest) or min(known) <= 0:
        return None
    return max(known) / min(known)


def _isolation(
    requests: Mapping[str, Requests], conforming: set[str], records: Iterable[Record], span: Span
) -> dict[str, _Isolated]:
    """By windows of time in which a team that does not conform sent anything, and all others."""
    step = width(span.seconds) if span.seconds else 1.0
    noisy = {
        int(sent // step)
        for record in records
        if record.team not in conforming
        for sent in _sendings(record)
    }
    found: dict[str, _Isolated] = {}
    for team in requests.keys() & conforming:
        judged = [one for one in requests[team].judged if one.streamed]
        beside = [one for one in judged if int(one.scheduled // step) in noisy]
        alone = [one for one in judged if int(one.scheduled // step) not in noisy]
        if min(len(beside), len(alone)) < _LEAST:
            continue
        before, after = _p99(alone), _p99(beside)
        if before and after and math.isfinite(before):
            found[team] = _Isolated(after / before, _between(alone, beside))
    return dict(sorted(found.items()))


def _between(alone: list[Record], beside: list[Record]) -> tuple[float, float] | None:
    """The ratio's interval: both sides are drawn again in blocks of time, each by itself."""
    before, after = _resampled(alone, seed=1), _resampled(beside, seed=2)
    if before is None or after is None:
        return None
    return bootstrap.interval(1 + bootstrap.change(before, after) / 100)


def _resampled(records: list[Record], seed: int) -> bootstrap.Floats | None:
    """The 99th percentile of each resample. None: too few blocks."""
    rows = [
        (one.scheduled, time)
        for one in records
        if (time := one.ttft if one.good else math.inf) is not None
    ]
    due, values = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    block = bootstrap.blocks(due)
    count = int(block.max()) + 1 if len(block) else 0
    if count < bootstrap.LEAST_BLOCKS:
        return None
    return bootstrap.percentiles(values, block, bootstrap.draws(count, seed=seed), 99)


def _sendings(record: Record) -> Iterable[float]:
    yield from (attempt.sent for attempt in record.attempts)
    if record.sent is not None:
        yield record.sent


def _p99(records: Sequence[Record]) -> float | None:
    times = [time for one in records if one.good and (time := one.ttft) is not None]
    return percentile(ordered(times, sum(not one.good for one in records)), 99)
