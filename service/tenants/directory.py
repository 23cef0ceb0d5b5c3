"""Teams and keys in the database. Every change is audited in its own transaction."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import schema
from service.database.connect import Database
from service.errors import UserError
from service.quota.limits import UNLIMITED, Limits
from service.tenants import audit
from service.tenants.audit import AuditEntry, Change, changing
from service.tenants.changes import Changes, Credential
from service.tenants.difference import TeamChange
from service.tenants.keys import LABEL_LENGTH, Key
from service.tenants.rows import CREDENTIALS, KEYS, TEAMS, Reader, key_row, team_row
from service.tenants.team import Team

_TEAMS = schema.teams.c
_KEYS = schema.keys.c
_BATCH = 5_000
_AT_ONCE = timedelta()


class NotFound(UserError):
    """There is no such team, or no such key."""


class Conflict(UserError):
    """It exists already, or is no longer in a state to be changed."""


class Directory:
    """The teams and keys of one database. `actor` is who asks for a change, for the audit log."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create_team(self, actor: str, team: Team) -> None:
        """Add a team. The name of a deleted one may be used again: its keys stay revoked."""
        async with changing(self.database, actor) as change:
            await _create_team(change, team)

    async def change_team(
        self, actor: str, name: str, edit: Callable[[Team], Team]
    ) -> tuple[Team, Team]:
        """Make of a team what `edit` makes of it; its `cache_salt` stays. Before, and after.

        No other change comes between what `edit` is given and what is written; others wait for it.
        What differs in nothing writes nothing.
        UserError for another name: the ledger knows a team by it.
        """
        async with changing(self.database, actor) as change:
            before = Reader().team(await _existing_team(change.connection, name))
            after = replace(edit(before), cache_salt=before.cache_salt)
            await _change_team(change, before, after)
            return before, after

    async def delete_team(self, actor: str, name: str) -> int:
        """Delete a team and revoke its keys: so many."""
        async with changing(self.database, actor) as change:
            await _existing_team(change.connection, name)
            return await _delete_team(change, name)

    async def apply(self, actor: str, changes: Iterable[TeamChange]) -> None:
        """Make changes of different teams, all or none.

        Conflict where one of these teams is no longer as it is before its change.
        """
        async with changing(self.database, actor) as change:
            present = {team.name: team for team in await _read_teams(change.connection)}
            for each in changes:
                if present.get(each.name) != each.before:
                    raise Conflict(
                        f"someone changed team {each.name} meanwhile; nothing was applied:"
                        " run it again"
                    )
                if each.after is None:
                    await _delete_team(change, each.name)
                elif each.before is None:
                    await _create_team(change, each.after)
                else:
                    await _change_team(change, each.before, each.after)

    async def team(self, name: str) -> Team:
        """A team by name; NotFound for none, or for one that is deleted."""
        async with self.database.read() as connection:
            return Reader().team(await _existing_team(connection, name))

    async def teams(self) -> list[Team]:
        """All teams, by name."""
        async with self.database.read() as connection:
            return await _read_teams(connection)

    async def create_key(
        self,
        actor: str,
        team: str,
        *,
        label: str = "",
        expires: datetime | None = None,
        limits: Limits = UNLIMITED,
    ) -> tuple[Key, str]:
        """Make a key of a team. The token is returned here, and nowhere else."""
        if len(label) > LABEL_LENGTH or not label.isprintable():
            raise UserError(f"a label has at most {LABEL_LENGTH} printable characters")
        if expires is not None and expires <= datetime.now(UTC):
            raise UserError(f"a key cannot expire in the past: {expires:%Y-%m-%d %H:%M %Z}")
        async with changing(self.database, actor) as change:
            await _existing_team(change.connection, team)
            return await _add_key(change, team, label, expires, limits)

    async def rotate_key(
        self, actor: str, id: str, *, grace: timedelta = _AT_ONCE
    ) -> tuple[Key, str]:
        """A new key of the same team, label, limits and expiry; the old one ends after `grace`.

        Conflict for a key that is revoked or expired already.
        """
        async with changing(self.database, actor) as change:
            old = await _existing_key(change.connection, id)
            if not old.is_active(change.now):
                raise Conflict(f"key {id} no longer opens anything: make a new one")
            new, token = await _add_key(change, old.team, old.label, old.expires, old.limits)
            end = change.now + max(grace, _AT_ONCE)
            values: dict[str, Any] = {"expires": min(end, old.expires) if old.expires else end}
            if grace <= _AT_ONCE:
                values = {"revoked": change.now}
            change.record(
                "key.rotate", id, key_row(old), key_row(old) | values | {"replaced_by": new.id}
            )
            await _set_key(change, id, values)
            return new, token

    async def revoke_key(self, actor: str, id: str) -> Key:
        """Refuse a key from now on. Its row stays; revoked again, it keeps the first moment."""
        async with changing(self.database, actor) as change:
            old = await _existing_key(change.connection, id)
            new = old if old.revoked else replace(old, revoked=change.now)
            if change.record("key.revoke", id, key_row(old), key_row(new)):
                await _set_key(change, id, {"revoked": change.now})
            return new

    async def keys(self, team: str | None = None) -> list[Key]:
        """The keys of a team, or of all, by age; revoked ones too. NotFound for no such team."""
        async with self.database.read() as connection:
            query = KEYS.order_by(_KEYS.created, _KEYS.id)
            if team is not None:
                await _existing_team(connection, team)
                query = query.where(_KEYS.team == team)
            return [*map(Reader().key, await connection.execute(query))]

    async def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """The last changes, newest first."""
        return await audit.entries(self.database, limit)

    async def revision(self) -> int:
        """The number of the last change."""
        async with self.database.read() as connection:
            return await _revision(connection)

    async def changes(self, since: int) -> Changes:
        """What changed after revision `since`; everything for 0, or where `since` is not ours.

        Everything means teams that exist and keys that may open something.
        """
        async with self.database.read() as connection:
            last = await _revision(connection)
            # A database that was restored from a backup has a smaller revision than we saw.
            complete = not 0 < since <= last
            teams, keys = TEAMS, CREDENTIALS
            if complete:
                teams = teams.where(_TEAMS.deleted.is_(None))
                unexpired = _KEYS.expires.is_(None) | (_KEYS.expires > datetime.now(UTC))
                keys = keys.where(_KEYS.revoked.is_(None), unexpired)
            else:
                teams = teams.where(_TEAMS.revision > since)
                keys = keys.where(_KEYS.revision > since)
            reader = Reader()
            rows = (await connection.execute(teams)).all()
            return Changes(
                revision=last,
                complete=complete,
                teams=[reader.team(row) for row in rows if row.deleted is None],
                gone_teams=[row.name for row in rows if row.deleted is not None],
                keys=await _read_keys(connection, keys, reader),
            )


async def _read_keys(connection: AsyncConnection, query: Any, reader: Reader) -> list[Credential]:
    """In batches: all rows at once would take more memory than the keys do."""
    found: list[Credential] = []
    async with connection.stream(query) as rows:
        async for batch in rows.partitions(_BATCH):
            found.extend(map(reader.credential, batch))
    return found


async def _revision(connection: AsyncConnection) -> int:
    return int(await connection.scalar(select(schema.revision.c.value)) or 0)


async def _read_teams(connection: AsyncConnection) -> list[Team]:
    rows = await connection.execute(TEAMS.where(_TEAMS.deleted.is_(None)).order_by(_TEAMS.name))
    return [*map(Reader().team, rows)]


async def _find_team(connection: AsyncConnection, name: str) -> Any:
    query = TEAMS.where(_TEAMS.name == name, _TEAMS.deleted.is_(None))
    return (await connection.execute(query)).one_or_none()


async def _existing_team(connection: AsyncConnection, name: str) -> Any:
    row = await _find_team(connection, name)
    if row is None:
        raise NotFound(f"there is no team {name}: see `gptoss team list`")
    return row


async def _existing_key(connection: AsyncConnection, id: str) -> Key:
    row = (await connection.execute(KEYS.where(_KEYS.id == id))).one_or_none()
    if row is None:
        raise NotFound(f"no key has the id {id}: see `gptoss key list`")
    return Reader().key(row)


async def _create_team(change: Change, team: Team) -> None:
    if await _find_team(change.connection, team.name) is not None:
        raise Conflict(f"team {team.name} exists: change it with `gptoss team set`")
    row = team_row(team)
    change.record("team.create", team.name, {}, row)
    values = row | {"created": change.now, "deleted": None, "revision": change.revision}
    deleted = update(schema.teams).where(_TEAMS.name == team.name).values(values)
    if not (await change.connection.execute(deleted)).rowcount:
        await change.connection.execute(insert(schema.teams).values(values))


async def _change_team(change: Change, before: Team, after: Team) -> None:
    name, row = before.name, team_row(after)
    if after.name != name:
        raise UserError(f"team {name} cannot be renamed: make {after.name} and move its keys")
    if change.record("team.change", name, team_row(before), row):
        await _set_team(change, name, row)


async def _delete_team(change: Change, name: str) -> int:
    revoked = await change.connection.execute(
        update(schema.keys)
        .where(_KEYS.team == name, _KEYS.revoked.is_(None))
        .values(revoked=change.now, revision=change.revision)
        .returning(_KEYS.id)
    )
    keys = sorted(revoked.scalars())
    change.record(
        "team.delete",
        name,
        {"deleted": None, "keys": keys},
        {"deleted": change.now, "keys": []},
    )
    await _set_team(change, name, {"deleted": change.now})
    return len(keys)


async def _add_key(
    change: Change, team: str, label: str, expires: datetime | None, limits: Limits
) -> tuple[Key, str]:
    key, token = Key.issue(team, label=label, expires=expires, limits=limits)
    row = key_row(key)
    change.record("key.create", key.id, {}, row)
    statement = insert(schema.keys).values(row | {"revision": change.revision})
    await change.connection.execute(statement)
    return key, token


async def _set_team(change: Change, name: str, values: Mapping[str, Any]) -> None:
    statement = update(schema.teams).where(_TEAMS.name == name)
    await change.connection.execute(statement.values(**values, revision=change.revision))


async def _set_key(change: Change, id: str, values: Mapping[str, Any]) -> None:
    statement = update(schema.keys).where(_KEYS.id == id)
    await change.connection.execute(statement.values(**values, revision=change.revision))
