"""What an administrator does, for tests: teams, keys and the ledger of one state folder."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from service.database import migrate
from service.database.connect import Database
from service.database.opened import open_database
from service.database.schema import usage
from service.ledger.record import Settlement, UsageRecord
from service.quota.limits import UNLIMITED, Limits
from service.settings import Settings
from service.tenants.directory import Directory
from service.tenants.keys import Key
from service.tenants.team import Team

T = TypeVar("T")
_ACTOR = "tests"


class Office:
    """The directory behind one gateway's settings."""

    def __init__(self, settings: Settings, *, upgrade: bool = False) -> None:
        self._settings = settings
        if upgrade:
            asyncio.run(migrate.upgrade(Database(settings.database_url)))

    @classmethod
    def at(cls, state_dir: Path) -> "Office":
        """With SQLite in a state folder."""
        return cls(Settings(state_dir=state_dir))

    @property
    def database_url(self) -> str:
        """Of the database that it works on."""
        return self._settings.database_url

    def add_team(self, team: Team) -> None:
        """Make a team."""
        self._do(lambda directory: directory.create_team(_ACTOR, team))

    def change_team(self, team: Team) -> None:
        """Give a team other values."""
        self._do(lambda directory: directory.change_team(_ACTOR, team.name, lambda _: team))

    def add_key(self, team: str, limits: Limits = UNLIMITED) -> tuple[Key, str]:
        """Make a key. The second of the two is what a client sends."""
        return self._do(lambda directory: directory.create_key(_ACTOR, team, limits=limits))

    def revoke(self, id: str) -> None:
        """Refuse a key from now on."""
        self._do(lambda directory: directory.revoke_key(_ACTOR, id))

    def ledger(self) -> list[UsageRecord]:
        """Every line of it."""

        async def read(directory: Directory) -> list[UsageRecord]:
            async with directory.database.read() as connection:
                rows = (await connection.execute(select(usage))).mappings().all()
            return [
                UsageRecord(**{**row, "settlement": Settlement(row["settlement"])}) for row in rows
            ]

        return self._do(read)

    def _do(self, work: Callable[[Directory], Awaitable[T]]) -> T:
        async def run() -> T:
            async with open_database(self._settings) as database:
                return await work(Directory(database))

        return asyncio.run(run())
