"""What plots need of the records, taken in one pass: however many they are, a plot stays small."""

from collections.abc import Collection, Iterable
from random import Random
from typing import Final

import msgspec

from loadtest.outcome import NOT_ASKED, Outcome
from loadtest.record import Record

POINTS: Final = 5_000
"""Requests drawn one by one, at most."""


class Times(msgspec.Struct):
    """Of a team: what whole answers within the measured time took, s."""

    ttft: list[float] = []
    tpot: list[float] = []
    gap: list[float] = []


class Point(msgspec.Struct, frozen=True):
    """A request: when it was due, and its TTFT; None where it failed."""

    team: str
    at: float
    ttft: float | None


class Sample(msgspec.Struct):
    """All teams."""

    teams: dict[str, Times] = {}
    points: list[Point] = []
    """Drawn at random, each request as likely as any other."""
    seen: int = 0
    """Of how many: those that were not given up by the client, and have a TTFT or failed."""


def taken(
    records: Iterable[Record], measured: tuple[float, float], beyond: Collection[str] = ()
) -> Sample:
    """Distributions are of what was due from the first until before the second time in `measured`
    (s), points of all. `beyond` are teams that are said not to keep their limits: a refusal for
    these is nothing that failed."""
    sample = Sample()
    source = Random(1)  # noqa: S311 - so that a report made twice is the same
    start, end = measured
    for record in records:
        if record.good and start <= record.scheduled < end:
            _count(sample.teams.setdefault(record.team, Times()), record)
        refused = record.outcome is Outcome.QUOTA_429 and record.team in beyond
        if record.outcome in NOT_ASKED or refused:
            continue
        ttft = record.ttft if record.good else None
        if record.good and ttft is None:
            continue  # Not streamed: there was no first token to see.
        _draw(sample, source, Point(record.team, record.scheduled, ttft))
    return sample


def _count(times: Times, record: Record) -> None:
    if record.ttft is not None:
        times.ttft.append(record.ttft)
    if record.tpot is not None:
        times.tpot.append(record.tpot)
    if record.pieces > 1:
        times.gap.append(record.max_gap)


def _draw(sample: Sample, source: Random, point: Point) -> None:
    """Reservoir sampling: the nth takes the place of one with the right likelihood."""
    sample.seen += 1
    if len(sample.points) < POINTS:
        sample.points.append(point)
    elif (place := source.randrange(sample.seen)) < POINTS:
        sample.points[place] = point
