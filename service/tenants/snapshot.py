"""The keys as the gateway sees them: in memory, replaced whole.

Nothing on the path of a request reads a store. A store that is lost leaves the last snapshot in
force, so that an outage does not turn valid keys into 401s.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from service.errors import UserError
from service.tenants.keys import Key, public_id

REFRESH_SECONDS = 1.0

log = logging.getLogger(__name__)


class Store(Protocol):
    """Where keys are kept."""

    def version(self) -> object:
        """A value that changes whenever the keys do; None where there are none."""

    def read(self) -> list[Key]:
        """All keys, the revoked ones included."""


class Snapshot:
    """An immutable set of keys, found by their public id."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.id: key for key in keys}
        # Compared with when the id is unknown, so that an answer takes as long either way.
        self._decoy, _ = Key.issue("decoy")

    def __len__(self) -> int:
        return len(self._keys)

    def authenticate(self, token: str, now: datetime | None = None) -> Key | None:
        """The active key that `token` opens, or None."""
        id = public_id(token)
        if id is None:
            return None
        key = self._keys.get(id, self._decoy)
        opened = key.opens_with(token)
        return key if opened and key.is_active(now or datetime.now(UTC)) else None


class Keys:
    """The current snapshot, kept up with its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = store.version()
        self.current = Snapshot(store.read())

    def refresh(self) -> bool:
        """Take over what changed in the store. True where something did."""
        version = self._store.version()
        if version == self._version:
            return False
        if version is None:
            raise UserError("the keys are gone: restore them, or revoke keys one by one")
        self.current = Snapshot(self._store.read())
        self._version = version
        return True

    async def keep_fresh(self, failed: Callable[[], None]) -> None:
        """Refresh until cancelled; a store that fails leaves the last snapshot in force."""
        said = ""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await asyncio.to_thread(self.refresh)
                said = ""
            except Exception as error:  # whatever a store raises, the keys we have stay good
                failed()
                if said != str(error):  # once, not every second
                    said = str(error)
                    log.warning("keys not refreshed, the last ones stay in force: %s", error)
