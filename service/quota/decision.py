"""Which limits stand in the way of a reservation, and for how long."""

from dataclasses import dataclass

from service.quota.calendar import Windows
from service.quota.reservation import Kind, Level, Reservation, Scope

MINUTE = 60.0
# Nobody knows when a running request ends; asked again this soon, a client loses little.
_CONCURRENCY_WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that a reservation does not fit into.

    `wait` is the seconds until it would, if nothing else happens; None where it never will, being
    larger than the limit itself.
    """

    scope: Scope
    kind: Kind
    limit: int
    used: int
    requested: int
    wait: float | None


def requested(reservation: Reservation, kind: Kind) -> int:
    """What a reservation takes of a limit of that kind."""
    return 1 if kind in (Kind.REQUESTS, Kind.CONCURRENCY) else reservation.tokens


def fits(scope: Scope, level: Level, reservation: Reservation) -> bool:
    """Whether a scope has room for a reservation, that is, no breach: written out for speed."""
    limits, tokens = scope.limits, reservation.tokens
    return not (
        (limits.rpm and level.requests + 1 > limits.rpm)
        or (limits.tpm and level.tokens + tokens > limits.tpm)
        or (limits.concurrency and level.open + 1 > limits.concurrency)
        or (
            limits.daily_tokens
            and level.day_used + level.day_reserved + tokens > limits.daily_tokens
        )
        or (
            limits.monthly_tokens
            and level.month_used + level.month_reserved + tokens > limits.monthly_tokens
        )
    )


def tightest(reservation: Reservation, levels: tuple[Level, ...], now: float) -> Breach | None:
    """The breach that takes the longest to pass; None where there is none.

    `now` is in epoch seconds. The one to name: when it has passed, the others have too.
    """
    found = [
        breach
        for scope, level in zip(reservation.scopes, levels, strict=True)
        for breach in _breaches(scope, level, reservation, now)
    ]
    return max(found, key=lambda breach: _forever(breach.wait), default=None)


def _forever(wait: float | None) -> float:
    return float("inf") if wait is None else wait


def _breaches(scope: Scope, level: Level, reservation: Reservation, now: float) -> "list[Breach]":
    found = []
    for kind in Kind:
        limit = scope.limit(kind)
        if limit is None:
            continue
        used, asked = level.used(kind), requested(reservation, kind)
        if used + asked > limit:
            wait = _wait(kind, limit, used, asked, reservation.windows, now)
            found.append(Breach(scope, kind, limit, used, asked, wait))
    return found


def _wait(
    kind: Kind, limit: int, used: int, asked: int, windows: Windows, now: float
) -> float | None:
    if asked > limit:
        return None
    if kind is Kind.DAY:
        return max(windows.day.end - now, 0.0)
    if kind is Kind.MONTH:
        return max(windows.month.end - now, 0.0)
    if kind is Kind.CONCURRENCY:
        return _CONCURRENCY_WAIT
    return refill(used + asked - limit, limit)


def refill(amount: int, per_minute: int) -> float:
    """Seconds in which a rate gives `amount` back."""
    return max(amount, 0) * MINUTE / per_minute
