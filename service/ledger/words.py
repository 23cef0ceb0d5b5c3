"""A query of the ledger in a person's words, for the command line and the admin API alike."""

from datetime import UTC, date, datetime, timedelta

from service.errors import UserError
from service.ledger.usage import Dimension, UsageQuery

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_DIMENSIONS = ", ".join(Dimension)


def read_query(
    now: datetime,
    by: str,
    since: str,
    until: str | None,
    *,
    team: str | None = None,
    key: str | None = None,
    model: str | None = None,
    prefix: str = "",
) -> UsageQuery:
    """The query that a person's words mean; UserError with what is accepted otherwise.

    `prefix` is what stands before the names of the parameters where the person knows them.
    """
    start = _point(f"{prefix}since", since, now)
    end = _point(f"{prefix}until", until, now) if until is not None else None
    if end is not None and _instant(end) <= _instant(start):
        raise UserError(
            f"{prefix}until {until} is not after {prefix}since {since}: nothing lies between"
        )
    return UsageQuery(_dimensions(f"{prefix}by", by), start, end, team=team, key=key, model=model)


def _dimensions(option: str, words: str) -> tuple[Dimension, ...]:
    names = [word.strip() for word in words.split(",")]
    try:
        return tuple(dict.fromkeys(map(Dimension, names)))
    except ValueError:
        raise UserError(
            f"{option} {words!r}: give one or more of {_DIMENSIONS}, by commas"
        ) from None


def _point(option: str, words: str, now: datetime) -> date | datetime:
    count, unit = words[:-1], _UNITS.get(words[-1:])
    try:
        if unit and count.isascii() and count.isdecimal():
            return now - timedelta(**{unit: int(count)})
        if len(words) == len("2026-08-01"):
            return date.fromisoformat(words)
        point = datetime.fromisoformat(words)
        return (point if point.tzinfo else point.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UserError(
            f"{option} {words!r} is no time: give hours, days or weeks ago (12h, 7d, 4w),"
            " a day (2026-08-01) or a time (2026-08-01T14:00Z)"
        ) from None


def _instant(point: date | datetime) -> datetime:
    if isinstance(point, datetime):
        return point
    return datetime(point.year, point.month, point.day, tzinfo=UTC)
