"""The audit log: who changed what, written with the change itself, never changed."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.connect import Database
from service.database.schema import audit, revision
from service.tenants.rows import flat

CHANNEL = "gptoss_revision"

_SECRET = {"digest", "cache_salt"}
_ACTOR_LENGTH = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `change` holds what was and what is, by field: `{"limits.rpm": [60, 600]}`."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    change: Mapping[str, list[Any]]


class Change:
    """A change of the directory in progress. `revision` is its number."""

    def __init__(self, connection: AsyncConnection, actor: str, revision: int) -> None:
        self.connection = connection
        self.revision = revision
        self.now = datetime.now(UTC)
        self.entries: list[dict[str, Any]] = []
        self._actor = actor[:_ACTOR_LENGTH]

    def record(
        self, action: str, subject: str, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> bool:
        """Note what differs between two rows. False, and nothing noted, where nothing does."""
        before, after = flat(old), flat(new)
        change = {
            name: [_plain(before.get(name)), _plain(after.get(name))]
            for name in sorted(before.keys() | after.keys())
            if name not in _SECRET and before.get(name) != after.get(name)
        }
        if change:
            self.entries.append(
                {
                    "at": self.now,
                    "actor": self._actor,
                    "action": action,
                    "subject": subject,
                    "change": change,
                }
            )
        return bool(change)


@contextlib.asynccontextmanager
async def changing(database: Database, actor: str) -> AsyncIterator[Change]:
    """A transaction that changes the directory: one at a time, in the order of their revisions.

    Where nothing was recorded, nothing is written, the revision included.
    """
    async with database.begin() as connection:
        # The lock is held until the commit: who sees this number has seen all below it.
        last = await connection.scalar(select(revision.c.value).with_for_update())
        change = Change(connection, actor, (last or 0) + 1)
        yield change
        if not change.entries:
            return
        await connection.execute(update(revision).values(value=change.revision))
        await connection.execute(insert(audit), change.entries)
        if not database.is_sqlite:
            await connection.execute(text(f"NOTIFY {CHANNEL}"))


async def entries(database: Database, limit: int) -> list[AuditEntry]:
    """The last `limit` changes, newest first."""
    async with database.read() as connection:
        rows = await connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
        return [AuditEntry(**row._mapping) for row in rows]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
