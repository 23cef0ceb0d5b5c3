"""A team: who it is, what it may use, and how its work is treated."""

import re
import secrets
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from service.quota.limits import UNLIMITED, Limits, Tier

_TEAM_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NO_LIMITS: Mapping[str, Limits] = MappingProxyType({})


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name!r}: such as Europe/Berlin, UTC") from None
    return name


def _team_name(name: str) -> str:
    if name == "none":
        raise ValueError("no team can be called none: that is who has no key, in the metrics")
    if not _TEAM_NAME.fullmatch(name):
        raise ValueError("give a team a name of a-z, 0-9 and -, at most 63: such as search-eu")
    return name


TeamName = Annotated[str, AfterValidator(_team_name)]
TimeZone = Annotated[str, AfterValidator(_known_zone)]


@dataclass(frozen=True, slots=True)
class Team:
    """A tenant.

    `model_limits` are limits of this team on one model, beside `limits` on all of them.
    `default_output` is reserved for an answer whose length the client does not bound, tokens.
    `cache_salt` keeps other teams from learning by timing what this one asked; it is sent to the
    engine while `isolate_cache` is on.
    """

    name: TeamName
    tier: Tier = Tier.STANDARD
    timezone: TimeZone = "UTC"
    limits: Limits = UNLIMITED
    model_limits: Mapping[str, Limits] = field(default_factory=lambda: _NO_LIMITS)
    default_output: Annotated[int, Field(ge=1, le=131_072)] = 1024
    isolate_cache: bool = True
    disabled: bool = False
    cache_salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
