"""Whether a team got what its limits say, and not more.

A rate per minute is a bucket that holds a minute's worth and fills continuously: in any stretch of
time it lets in what it holds and what comes in meanwhile. Times here are the client's, and those at
which the service counted are others by what the network took: a second more is allowed for.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from loadtest.measured import Span
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.scenario.document import Limits
from loadtest.summary import Quota

_JITTER: Final = 1.0
_DAY: Final = 86_400.0
# What a clock's resolution may take from a promise to be ready in a second.
_INSTANT: Final = 0.001


@dataclass(frozen=True, slots=True)
class Sending:
    """A request that was sent, each time that it was."""

    sent: float
    ended: float
    let_in: bool
    """Whether the service took it: an answer began, whatever became of it."""
    tokens: int
    """What was used; of one that was refused, what was asked for."""


def quotas(
    limits: Limits, records: Sequence[Record], span: Span, began: float = 0.0
) -> list[Quota]:
    """Of each limit of a team. `records` are all of the team's, `span` is when it sends within the
    measured time, `began` is the run's start in epoch seconds: a day ends at midnight, UTC."""
    sendings = sorted(_all(records, span), key=lambda one: one.sent)
    end = max([span.end, *(one.sent for one in sendings)])
    seconds = end - span.start
    came, honest = _advice(records, span)
    found: list[tuple[str, float, float, float, float, bool]] = []
    if limits.requests_per_minute is not None:
        found.append(_requests(limits.requests_per_minute, sendings, seconds))
    if limits.tokens_per_minute is not None:
        found.append(_tokens(limits.tokens_per_minute, sendings, seconds))
    if limits.concurrency is not None:
        found.append(_concurrency(limits.concurrency, sendings))
    if limits.tokens_per_day is not None:
        days = math.floor((began + end) / _DAY) - math.floor((began + span.start) / _DAY) + 1
        found.append(_day(limits.tokens_per_day, sendings, days))
    return [
        Quota(*one, retries_at_advice=came, admitted_at_advice=honest, used=_used(*one[1:4]))
        for one in found
    ]


def most_of_bucket(
    times: Sequence[float], amounts: Sequence[float], per_minute: float, allowance: float = 0.0
) -> float:
    """The most that came within any stretch of time, by what a bucket lets through in it.

    `times` are in order. Among the n² stretches the one with the highest ratio is found in a few
    passes (Dinkelbach): each looks for the stretch that is most above the best ratio so far.
    """
    if not len(times):
        return 0.0
    at, upto = np.asarray(times, dtype=np.float64), np.cumsum(np.asarray(amounts, dtype=np.float64))
    before = np.concatenate([[0.0], upto[:-1]])
    refill, full = per_minute / 60, per_minute + allowance + per_minute / 60 * _JITTER
    ratio = 0.0
    while True:
        cost = ratio * refill * at
        starts = before - cost
        last = int(np.argmax(upto - cost - np.minimum.accumulate(starts)))
        first = int(np.argmin(starts[: last + 1]))
        inside = float(upto[last] - before[first])
        found = inside / (full + refill * float(at[last] - at[first]))
        if found <= ratio * (1 + 1e-12):
            return ratio
        ratio = found


def _used(entitled: float, offered: float, admitted: float) -> float | None:
    """Of what it could have had."""
    most = min(entitled, offered)
    return admitted / most if most else None


def _requests(
    limit: int, sendings: Sequence[Sending], seconds: float
) -> tuple[str, float, float, float, float, bool]:
    times = [one.sent for one in sendings if one.let_in]
    worst = most_of_bucket(times, [1.0] * len(times), limit)
    entitled = limit * (1 + seconds / 60)
    return "requests_per_minute", entitled, len(sendings), len(times), worst, worst <= 1


def _tokens(
    limit: int, sendings: Sequence[Sending], seconds: float
) -> tuple[str, float, float, float, float, bool]:
    """A service may take tokens when a request comes, by an estimate, or when it ends, by what it
    used: the limit is kept if it is by either account. One request may go beyond it, whose length
    nobody knew."""
    taken = [one for one in sendings if one.let_in]
    largest = max((one.tokens for one in taken), default=0)
    late = sorted(taken, key=lambda one: one.ended)
    worst = min(
        most_of_bucket([one.sent for one in taken], [one.tokens for one in taken], limit, largest),
        most_of_bucket([one.ended for one in late], [one.tokens for one in late], limit, largest),
    )
    offered, admitted = sum(one.tokens for one in sendings), sum(one.tokens for one in taken)
    entitled = limit * (1 + seconds / 60)
    return "tokens_per_minute", entitled, offered, admitted, worst, worst <= 1


def _concurrency(
    limit: int, sendings: Sequence[Sending]
) -> tuple[str, float, float, float, float, bool]:
    most = _most_at_once(one for one in sendings if one.let_in)
    return "concurrency", limit, _most_at_once(sendings), most, most / limit, most <= limit


def _day(
    limit: int, sendings: Sequence[Sending], days: int
) -> tuple[str, float, float, float, float, bool]:
    """What was used before the run is not known: this can show a breach, and no more."""
    taken = [one.tokens for one in sendings if one.let_in]
    entitled, admitted = limit * days, sum(taken)
    worst = admitted / (entitled + max(taken, default=0))
    return (
        "tokens_per_day",
        entitled,
        sum(one.tokens for one in sendings),
        admitted,
        worst,
        worst <= 1,
    )


def _most_at_once(sendings: Iterable[Sending]) -> int:
    """How many were surely open together: by the client's times each is a little longer than it was
    to the service."""
    changes: list[tuple[float, int]] = []
    for one in sendings:
        margin = min(0.05, (one.ended - one.sent) / 4)
        changes += [(one.sent + margin, 1), (one.ended - margin, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _all(records: Iterable[Record], span: Span) -> Iterable[Sending]:
    for record in records:
        asked = record.prompt_planned + record.output_planned
        used = record.prompt_tokens + record.output_tokens
        for attempt in record.attempts:
            if attempt.sent >= span.start:
                taken = _let_in(attempt.status)
                yield Sending(attempt.sent, attempt.ended, taken, 0 if taken else asked)
        if record.sent is not None and record.sent >= span.start:
            taken = _let_in(record.status)
            ended = record.sent if record.ended is None else record.ended
            yield Sending(record.sent, ended, taken, used if taken else asked)


def _let_in(status: int) -> bool:
    return 200 <= status < 300


def _advice(records: Iterable[Record], span: Span) -> tuple[int, int]:
    """How many sendings came when a refusal had advised, or later, and how many of them were let
    in. One that failed for another reason was not: the advice was worth nothing to it."""
    came = honest = 0
    for record in records:
        tries = record.attempts
        later = [(one.sent, one.status) for one in tries[1:]]
        if record.sent is not None:
            later.append((record.sent, record.status))
        for refused, (sent, status) in zip(tries, later, strict=False):
            if refused.outcome is not Outcome.QUOTA_429 or refused.retry_after is None:
                continue
            if sent >= max(refused.ended + refused.retry_after - _INSTANT, span.start):
                came += 1
                honest += _let_in(status)
    return came, honest
