"""Where a request goes: the pool of the model it asks for, or of the one that stands in."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from service.gateway import errors
from service.gateway.caps import may_use
from service.gateway.ratelimit import Header
from service.routing.catalog import Catalog
from service.routing.pool import Pool
from service.tenants.principal import Principal


@dataclass(frozen=True, slots=True)
class Destination:
    """`model` answers, in `pool`; `reason` says why it is not the one that was asked for."""

    model: str
    pool: Pool
    reason: str = ""

    @property
    def headers(self) -> list[Header]:
        """What the client is told of it."""
        if not self.reason:
            return []
        return [(b"x-gptoss-fallback", f"{self.model}; reason={self.reason}".encode())]


def destination(
    catalog: Catalog,
    principal: Principal,
    model: str,
    key: int | None,
    is_full: Callable[[Pool], bool],
) -> Destination:
    """The pool for a conversation of a caller. `is_full` is whether it would be refused there.

    Raises `APIError`: 404, or 403 for what is not the caller's to use.
    """
    place = secrets.randbits(64) if key is None else key
    pool = catalog.pool(model, place)
    if pool is None:
        raise errors.unknown_model(model, visible(catalog, principal))
    if not may_use(principal, model):
        raise errors.model_not_allowed(model, principal.team.name)
    reason = _trouble(pool, is_full)
    fallback = catalog.fallback(model) if reason else ""
    if fallback and may_use(principal, fallback):
        other = catalog.pool(fallback, place)
        if other is not None and not _trouble(other, is_full):
            return Destination(fallback, other, reason)
    return Destination(model, pool)


def visible(catalog: Catalog, principal: Principal) -> list[str]:
    """The models that a caller may use."""
    return [name for name in catalog.models if may_use(principal, name)]


def _trouble(pool: Pool, is_full: Callable[[Pool], bool]) -> str:
    if not pool.works:
        return "down"
    return "full" if is_full(pool) else ""
