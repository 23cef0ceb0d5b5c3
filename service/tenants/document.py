"""A team as a document: the words that the admin API, the YAML file and the options share."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from service.quota.limits import Effort, Limits, PerMinute, Tier, Tokens
from service.tenants.team import Team, TeamName, TimeZone

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")]

# Strict: `rpm: true` is a mistake, not a limit of 1.
_PerMinute = Annotated[PerMinute, Strict()]
_Tokens = Annotated[Tokens, Strict()]
_Flag = Annotated[bool, Strict()]


class Document(BaseModel):
    """A group of words; an unknown one is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelLimitsDocument(Document):
    """Limits on one model; what is left out or null is not limited."""

    rpm: _PerMinute | None = Field(None, description="requests per minute")
    tpm: _PerMinute | None = Field(None, description="tokens per minute, prompt and completion")
    concurrency: Annotated[int, Field(ge=1, le=1_000_000), Strict()] | None = Field(
        None, description="requests at the same time"
    )
    daily_tokens: _Tokens | None = Field(
        None, description="tokens per calendar day in the team's time zone"
    )
    monthly_tokens: _Tokens | None = Field(
        None, description="tokens per calendar month in the team's time zone"
    )
    max_context: _Tokens | None = Field(
        None, description="largest prompt and output of one request together, tokens"
    )
    max_output: _Tokens | None = Field(None, description="largest output of one request, tokens")
    efforts: Annotated[tuple[Effort, ...], Field(min_length=1)] | None = Field(
        None, description="allowed reasoning efforts: low, medium, high"
    )

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """The document of limits that are in force."""
        return cls.model_validate({name: getattr(limits, name) for name in cls.model_fields})

    def value(self) -> Limits:
        """The limits that this document states."""
        return Limits(**{name: getattr(self, name) for name in type(self).model_fields})


class LimitsDocument(ModelLimitsDocument):
    """Limits of a team or a key; what is left out or null is not limited."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] | None = Field(
        None, description="allowed models"
    )


class TeamDocument(Document):
    """Everything of a team but its name; what is left out has its default."""

    tier: Tier = Field(Tier.STANDARD, description="urgency: interactive, standard or batch")
    timezone: TimeZone = Field(
        "UTC", description="time zone of its days and months, such as Europe/Berlin"
    )
    limits: LimitsDocument = Field(
        default_factory=LimitsDocument, description="limits on all models together"
    )
    models: Mapping[ModelName, ModelLimitsDocument] = Field(
        default_factory=dict, description="limits on one model, by its name"
    )
    default_output: Annotated[int, Field(ge=1, le=131_072), Strict()] = Field(
        1024, description="reserved for an answer whose length the client does not bound, tokens"
    )
    isolate_cache: _Flag = Field(True, description="share no prefix cache with other teams")
    disabled: _Flag = Field(False, description="refuse all of its requests")

    @classmethod
    def of(cls, team: Team) -> Self:
        """The document of a team."""
        return cls(
            tier=team.tier,
            timezone=team.timezone,
            limits=LimitsDocument.of(team.limits),
            models={name: ModelLimitsDocument.of(each) for name, each in team.model_limits.items()},
            default_output=team.default_output,
            isolate_cache=team.isolate_cache,
            disabled=team.disabled,
        )

    def team(self, name: TeamName) -> Team:
        """The team that this document states."""
        limits = {model: each.value() for model, each in self.models.items()}
        return Team(
            name=name,
            tier=self.tier,
            timezone=self.timezone,
            limits=self.limits.value(),
            model_limits={model: each for model, each in limits.items() if each},
            default_output=self.default_output,
            isolate_cache=self.isolate_cache,
            disabled=self.disabled,
        )

    def patched(self, patch: Mapping[str, Any]) -> "TeamDocument":
        """This document after a JSON merge patch (RFC 7396). Raises pydantic's error."""
        document = self.model_dump(mode="json", exclude_none=True)
        return TeamDocument.model_validate(_merge(document, patch))


def fault(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """The first fault: where, and in words that repeat no value."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "extra_forbidden":
        return first["loc"], "there is no such name"
    return first["loc"], first["msg"].removeprefix("Value error, ")


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
