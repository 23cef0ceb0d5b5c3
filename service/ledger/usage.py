"""What was used: sums over the records and over the hours and days they were folded into."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, literal, null, select, union_all

from service.database.connect import Database
from service.database.schema import usage as usage_records
from service.database.schema import usage_daily, usage_hourly
from service.ledger.hour import hour_of

SUMS = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "seconds",
)
# No time zone is further from UTC, so that no record of a day lies further outside it.
_SLACK = timedelta(days=1)
_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)


class Dimension(StrEnum):
    """What use can be summed by."""

    TEAM = "team"
    KEY = "key"
    MODEL = "model"
    ROUTE = "route"
    SETTLEMENT = "settlement"
    DAY = "day"
    """The date in the team's own time zone, whose budget was charged."""
    HOUR = "hour"
    """The hour in UTC."""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which use is asked for: from `since`, before `until`, of `team`, `key` and `model`.

    A date means the teams' own days, exactly, however old. A time means whole hours of UTC: an hour
    that is begun counts whole, so that the answer does not depend on what was folded into hours. Of
    use so old that only its day is kept, a day that is begun (in UTC) counts whole.
    """

    by: tuple[Dimension, ...] = ()
    since: date | datetime | None = None
    until: date | datetime | None = None
    team: str | None = None
    key: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one group. `group` has a value for each dimension of the query, in its order.

    An hour is `2026-08-22T14:00Z`, or None for use that is kept by day alone. `seconds` is the time
    that requests took, added up.
    """

    group: dict[str, str | None]
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    seconds: float

    @property
    def total_tokens(self) -> int:
        """Prompt and completion; cached and reasoning tokens are among them."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens, prompt and completion, charged to one day of a team, by key and model."""

    team: str
    key: str
    model: str
    day: str
    tokens: int


async def usage(database: Database, query: UsageQuery) -> list[UsageRow]:
    """The sums, ordered by group. Without dimensions: one row, or none where nothing was used."""
    # One statement is one view of the three tables: what is folded meanwhile is seen once.
    rows = union_all(*(_part(database, table, query) for table in _TABLES)).subquery()
    groups = [rows.c[dimension.value] for dimension in query.by]
    sums = [func.sum(rows.c[name]).label(name) for name in SUMS]
    async with database.read() as connection:
        found = (await connection.execute(select(*groups, *sums).group_by(*groups))).all()
    width = len(groups)
    answer = [_row(query.by, row[:width], row[width:]) for row in found if row.requests]
    return sorted(answer, key=_order)


async def spent(database: Database, now: datetime) -> list[Spent]:
    """What was spent of the budgets that may still be open: the days of this month in any zone.

    Of the month before, too, during the first two days of a month: it is still that in the west.
    """
    first = (now.astimezone(UTC) - timedelta(days=2)).date().replace(day=1)
    by = (Dimension.TEAM, Dimension.KEY, Dimension.MODEL, Dimension.DAY)
    rows = await usage(database, UsageQuery(by, since=first))
    return [_spent(row) for row in rows]


def _spent(row: UsageRow) -> Spent:
    team, key, model, day = map(str, row.group.values())
    return Spent(team, key, model, day, row.total_tokens)


_TABLES = (usage_records, usage_hourly, usage_daily)


def _part(database: Database, table: Table, query: UsageQuery) -> Select[Any]:
    """What one of the tables has of it, in columns that are alike for all."""
    hour: ColumnElement[Any] = null()
    if table is usage_records:
        hour = hour_of(database, table.c.at)
    elif table is usage_hourly:
        hour = table.c.hour
    plain = [table.c[dimension.value] for dimension in Dimension if dimension != Dimension.HOUR]
    requests = literal(1) if table is usage_records else table.c.requests
    sums = [table.c[name] for name in SUMS if name != "requests"]
    columns = (*plain, hour.label("hour"), requests.label("requests"), *sums)
    return select(*columns).where(*_conditions(table, query))


def _conditions(table: Table, query: UsageQuery) -> Iterator[ColumnElement[bool]]:
    for name in ("team", "key", "model"):
        if (value := getattr(query, name)) is not None:
            yield table.c[name] == value
    point = {usage_records: table.c.get("at"), usage_hourly: table.c.get("hour")}.get(table)
    if isinstance(query.since, datetime):
        since = _whole_hour(query.since)
        yield table.c.day >= since.date().isoformat() if point is None else point >= since
    elif query.since:
        yield table.c.day >= query.since.isoformat()
        if point is not None:  # says nothing new, but there is an index on it
            yield point >= datetime.combine(query.since, time.min, UTC) - _SLACK
    if isinstance(query.until, datetime):
        until = _whole_hour(query.until + _HOUR - _INSTANT)
        last = (until - _INSTANT).date().isoformat()
        yield table.c.day <= last if point is None else point < until
    elif query.until:
        yield table.c.day < query.until.isoformat()


def _whole_hour(point: datetime) -> datetime:
    return point.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _row(by: Sequence[Dimension], group: Sequence[Any], sums: Sequence[Any]) -> UsageRow:
    names = (
        f"{value.astimezone(UTC):%Y-%m-%dT%H:%MZ}" if isinstance(value, datetime) else value
        for value in group
    )
    named = dict(zip(map(str, by), names, strict=True))
    requests, prompt, cached, completion, reasoning = map(int, sums[:-1])
    seconds = round(sums[-1], 3)
    return UsageRow(named, requests, prompt, cached, completion, reasoning, seconds)


def _order(row: UsageRow) -> list[tuple[bool, str]]:
    """By the names, as Python sorts them: databases differ in it."""
    return [(value is not None, value or "") for value in row.group.values()]
