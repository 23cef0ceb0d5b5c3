"""Teams and keys as the gateway sees them: in memory, kept up with the directory.

Nothing on the path of a request reads a database. A database that is lost leaves the last snapshot
in force, so that an outage does not turn valid keys into 401s.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from service.database.listen import Listener
from service.quota.limits import UNLIMITED
from service.tenants.audit import CHANNEL
from service.tenants.changes import Changes, Credential
from service.tenants.directory import Directory
from service.tenants.keys import Key, opens, public_id
from service.tenants.principal import Principal
from service.tenants.team import Team

POLL_SECONDS = 1.0
REFRESH_SECONDS = 5.0  # longest a refresh may take before it counts as failed

log = logging.getLogger(__name__)


class Snapshot:
    """Teams by name, and the keys that may still open something. For one event loop."""

    def __init__(self) -> None:
        self.teams: dict[str, Team] = {}
        self.revision = 0
        self._keys: dict[str, Credential] = {}
        # Compared with when the id is unknown, so that an answer takes as long either way.
        decoy, _ = Key.issue("")
        self._decoy = Credential(decoy.id, "", decoy.digest, None, False, UNLIMITED)

    def __len__(self) -> int:
        return len(self._keys)

    def authenticate(self, token: str, now: datetime | None = None) -> Principal | None:
        """Whom `token` stands for, or None. A disabled team is found too: refuse it apart."""
        id = public_id(token)
        if id is None:
            return None
        key = self._keys.get(id, self._decoy)
        opened = opens(key.digest, token)
        team = self.teams.get(key.team)
        expired = key.expires is not None and key.expires <= (now or datetime.now(UTC))
        if not opened or team is None or expired:
            return None
        return Principal(key.id, team, key.limits)

    def apply(self, changes: Changes) -> None:
        """Take over what changed. Applying the same twice does no harm."""
        if changes.complete:
            self.teams.clear()
            self._keys.clear()
        for name in changes.gone_teams:
            self.teams.pop(name, None)
        for team in changes.teams:
            self.teams[team.name] = team
        for key in changes.keys:
            if key.revoked:
                self._keys.pop(key.id, None)
            else:
                self._keys[key.id] = key
        self.revision = changes.revision


class Keeper:
    """Keeps a snapshot up with the directory: by a poll, and at once where it is notified."""

    def __init__(self, directory: Directory, snapshot: Snapshot) -> None:
        self._directory = directory
        self._snapshot = snapshot
        self._current_at = -math.inf
        self._changed = asyncio.Event()
        self._listener = Listener(directory.database, CHANNEL, self._changed.set)

    @property
    def age(self) -> float:
        """Seconds since the snapshot was last known to be current; infinite before the first."""
        return time.monotonic() - self._current_at

    async def load(self) -> None:
        """Read everything. Raises what the database raises."""
        asked = time.monotonic()
        self._snapshot.apply(await self._directory.changes(0))
        self._current_at = asked

    async def keep_fresh(self, failed: Callable[[], None]) -> None:
        """Refresh until cancelled; a database that fails leaves the last snapshot in force.

        `failed` is called for every refresh that failed.
        """
        said = ""
        try:
            while True:
                await self._wait()
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._listener.ensure()
                        await self._refresh()
                    said = ""
                except Exception as error:  # whatever it raises, what we have stays good
                    failed()
                    reason = str(error) or "the database does not answer in time"
                    if said != reason:  # once, not every second
                        said = reason
                        log.warning("keys not refreshed, the last ones stay in force: %s", reason)
        finally:
            await self._listener.close()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._changed.wait()
        self._changed.clear()

    async def _refresh(self) -> None:
        asked = time.monotonic()
        seen = self._snapshot.revision
        if await self._directory.revision() != seen:
            self._snapshot.apply(await self._directory.changes(seen))
        self._current_at = asked
