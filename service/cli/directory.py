"""The directory of teams and keys, as commands use it."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service import settings
from service.tenants.directory import Directory

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
