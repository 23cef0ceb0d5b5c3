"""What the admin API takes and gives. No digest of a key and no cache salt of a team is in it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import AwareDatetime, Field

from service.ledger.usage import UsageRow
from service.quota.limits import Tier
from service.tenants.audit import AuditEntry
from service.tenants.document import (
    Document,
    LimitsDocument,
    ModelLimitsDocument,
    ModelName,
    TeamDocument,
)
from service.tenants.keys import LABEL_LENGTH, Key
from service.tenants.team import Team, TeamName

_MAX_GRACE = 366 * 86_400


class NamedTeam(TeamDocument):
    """A team."""

    name: TeamName = Field(description="a-z, 0-9 and -; it is for ever")

    @classmethod
    def shown(cls, team: Team) -> Self:
        """A team as it is shown."""
        return cls(name=team.name, **dict(TeamDocument.of(team)))


class TeamPatch(Document):
    """A JSON merge patch (RFC 7396): what is left out stays; null lifts a limit, or restores a
    default.
    """

    tier: Tier | None = Field(None, description="urgency")
    timezone: str | None = Field(None, description="time zone of its days and months")
    limits: LimitsDocument | None = Field(None, description="limits on all models together")
    models: Mapping[ModelName, ModelLimitsDocument | None] | None = Field(
        None, description="limits on one model, by its name; null lifts them all"
    )
    default_output: int | None = Field(
        None, strict=True, description="reserved where a client does not bound an answer, tokens"
    )
    isolate_cache: bool | None = Field(
        None, strict=True, description="share no prefix cache with other teams"
    )
    disabled: bool | None = Field(None, strict=True, description="refuse all of its requests")


class Teams(Document):
    """All teams, by name."""

    teams: list[NamedTeam]


class Deleted(Document):
    """A team that is deleted."""

    name: str = Field(description="the team's name")
    revoked_keys: int = Field(description="keys that were revoked with it")


class KeyState(StrEnum):
    """What a key does."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ShownKey(Document):
    """A key, without its secret."""

    id: str = Field(description="public id: it names the key and opens nothing")
    team: str = Field(description="the team it belongs to")
    label: str = Field(description="what it is for")
    state: KeyState = Field(description="whether it opens anything now")
    created: datetime
    expires: datetime | None = Field(description="refused from then on; null: never")
    revoked: datetime | None = Field(description="refused since then")
    limits: LimitsDocument = Field(description="its own limits, beside those of its team")

    @classmethod
    def of(cls, key: Key) -> Self:
        """A key as it is shown."""
        return cls(**_key(key))


class Keys(Document):
    """Keys, oldest first."""

    keys: list[ShownKey]


class IssuedKey(ShownKey):
    """A new key, with its secret: this is the one time it is shown."""

    token: str = Field(description="what the client sends; kept nowhere")

    @classmethod
    def issued(cls, key: Key, token: str) -> Self:
        """A new key as it is shown once."""
        return cls(**_key(key), token=token)


class NewKey(Document):
    """A key to be made."""

    label: str = Field("", max_length=LABEL_LENGTH, description="what it is for")
    expires: AwareDatetime | None = Field(
        None, description="when it ends, with a time zone; null: never"
    )
    limits: LimitsDocument = Field(
        default_factory=LimitsDocument, description="its own limits, beside those of its team"
    )


class Rotation(Document):
    """How a key is replaced."""

    grace_seconds: int = Field(
        0, ge=0, le=_MAX_GRACE, strict=True, description="how long the old one still works, s"
    )


class Use(Document):
    """Sums of one group."""

    group: dict[str, str | None] = Field(description="the value of each dimension asked for")
    requests: int
    prompt_tokens: int
    cached_tokens: int = Field(description="among the prompt's tokens")
    completion_tokens: int
    reasoning_tokens: int = Field(description="among the completion's tokens")
    total_tokens: int = Field(description="prompt and completion")
    seconds: float = Field(description="time that requests took, added up, s")

    @classmethod
    def of(cls, row: UsageRow) -> Self:
        """A row of the ledger's sums."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class Usage(Document):
    """What was used, ordered by group."""

    usage: list[Use]


class AuditRow(Document):
    """One change."""

    id: int
    at: datetime
    actor: str = Field(description="who: cli:<login>, admin-api or admin-api:<X-Actor>")
    action: str = Field(description="what, such as team.change")
    subject: str = Field(description="the team's name or the key's public id")
    change: dict[str, Any] = Field(description="by field: what was, and what is")

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """A line of the log."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


class Audit(Document):
    """Changes, newest first."""

    entries: list[AuditRow]


def _key(key: Key) -> dict[str, Any]:
    active = KeyState.ACTIVE if key.is_active(datetime.now(UTC)) else KeyState.EXPIRED
    return {
        "id": key.id,
        "team": key.team,
        "label": key.label,
        "state": KeyState.REVOKED if key.revoked else active,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "limits": LimitsDocument.of(key.limits),
    }
