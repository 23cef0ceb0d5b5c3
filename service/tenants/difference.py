"""What differs between the teams that are and the teams that should be."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from service.quota.amounts import count_text
from service.quota.limits import UNLIMITED, Limits
from service.tenants.document import LimitsDocument
from service.tenants.team import Team

NONE = "none"
_AMOUNTS = {"default_output", *LimitsDocument.model_fields} - {"models", "efforts"}
_PLAIN = ("tier", "timezone", "default_output", "isolate_cache", "disabled")


class Kind(StrEnum):
    """What happens to a team."""

    NEW = "+"
    CHANGED = "~"
    GONE = "-"


@dataclass(frozen=True, slots=True)
class TeamChange:
    """One team before and after; None where there is none."""

    before: Team | None
    after: Team | None

    @property
    def kind(self) -> Kind:
        """Whether it is made, changed or deleted."""
        if self.before is None:
            return Kind.NEW
        return Kind.CHANGED if self.after else Kind.GONE

    @property
    def name(self) -> str:
        """The team's."""
        team = self.after or self.before
        assert team is not None
        return team.name

    def __str__(self) -> str:
        """`~ search: rpm 600 -> 900, tier standard -> batch`."""
        if self.after is None:
            return f"{self.kind} {self.name}"
        old = words(self.before or Team(self.name))
        new = words(self.after)
        parts = []
        for name in [*new, *(name for name in old if name not in new)]:
            before, after = old.get(name, NONE), new.get(name, NONE)
            if before != after:
                parts.append(f"{name} {before} -> {after}" if self.before else f"{name} {after}")
        return f"{self.kind} {self.name}{': ' if parts else ''}{', '.join(parts)}"


def difference(wanted: Sequence[Team], present: Iterable[Team], *, prune: bool) -> list[TeamChange]:
    """The changes that lead from the present teams to the wanted ones.

    Teams that are present and not wanted are left alone, or deleted with `prune`.
    """
    old = {team.name: team for team in present}
    changes = [TeamChange(old.get(team.name), _salted(team, old)) for team in wanted]
    changes = [change for change in changes if change.before != change.after]
    if prune:
        names = {team.name for team in wanted}
        changes += [TeamChange(old[name], None) for name in sorted(old.keys() - names)]
    return changes


def words(team: Team) -> dict[str, str]:
    """Everything that is set for a team, as text; a limit that is not there is not limited."""
    return {
        **{name: word(name, getattr(team, name)) for name in _PLAIN},
        **limit_words(team.limits),
        **{
            f"{model} {name}": text
            for model, limits in sorted(team.model_limits.items())
            for name, text in limit_words(limits).items()
        },
    }


def limit_words(limits: Limits) -> Mapping[str, str]:
    """The limits there are, as text."""
    return dict(_limit_words(limits))


def _limit_words(limits: Limits) -> Iterator[tuple[str, str]]:
    if limits == UNLIMITED:
        return
    for name in LimitsDocument.model_fields:
        value = getattr(limits, name)
        if value is not None:
            yield name, word(name, value)


def word(name: str, value: Any) -> str:
    """A value as the file and the options write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    return count_text(value) if name in _AMOUNTS else str(value)


def _salted(team: Team, present: Mapping[str, Team]) -> Team:
    """A team keeps the salt it has: no file states it."""
    before = present.get(team.name)
    return replace(team, cache_salt=before.cache_salt) if before else team
