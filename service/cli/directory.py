"""The directory of teams and keys, as commands use it."""

import asyncio
import contextlib
import getpass
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from service import settings
from service.tenants.directory import Conflict, Directory
from service.tenants.keys import Key
from service.tenants.team import Team

_Result = TypeVar("_Result")
_LOGIN_LENGTH = 64


def ask(question: Callable[[Directory], Awaitable[_Result]]) -> _Result:
    """What the configured database's directory answers."""
    from service.database.opened import open_database  # imports Alembic, which takes its time

    async def asked() -> _Result:
        async with open_database(settings.load()) as database:
            return await question(Directory(database))

    return asyncio.run(asked())


def actor() -> str:
    """Who the audit log names: `cli:` and the login name."""
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        login = f"uid-{os.getuid()}"
    shown = "".join(letter if letter.isprintable() else "?" for letter in login)
    return f"cli:{shown[:_LOGIN_LENGTH]}"


async def key_for(
    directory: Directory, actor: str, team: str, expires: datetime | None = None
) -> tuple[Key, str]:
    """A new key, and its token, of a team that is made where there is none."""
    with contextlib.suppress(Conflict):
        await directory.create_team(actor, Team(team))
    return await directory.create_key(actor, team, expires=expires)
