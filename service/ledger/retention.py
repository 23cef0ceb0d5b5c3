"""How long use is kept, and how finely: by record, then by hour, then by day, then not at all.

Each step is one transaction that moves a bounded portion: what leaves one table arrives in the next
or neither happens, at no moment is a record in both, and no table is locked for long.
"""

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    delete,
    func,
    literal,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from service.database.connect import Database
from service.database.schema import usage, usage_daily, usage_hourly
from service.ledger.failure import cause
from service.ledger.hour import hour_of
from service.settings import LedgerSettings

PORTION = 5_000
_PAUSE = 0.02  # between portions, for SQLite's other writers to have their turn, s
_EVERY = 3600.0
# Gateways fold one at a time. Two that add to the same sums in different orders would lock each
# other out; SQLite has one writer anyway.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('gptoss_usage'))")

logger = logging.getLogger(__name__)


async def fold(
    database: Database, settings: LedgerSettings, now: datetime, *, portion: int = PORTION
) -> None:
    """Bring the tables to what `settings` says of `now`, `portion` rows at a time.

    Safe to be cut off, to be repeated, and to run on several gateways at once.
    """
    ages = (settings.keep_records_days, settings.keep_hourly_days, settings.keep_daily_days)
    records, hourly, daily = (now.astimezone(UTC) - timedelta(days=age) for age in ages)
    for source, target, age, end in (
        (usage, usage_hourly, usage.c.at, records),
        (usage_hourly, usage_daily, usage_hourly.c.hour, hourly),
        (usage_daily, None, usage_daily.c.day, daily.date().isoformat()),
    ):
        primary = source.primary_key.columns
        old = select(*primary).where(age < end).order_by(age, *primary).limit(portion)
        move = tuple_(*primary).in_(old)
        while await _move(database, source, target, move):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE)


async def run_retention(
    database: Database, settings: LedgerSettings, *, every: float = _EVERY
) -> NoReturn:
    """Fold about once in `every` seconds. An error of the database leaves it to the next time."""
    wait = random.uniform(0, every / 60)  # noqa: S311  # gateways that start together spread out
    while True:
        await asyncio.sleep(wait)
        wait = every * random.uniform(0.9, 1.1)  # noqa: S311
        try:
            await fold(database, settings, datetime.now(UTC))
        except Exception as error:
            said = {"error": cause(error)}
            logger.warning("usage could not be folded: tried again later", extra=said)


async def _move(
    database: Database, source: Table, target: Table | None, old: ColumnElement[bool]
) -> bool:
    """Move a portion in one transaction; to no target, it is deleted. Whether there was any."""
    leave = delete(source).where(old)
    async with database.begin() as connection:
        if not database.is_sqlite:
            await connection.execute(_LOCK)
        if target is None:
            return bool((await connection.execute(leave)).rowcount)
        if database.is_sqlite:
            arrived = await connection.execute(_arrive(database, source, target, old))
            await connection.execute(leave)
        else:
            # One statement: a late record that is written meanwhile is moved whole or not at all.
            gone = leave.returning(*source.c).cte("gone")
            arrived = await connection.execute(_arrive(database, gone, target).add_cte(gone))
        return bool(arrived.rowcount)


def _arrive(
    database: Database, source: FromClause, target: Table, *conditions: ColumnElement[bool]
) -> sqlite.Insert | postgresql.Insert:
    """Add the rows of `source` to the sums of `target`."""
    insert: sqlite.Insert | postgresql.Insert
    insert = (sqlite.insert if database.is_sqlite else postgresql.insert)(target)
    primary = [column.name for column in target.primary_key.columns]
    sums = [column.name for column in target.columns if column.name not in primary]
    groups = [_column(database, source, name) for name in primary]
    rows = select(*groups, *(func.sum(_column(database, source, name)) for name in sums))
    rows = rows.where(*conditions).group_by(*groups)
    return insert.from_select([*primary, *sums], rows).on_conflict_do_update(
        index_elements=primary,
        set_={name: target.c[name] + insert.excluded[name] for name in sums},
    )


def _column(database: Database, source: FromClause, name: str) -> ColumnElement[Any]:
    """What a record has under the name of a sum's column."""
    if name in source.c:
        return source.c[name]
    return hour_of(database, source.c.at) if name == "hour" else literal(1)
