"""Bringing the schema up to date."""

import logging

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.database.connect import Database
from service.errors import UserError

log = logging.getLogger(__name__)

_LOCK = 0x67_70_74_6F_73_73  # "gptoss": PostgreSQL's advisory locks are numbers


class Outdated(UserError):
    """The schema is of an earlier version; somebody may be about to upgrade it."""


async def upgrade(database: Database) -> list[str]:
    """Bring the schema to the newest version; the versions that were applied, oldest first.

    Several may call it at once: one works, the others wait and find nothing to do. It happens in
    one transaction, so that it is done wholly or not at all.
    """
    async with database.read() as connection:
        if not _missing(await connection.run_sync(_version), database):
            return []
    async with database.begin() as connection:
        if not database.is_sqlite:  # there the transaction itself is the lock
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        missing = _missing(await connection.run_sync(_version), database)
        if missing:
            await connection.run_sync(_apply)
        return missing


async def check(database: Database) -> None:
    """`Outdated` for the schema of an earlier version.

    That of a later one is used: migrations only add, so that the version before goes on working
    during an upgrade, and after the way back from one.
    """
    async with database.read() as connection:
        missing = _missing(await connection.run_sync(_version), database)
    if missing:
        raise Outdated(f"database {database.name} is not up to date: run `gptoss db upgrade`")


def _missing(version: str | None, database: Database) -> list[str]:
    scripts = ScriptDirectory.from_config(_config())
    known = [script.revision for script in scripts.walk_revisions()][::-1]
    if version is None:
        return known
    if version not in known:
        log.warning("the database is of a newer gptoss", extra={"schema": version})
        return []
    return known[known.index(version) + 1 :]


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _apply(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "service.database:migrations")
    config.set_main_option("path_separator", "os")
    return config
