"""Connections to the database."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asyncpg import PostgresError  # type: ignore[import-untyped]
from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import UserError

_BUSY_MS = 5_000
_POOL = 5  # a gateway's snapshot, listener, ledger and admin API together need no more
_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 30.0
_READS = "gptoss_reads"
# Classes of SQLSTATE that are about the server, not about a statement: its connection, password,
# database, room, operator, files. https://www.postgresql.org/docs/current/errcodes-appendix.html
_SERVER_STATES = ("08", "28", "3D", "53", "57", "58")


class Unavailable(UserError):
    """The database cannot be reached or written now; it may come back."""


class Database:
    """One database, by URL: `postgresql://user:secret@host/name`, or `sqlite:///file`."""

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgres(self.url)

    @property
    def name(self) -> str:
        """What to call it in messages: without the password."""
        plain = self.url.set(drivername=self.url.get_backend_name())
        return plain.render_as_string(hide_password=True)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end, rolled back by an exception."""
        with self._explained():
            async with self.engine.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: one state of the database, and no wait for a writer."""
        options: dict[str, Any] = {_READS: True}
        if not self.is_sqlite:
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._explained():
            async with self.engine.connect() as connection:
                yield await connection.execution_options(**options)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What the server refuses or lacks becomes one line, without the password."""
        try:
            yield
        except (DBAPIError, OSError, PostgresError) as error:
            cause = getattr(error, "orig", None) or error
            if not _is_about_the_server(error, cause):
                raise
            reason = (str(cause) or "no answer in time").splitlines()[0].strip()
            mend = "the file, its folder and the disk" if self.is_sqlite else "it and database.url"
            raise Unavailable(f"database {self.name}: {reason}: check {mend}") from error


def _is_about_the_server(error: Exception, cause: BaseException) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = getattr(cause, "sqlstate", None)
    if state:
        return str(state).startswith(_SERVER_STATES)
    # Of SQLite: a disk that is full, a file that is locked, read-only, or no database.
    return isinstance(error, OSError | OperationalError) or type(error) is DatabaseError


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
        return parsed.set(drivername=drivers[parsed.get_backend_name()])
    except (ArgumentError, KeyError):
        raise UserError(
            "database.url is not one of ours: give postgresql://user:password@host/name,"
            " or nothing for SQLite in the state folder"
        ) from None


def _sqlite(url: URL) -> AsyncEngine:
    if url.database:
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            # Its owner's alone, before SQLite makes it; its log takes over the mode.
            os.close(os.open(url.database, os.O_CREAT | os.O_RDONLY, 0o600))
        except OSError as error:
            raise UserError(f"cannot make {url.database}: {error.strerror}") from None
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions, not the driver
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",  # with WAL: consistent after a power cut, safe after kill -9
            f"busy_timeout={_BUSY_MS}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # A transaction that reads first and writes later would fail where another wrote meanwhile.
        only_reads = connection.get_execution_options().get(_READS)
        connection.execute(text("BEGIN" if only_reads else "BEGIN IMMEDIATE"))

    return engine


def _postgres(url: URL) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=_POOL,
        max_overflow=0,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _COMMAND_SECONDS},
    )
