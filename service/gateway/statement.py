"""`GET /v1/quota`: a caller's limits, what is used of them, and when they reset."""

from datetime import UTC, datetime

from service.quota.calendar import Windows
from service.quota.decision import refill
from service.quota.reservation import Kind, Level, Scope
from service.tenants.principal import Principal

_NAMES = {
    Kind.REQUESTS: "requests_per_minute",
    Kind.TOKENS: "tokens_per_minute",
    Kind.CONCURRENCY: "concurrent_requests",
    Kind.DAY: "tokens_per_day",
    Kind.MONTH: "tokens_per_month",
}


def statement(
    principal: Principal,
    scopes: tuple[Scope, ...],
    levels: tuple[Level, ...],
    windows: Windows,
    now: float,
    *,
    degraded: bool,
) -> dict[str, object]:
    """The answer's JSON. Token counts include prompts and completions.

    `degraded` is whether they are this gateway's own, the store being away.
    """
    places: dict[str, object] = {}
    models: dict[str, object] = {}
    for scope, level in zip(scopes, levels, strict=True):
        kind, _, name = scope.name.partition(":")
        described = _described(scope, level, windows, now)
        if kind == "model":
            models[name] = described
        else:
            places[kind] = described
    return {
        "object": "quota",
        "team_id": principal.team.name,
        "key_id": principal.id,
        "tier": principal.team.tier.value,
        "time_zone": principal.team.timezone,
        "degraded": degraded,
        **places,
        "models": models,
    }


def _described(scope: Scope, level: Level, windows: Windows, now: float) -> dict[str, object]:
    limits = scope.limits
    return {
        **{name: _used(kind, scope, level, windows, now) for kind, name in _NAMES.items()},
        "max_context": limits.max_context,
        "max_output": limits.max_output,
        "allowed_models": limits.models,
        "allowed_efforts": limits.efforts,
    }


def _used(
    kind: Kind, scope: Scope, level: Level, windows: Windows, now: float
) -> dict[str, object]:
    limit = scope.limit(kind)
    used, reserved = level.used(kind), 0
    refills = kind in (Kind.REQUESTS, Kind.TOKENS)
    resets = now + (refill(used, limit) if limit and refills else 0)
    if kind in (Kind.DAY, Kind.MONTH):
        window = windows.day if kind is Kind.DAY else windows.month
        reserved = level.day_reserved if kind is Kind.DAY else level.month_reserved
        used, resets = used - reserved, window.end
    return {
        "limit": limit,
        "used": used
        if limit or not refills
        else None,  # a rate is counted only where it is limited
        "reserved": reserved,
        "remaining": None if limit is None else max(limit - used - reserved, 0),
        "resets_at": datetime.fromtimestamp(resets, UTC).isoformat(timespec="seconds"),
    }
