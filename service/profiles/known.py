"""The profiles there are."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service.errors import UserError
from service.profiles.amd import AMD_PROFILES
from service.profiles.cpu import CPU_PROFILES
from service.profiles.nvidia import LARGE_CARDS
from service.profiles.nvidia_small import GENERIC_CARDS, SMALL_CARDS
from service.profiles.profile import Profile

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            *(*LARGE_CARDS, *SMALL_CARDS, *AMD_PROFILES),
            *(*GENERIC_CARDS, *CPU_PROFILES),
        )
    }
)
"""By name."""


def find(name: str) -> Profile:
    """The profile of that name."""
    profile = PROFILES.get(name.strip().lower())
    if profile is None:
        raise UserError(f"no profile is called {name!r}: choose one of {', '.join(PROFILES)}")
    return profile
