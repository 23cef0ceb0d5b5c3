"""`gptoss db`: the database's schema."""

import asyncio

import typer

from service import settings
from service.database.connect import Database

app = typer.Typer(help="The database of teams, keys and use.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the database to this version's schema. Safe to run twice, or from several places.

    PostgreSQL is upgraded by this alone, before its gateways start; SQLite also by itself.
    """
    database = Database(settings.load().database_url)
    applied = asyncio.run(_upgrade(database))
    done = f"applied {', '.join(applied)}" if applied else "up to date"
    typer.echo(f"{database.name}: {done}")


@app.command()
def status() -> None:
    """Say whether the database has this version's schema; status 1 where it has not."""
    database = Database(settings.load().database_url)
    asyncio.run(_check(database))
    typer.echo(f"{database.name}: up to date")


async def _upgrade(database: Database) -> list[str]:
    from service.database import migrate  # imports Alembic, which takes its time

    try:
        return await migrate.upgrade(database)
    finally:
        await database.close()


async def _check(database: Database) -> None:
    from service.database import migrate

    try:
        await migrate.check(database)
    finally:
        await database.close()
