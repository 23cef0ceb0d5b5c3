"""The database as a process has it: reachable, of the right version, closed in the end."""

import contextlib
from collections.abc import AsyncIterator

from service.database import migrate
from service.database.connect import Database
from service.settings import Settings


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The configured database. UserError where it cannot be used.

    SQLite is upgraded in passing: its one user is us. PostgreSQL is upgraded by `gptoss db upgrade`
    alone, since other replicas may still run the version before.
    """
    database = Database(settings.database_url)
    try:
        if database.is_sqlite:
            await migrate.upgrade(database)
        else:
            await migrate.check(database)
        yield database
    finally:
        await database.close()
