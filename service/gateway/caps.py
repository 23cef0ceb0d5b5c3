"""What a caller may ask of a model at all: decided in memory, apart from what it has used."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from service.quota.limits import UNLIMITED, Effort, Limits
from service.quota.reservation import Scope
from service.tenants.principal import Principal

_SCALE = tuple(Effort)


@dataclass(frozen=True, slots=True)
class Caps:
    """The narrowest of the caller's, its team's and its team's on this model; None is no cap."""

    max_context: int | None = None
    max_output: int | None = None
    efforts: tuple[Effort, ...] | None = None
    cache_salt: str | None = None
    priority: int = 0

    @classmethod
    def of(cls, principal: Principal, scopes: Iterable[Scope]) -> Self:
        """The caps on a request within `scopes`."""
        team, limits = principal.team, [scope.limits for scope in scopes]
        return cls(
            _least(limits, lambda limit: limit.max_context),
            _least(limits, lambda limit: limit.max_output),
            _common(limits),
            team.cache_salt if team.isolate_cache else None,
            team.tier.priority,
        )

    def default_effort(self, usual: Effort) -> Effort:
        """What to say for a client that says nothing: the usual, or the most below it."""
        assert self.efforts is not None
        at_most = _SCALE.index(usual)
        below = [effort for effort in _SCALE[: at_most + 1] if effort in self.efforts]
        above = [effort for effort in _SCALE[at_most:] if effort in self.efforts]
        return below[-1] if below else above[0]


def scopes_of(principal: Principal, *models: str) -> tuple[Scope, ...]:
    """Where requests of this caller on these models count."""
    team = principal.team
    return (
        Scope(f"key:{principal.id}", principal.limits),
        Scope("team", team.limits),
        *(Scope(f"model:{name}", team.model_limits.get(name, UNLIMITED)) for name in models),
    )


def may_use(principal: Principal, model: str) -> bool:
    """Whether the caller and its team may use a model."""
    allowed = (principal.limits.models, principal.team.limits.models)
    return all(models is None or model in models for models in allowed)


def _least(limits: list[Limits], of: Callable[[Limits], int | None]) -> int | None:
    return min((value for value in map(of, limits) if value is not None), default=None)


def _common(limits: list[Limits]) -> tuple[Effort, ...] | None:
    """The efforts that all allow; where they have none in common, the lowest that one allows."""
    lists = [limit.efforts for limit in limits if limit.efforts]
    if not lists:
        return None
    common = tuple(effort for effort in _SCALE if all(effort in efforts for efforts in lists))
    return common or (min((effort for efforts in lists for effort in efforts), key=_SCALE.index),)
