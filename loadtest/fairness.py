"""How what there was got shared among the teams."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from loadtest.measured import Requests, Span
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.quantiles import finite, ordered, percentile
from loadtest.summary import Fairness, Part
from loadtest.windows import width

# With fewer requests on a side a 99th percentile is only the slowest one of a few.
_LEAST: Final = 20


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
    return Fairness(
        jain=jain([_good(one) / one.counted for one in asked.values()]),
        tokens={team: part.output_rate for team, part in parts.items()},
        ttft_ratio=_ratio([parts[team] for team in parts if team in conforming]),
        isolation=_isolation(requests, conforming, records, span),
    )


def jain(shares: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Jain's index of what each got, by its weight: 1 where all are alike, 1/n where one has all.

    Where nobody got anything all are alike.
    """
    each = list(shares)
    if weights is not None:
        each = [share / weight for share, weight in zip(shares, weights, strict=True)]
    most = max(each, default=0.0)
    if most == 0:
        return 1.0
    # Relative to the largest, so that no square is too small or too large for a float.
    each = [share / most for share in each]
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
) -> dict[str, float | None]:
    """By windows of time in which a team that does not conform sent anything, and all others."""
    step = width(span.seconds) if span.seconds else 1.0
    noisy = {
        int(sent // step)
        for record in records
        if record.team not in conforming
        for sent in _sendings(record)
    }
    found: dict[str, float | None] = {}
    for team in requests.keys() & conforming:
        beside = [one for one in requests[team].judged if int(one.scheduled // step) in noisy]
        alone = [one for one in requests[team].judged if int(one.scheduled // step) not in noisy]
        if min(len(beside), len(alone)) < _LEAST:
            continue
        before, after = finite(_p99(alone)), finite(_p99(beside))
        if before:
            found[team] = None if after is None else after / before
    return dict(sorted(found.items()))


def _sendings(record: Record) -> Iterable[float]:
    yield from (attempt.sent for attempt in record.attempts)
    if record.sent is not None:
        yield record.sent


def _p99(records: Sequence[Record]) -> float | None:
    times = [time for one in records if one.good and (time := one.ttft) is not None]
    return percentile(ordered(times, sum(not one.good for one in records)), 99)
