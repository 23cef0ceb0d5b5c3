"""Teams and keys as rows of the database."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import Select, Text, cast, select

from service.database import schema
from service.errors import UserError
from service.quota.limits import UNLIMITED, Limits, Tier
from service.tenants.changes import Credential
from service.tenants.keys import Key
from service.tenants.team import Team

_NOTHING = "{}"

# The limits as text: a hundred thousand keys have few different ones, each decoded once.
TEAMS: Select[Any] = select(
    schema.teams.c.name,
    schema.teams.c.tier,
    schema.teams.c.timezone,
    cast(schema.teams.c.limits, Text),
    cast(schema.teams.c.model_limits, Text),
    schema.teams.c.default_output,
    schema.teams.c.isolate_cache,
    schema.teams.c.disabled,
    schema.teams.c.cache_salt,
    schema.teams.c.deleted,
)
KEYS: Select[Any] = select(
    schema.keys.c.id,
    schema.keys.c.team,
    schema.keys.c.digest,
    schema.keys.c.created,
    schema.keys.c.label,
    schema.keys.c.expires,
    schema.keys.c.revoked,
    cast(schema.keys.c.limits, Text),
)

CREDENTIALS: Select[Any] = select(
    schema.keys.c.id,
    schema.keys.c.team,
    schema.keys.c.digest,
    schema.keys.c.expires,
    schema.keys.c.revoked.is_not(None),
    cast(schema.keys.c.limits, Text),
)


class Reader:
    """Makes values of rows. Those that are alike share their parts, to be light in memory."""

    def __init__(self) -> None:
        self._limits: dict[str, Limits] = {_NOTHING: UNLIMITED}

    def team(self, row: Any) -> Team:
        """A row of `TEAMS`."""
        name, tier, timezone, limits, model_limits, output, isolate, disabled, salt, _ = row
        by_model = {
            model: self.limits(name, bytes(text).decode())
            for model, text in msgspec.json.decode(
                model_limits, type=dict[str, msgspec.Raw]
            ).items()
        }
        return Team(
            name=sys.intern(name),
            tier=Tier(tier),
            timezone=sys.intern(timezone),
            limits=self.limits(name, limits),
            model_limits=MappingProxyType(by_model),
            default_output=output,
            isolate_cache=isolate,
            disabled=disabled,
            cache_salt=salt,
        )

    def key(self, row: Any) -> Key:
        """A row of `KEYS`."""
        id, team, digest, created, label, expires, revoked, limits = row
        return Key(
            id=id,
            team=team,
            digest=digest,
            created=created,
            label=label,
            expires=expires,
            revoked=revoked,
            limits=self.limits(id, limits),
        )

    def credential(self, row: Any) -> Credential:
        """A row of `CREDENTIALS`."""
        id, team, digest, expires, revoked, limits = row
        shared = self.limits(id, limits)
        return Credential(id, sys.intern(team), digest, expires, bool(revoked), shared)

    def limits(self, owner: str, text: str) -> Limits:
        """Limits of their JSON; UserError for what no version of ours wrote."""
        found = self._limits.get(text)
        if found is None:
            try:
                found = msgspec.json.decode(text, type=Limits)
            except msgspec.MsgspecError as error:
                raise UserError(f"the limits of {owner} in the database: {error}") from None
            self._limits[text] = found
        return found


def set_limits(limits: Limits) -> dict[str, Any]:
    """The limits that are set, by name, as JSON has them."""
    every = {field.name: getattr(limits, field.name) for field in fields(limits)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in every.items()
        if value is not None
    }


def team_row(team: Team) -> dict[str, Any]:
    """What is kept of a team, but for its moments and its revision."""
    return {
        "name": team.name,
        "tier": team.tier.value,
        "timezone": team.timezone,
        "limits": set_limits(team.limits),
        "model_limits": {model: set_limits(own) for model, own in team.model_limits.items()},
        "default_output": team.default_output,
        "isolate_cache": team.isolate_cache,
        "disabled": team.disabled,
        "cache_salt": team.cache_salt,
    }


def key_row(key: Key) -> dict[str, Any]:
    """What is kept of a key, but for its revision."""
    return {
        "id": key.id,
        "team": key.team,
        "digest": key.digest,
        "label": key.label,
        "limits": set_limits(key.limits),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
    }


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row as an audit entry shows it: `limits.rpm`, not a tree."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
