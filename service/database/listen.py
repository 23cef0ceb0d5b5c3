"""Hearing at once that something changed, where the database can tell."""

from collections.abc import Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.connect import Database


class Listener:
    """A connection that hears what PostgreSQL notifies on `channel`. SQLite notifies nothing."""

    def __init__(self, database: Database, channel: str, heard: Callable[[], None]) -> None:
        self._database = database
        self._channel = channel
        self._heard = heard
        self._connection: AsyncConnection | None = None
        self._driver: Any = None  # asyncpg's connection: SQLAlchemy has no notifications

    async def ensure(self) -> None:
        """Listen, by a new connection where there is none or it was lost."""
        if self._database.is_sqlite or (self._driver and not self._driver.is_closed()):
            return
        await self.close()
        self._connection = await self._database.engine.connect()
        self._driver = (await self._connection.get_raw_connection()).driver_connection
        await self._driver.add_listener(self._channel, lambda *_: self._heard())

    async def close(self) -> None:
        """Hear nothing more."""
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None:
            await connection.invalidate()  # back in the pool it would listen on
            await connection.close()
