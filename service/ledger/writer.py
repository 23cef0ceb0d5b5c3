"""The ledger's writer: records are taken in at once, and written in batches off the path.

A batch whose commit was cut off may or may not be in the database. It is simply written again: the
insert is idempotent on the record's id, for as long as records are kept before they are summed.
What waits is in the journal, too, from which the next start writes it if this process is killed.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from service.database.connect import Database
from service.database.schema import usage
from service.ledger.failure import cause
from service.ledger.journal import Journal, Remains
from service.ledger.record import Settlement, UsageRecord
from service.settings import LedgerSettings

BATCH = 500
_FIRST_RETRY = 0.1
_LAST_RETRY = 5.0
_COLUMNS = tuple(column.name for column in usage.columns)

logger = logging.getLogger(__name__)


class Ledger:
    """Takes in records and writes them, for as long as `run` runs.

    Every record is counted once: it is `pending`, then `written` or `dropped`. Dropped is what came
    while `max_pending` were waiting or after `close`, and what the database refuses for its value.
    `failures` counts the times a batch could not be written; it was kept and tried again. Without a
    `journal`, what is pending is lost with the process.
    """

    def __init__(
        self, database: Database, settings: LedgerSettings, journal: Journal | None = None
    ) -> None:
        self.written = 0
        self.dropped = 0
        self.failures = 0
        self._database = database
        self._settings = settings
        self._journal = journal
        self._inherits = journal is not None
        # Before there is no room, too: what comes in while it is written needs some.
        self._enough = min(BATCH, (settings.max_pending + 1) // 2)
        self._insert = _insert(database.is_sqlite)
        self._records: deque[UsageRecord] = deque()
        self._batch_is_full = asyncio.Event()
        self._writing = asyncio.Lock()
        self._inheriting = asyncio.Lock()
        self._closed = False
        self._is_away = False
        self._overflows = False

    @property
    def pending(self) -> int:
        """Records that wait to be written, those being written among them."""
        return len(self._records)

    @property
    def is_at_risk(self) -> bool:
        """Whether records may wait that would be lost with the process."""
        return self._journal is None or self._journal.failed

    def put(self, record: UsageRecord) -> None:
        """Take in a record. At once, and whatever the database does; never raises."""
        if self._closed or len(self._records) >= self._settings.max_pending:
            self._drop()
            return
        self._records.append(record)
        if self._journal is not None:
            self._journal.append(record)
        if len(self._records) >= self._enough:
            self._batch_is_full.set()

    async def run(self) -> None:
        """Write what is put, until cancelled. What is then pending is left to `close`."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.flush):
                    await self._batch_is_full.wait()
            await self._write_pending()
            if self._inherits:
                await self.inherit()

    async def inherit(self, seconds: float | None = None) -> None:
        """Write what gateways left in the journal's folder that were killed.

        It is never pending: it stays where it is until the database has it, and at most a batch of
        it is in memory. What is not written, within `seconds` if given, is tried again by `run`.
        """
        if self._journal is None:
            return
        try:
            # One at a time: another one would take a file that is being written for a living
            # gateway's, and have nothing left to try again.
            async with asyncio.timeout(seconds), self._inheriting:
                with contextlib.closing(self._journal.left()) as left:
                    for remains in left:
                        await self._write_remains(remains)
            self._inherits = False
        except Exception as error:  # whatever it was: the files stay
            self._note_failure(error)

    async def close(self, seconds: float) -> int:
        """Write what is pending, within `seconds`. How many records are not written then.

        Where the server hangs it takes 2 s more: SQLAlchemy gives its connection that long to end.
        """
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._write_pending()
        if self._records:
            self._note_unwritten()
        if self._journal is not None:
            self._journal.close()
        return self.pending

    def _drop(self) -> None:
        self.dropped += 1
        if not self._overflows:  # once an outage, not once a request
            self._overflows = True
            logger.error("the ledger is full: usage records are dropped and counted")

    async def _write_pending(self) -> None:
        """Until nothing is pending, however long the database is away."""
        delay = _FIRST_RETRY
        while self._records:
            try:
                await self._write_batch()
                delay = _FIRST_RETRY
            except Exception as error:  # whatever it was: the records are kept, and tried again
                self._note_failure(error)
                # Jitter, so that gateways do not return to a restarted database all at once.
                await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
                delay = min(2 * delay, _LAST_RETRY)

    async def _write_batch(self) -> None:
        async with self._writing:  # `close` may come while `run` writes
            batch = list(islice(self._records, BATCH))
            refused = await self._write(_rows(batch))
            for _ in batch:  # not before: a batch that was cut off is written again
                self._records.popleft()
            if self._journal is not None:
                self._journal.forget(len(batch))
        self.written += len(batch) - refused
        self.dropped += refused
        if len(self._records) < self._enough:
            self._batch_is_full.clear()
        if self._is_away:
            logger.info("the ledger is written again", extra={"pending": self.pending})
        self._is_away = self._overflows = False

    async def _write(self, rows: Sequence[dict[str, Any]]) -> int:
        """Write `rows` but for those that the database refuses; how many those are."""
        if not rows:
            return 0
        try:
            async with self._database.begin() as connection:
                # Only here an error can be about a value: while connecting it never is.
                with _refusals():
                    await connection.execute(self._insert, rows)
        except _RefusedError as error:
            if len(rows) == 1:
                logger.error(
                    "the database refuses a usage record: it is dropped and counted",
                    extra={"id": repr(rows[0]["id"]), "error": error.reason},
                )
                return 1
            half = len(rows) // 2
            return await self._write(rows[:half]) + await self._write(rows[half:])
        return 0

    async def _write_remains(self, remains: Remains) -> None:
        """Write a file of a dead gateway, and remove it. Counted at the end: it may come again."""
        written = refused = old = 0
        records = remains.records()
        while batch := list(islice(records, BATCH)):
            # What is older may have been written, and summed: it would count twice.
            first = datetime.now(UTC) - timedelta(days=self._settings.keep_records_days)
            young = [record for record in batch if record.at >= first]
            old += len(batch) - len(young)
            refused += (not_taken := await self._write(_rows(young)))
            written += len(young) - not_taken
        remains.remove()
        self.written += written
        self.dropped += refused + old
        if written:
            logger.info(
                "usage records of a gateway that was killed are written", extra={"records": written}
            )
        if old:
            logger.error(
                "usage records of a gateway that was killed are too old to be written: they are"
                " dropped and counted",
                extra={"records": old},
            )
        if remains.rubbish:
            logger.warning(
                "the journal of a gateway that was killed has lines that are no records",
                extra={"lines": remains.rubbish},
            )

    def _note_unwritten(self) -> None:
        said = {"records": self.pending}
        if self._journal is None or self._journal.failed:
            logger.error("usage records are lost", extra=said)
        else:
            logger.warning("usage records are not written: the next start writes them", extra=said)

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        if not self._is_away:
            self._is_away = True
            logger.warning(
                "the ledger cannot be written: records are kept and tried again",
                extra={"error": cause(error), "pending": self.pending},
            )


class _RefusedError(Exception):
    """The database takes a value of the batch for invalid, and always will."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.reason = cause(error)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (StatementError, ValueError, TypeError, OverflowError) as error:
        if _is_about_a_value(error):
            raise _RefusedError(error) from None
        raise


def _is_about_a_value(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return True  # it did not reach the database: a value that cannot be sent
    state = getattr(error.orig, "sqlstate", None)
    if state:
        return state[:2] in ("22", "23")  # data exception, integrity constraint violation
    driver = getattr(error.orig, "__cause__", None)
    # Not any ValueError: a connection that was closed meanwhile is one, too.
    return isinstance(error, IntegrityError) or isinstance(driver, UnicodeError | OverflowError)


def _insert(is_sqlite: bool) -> Insert:
    """Insert once by id, except that a settlement replaces the charge of an expired lease."""
    insert: sqlite.Insert | postgresql.Insert
    insert = sqlite.insert(usage) if is_sqlite else postgresql.insert(usage)
    expired = Settlement.EXPIRED.value
    return insert.on_conflict_do_update(
        index_elements=[usage.c.id],
        set_={name: insert.excluded[name] for name in _COLUMNS if name != "id"},
        where=(usage.c.settlement == expired) & (insert.excluded.settlement != expired),
    )


def _rows(batch: Sequence[UsageRecord]) -> list[dict[str, Any]]:
    """A row for each id: its last record, and one of an expired lease only if there is no other."""
    by_id: dict[str, UsageRecord] = {}
    for record in batch:
        if record.id not in by_id or record.settlement != Settlement.EXPIRED:
            by_id[record.id] = record
    # In order, so that two gateways that write the same ids do not lock each other out.
    return [{name: getattr(by_id[id], name) for name in _COLUMNS} for id in sorted(by_id)]
