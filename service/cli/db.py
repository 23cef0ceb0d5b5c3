"""`gptoss db`: the database's schema."""

import asyncio

import typer

from service import settings
from service.cli.waiting import WaitOption, patiently
from service.database.connect import Database, Unavailable

app = typer.Typer(help="The database of teams, keys and use.", no_args_is_help=True)

_EVERY = 1.0  # s


@app.command()
def upgrade(wait: WaitOption = 0) -> None:
    """Bring the database to this version's schema. Safe to run twice, or from several places.

    PostgreSQL is upgraded by this alone, before its gateways start; SQLite also by itself. With
    --wait it may be that the database cannot be reached yet.
    """
    url = settings.load().database_url
    applied = patiently(lambda: asyncio.run(_upgrade(url)), wait, every=_EVERY, of=Unavailable)
    done = f"applied {', '.join(applied)}" if applied else "up to date"
    typer.echo(f"{Database(url).name}: {done}")


@app.command()
def status(wait: WaitOption = 0) -> None:
    """Say whether the database has this version's schema; status 1 where it has not.

    With --wait it may be that the database cannot be reached yet, or is still to be upgraded.
    """
    from service.database.migrate import Outdated  # imports Alembic, which takes its time

    url = settings.load().database_url
    awaited = (Unavailable, Outdated)
    patiently(lambda: asyncio.run(_check(url)), wait, every=_EVERY, of=awaited)
    typer.echo(f"{Database(url).name}: up to date")


async def _upgrade(url: str) -> list[str]:
    from service.database import migrate

    database = Database(url)
    try:
        return await migrate.upgrade(database)
    finally:
        await database.close()


async def _check(url: str) -> None:
    from service.database import migrate

    database = Database(url)
    try:
        await migrate.check(database)
    finally:
        await database.close()
