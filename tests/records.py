"""Usage records and ledgers of the tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select

from service.database.connect import Database
from service.database.migrate import upgrade
from service.database.schema import usage
from service.ledger.record import Settlement, UsageRecord
from service.ledger.writer import Ledger

NOW = datetime(2026, 8, 22, 14, 3, 59, tzinfo=UTC)


def record(id: str, settlement: Settlement = Settlement.EXACT, **fields: Any) -> UsageRecord:
    """What a request used, as a gateway records it."""
    usual: dict[str, Any] = {
        "at": NOW,
        "team": "search",
        "key": "AbCdEfGhIjKl",
        "model": "gpt-oss-120b",
        "route": "chat",
        "outcome": "ok",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 64,
        "reasoning_tokens": 10,
        "seconds": 1.5,
    }
    values = usual | fields
    values.setdefault("day", values["at"].date().isoformat())
    return UsageRecord(id, settlement=settlement, **values)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database with all its tables, as the migrations make them."""
    database = Database(url)
    try:
        await upgrade(database)
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[Ledger]:
    """A ledger whose writer runs."""
    task = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until `condition()` holds; fail where that does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what a test waits for is no event
            await asyncio.sleep(0.01)


async def rows(database: Database) -> list[Row[Any]]:
    """All records in the ledger, by id."""
    async with database.read() as connection:
        found = await connection.execute(select(usage).order_by(usage.c.id))
        return list(found.all())
