"""What a client is told of its limits: headers on every answer, and the words of a 429.

Two families of headers: OpenAI's `x-ratelimit-*`, which its SDKs know, and the IETF's `RateLimit`
(draft-ietf-httpapi-ratelimit-headers). Both are written before the first byte of an answer, so that
they say what is left after the reservation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from service.gateway.errors import APIError, retry_after
from service.quota.calendar import Windows
from service.quota.decision import Breach, refill
from service.quota.reservation import Kind, Level, Reservation, Scope

Header = tuple[bytes, bytes]

DEGRADED: Header = (b"x-gptoss-quota", b"degraded")
_OPENAI = {Kind.REQUESTS: b"requests", Kind.TOKENS: b"tokens"}
# The draft registers units for requests and concurrency; tokens are ours.
_UNITS = {Kind.REQUESTS: "requests", Kind.CONCURRENCY: "concurrent-requests"}
_SUFFIX = {
    Kind.REQUESTS: "rpm",
    Kind.TOKENS: "tpm",
    Kind.CONCURRENCY: "concurrency",
    Kind.DAY: "day",
    Kind.MONTH: "month",
}
_NAMES = {
    Kind.REQUESTS: "requests per min (RPM)",
    Kind.TOKENS: "tokens per min (TPM)",
    Kind.CONCURRENCY: "concurrent requests",
    Kind.DAY: "tokens per day",
    Kind.MONTH: "tokens per month",
}


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit as headers name it. `place` is which of the scopes it belongs to."""

    place: int
    kind: Kind
    limit: int
    name: str

    def policy(self) -> str:
        window = {Kind.DAY: 86_400, Kind.MONTH: 2_592_000}.get(self.kind, 60)
        seconds = "" if self.kind is Kind.CONCURRENCY else f";w={window}"
        return f'{self.name};q={self.limit}{seconds};qu="{_UNITS.get(self.kind, "tokens")}"'


def headers(
    scopes: tuple[Scope, ...], levels: tuple[Level, ...], windows: Windows, now: float
) -> list[Header]:
    """Both families, for whatever is limited. `now` is in epoch seconds."""
    limits, policy = _limits(scopes)
    if not limits:
        return []
    items: list[str] = []
    least: dict[Kind, tuple[int, int, float]] = {}
    for limit in limits:
        used = levels[limit.place].used(limit.kind)
        remaining = max(limit.limit - used, 0)
        reset = _reset(limit.kind, limit.limit, used, windows, now)
        seconds = "" if limit.kind is Kind.CONCURRENCY else f";t={math.ceil(reset)}"
        items.append(f"{limit.name};r={remaining}{seconds}")
        if limit.kind in _OPENAI:
            state = (remaining, limit.limit, reset)
            known = least.get(limit.kind)
            if known is None or state < known:
                least[limit.kind] = state
    found = [(b"ratelimit-policy", policy), (b"ratelimit", ", ".join(items).encode())]
    for kind, word in _OPENAI.items():
        if kind in least:
            remaining, most, reset = least[kind]
            found += [
                (b"x-ratelimit-limit-" + word, str(most).encode()),
                (b"x-ratelimit-remaining-" + word, str(remaining).encode()),
                (b"x-ratelimit-reset-" + word, duration(reset).encode()),
            ]
    return found


@lru_cache(4096)
def _limits(scopes: tuple[Scope, ...]) -> tuple[tuple[_Limit, ...], bytes]:
    """What is limited, and the header that says so: the same for all requests of a caller."""
    found = tuple(
        _Limit(place, kind, limit, f'"{scope.name.partition(":")[0]}-{_SUFFIX[kind]}"')
        for place, scope in enumerate(scopes)
        for kind in Kind
        if (limit := scope.limit(kind)) is not None
    )
    return found, ", ".join(limit.policy() for limit in found).encode()


def _reset(kind: Kind, limit: int, used: int, windows: Windows, now: float) -> float:
    """Seconds until nothing of it is used any more."""
    match kind:
        case Kind.DAY:
            return max(windows.day.end - now, 0)
        case Kind.MONTH:
            return max(windows.month.end - now, 0)
        case Kind.CONCURRENCY:
            return 0.0
        case _:
            return refill(used, limit)


def duration(seconds: float) -> str:
    """As Go writes it, which is what OpenAI sends: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def refusal(reservation: Reservation, breach: Breach, model: str) -> APIError:
    """The 429 that names the limit in the way, and when to come back."""
    kind = breach.kind
    place = _place(breach.scope, reservation.team)
    numbers = f"Limit {breach.limit}, Used {breach.used}, Requested {breach.requested}"
    type = "requests" if kind in (Kind.REQUESTS, Kind.CONCURRENCY) else "tokens"
    if breach.wait is None:
        return APIError(
            429,
            f"Request too large for {model} in {place} on {_NAMES[kind]}: Limit {breach.limit},"
            f" Requested {breach.requested}. The prompt or max_tokens must be reduced.",
            type=type,
            code="rate_limit_exceeded",
            headers={"x-should-retry": "false"},
        )
    if kind in (Kind.DAY, Kind.MONTH):
        return _spent(breach, f"{place} on {_NAMES[kind]}: {numbers}")
    return APIError(
        429,
        f"Rate limit reached for {model} in {place} on {_NAMES[kind]}: {numbers}. Please try again"
        f" in {duration(breach.wait)}.",
        type=type,
        code="rate_limit_exceeded",
        headers=retry_after(breach.wait),
    )


def _spent(breach: Breach, what: str) -> APIError:
    """A budget: coming back soon is no use, and a client that retries would only add load."""
    assert breach.wait is not None
    return APIError(
        429,
        f"You exceeded your current quota in {what}. It is reset in {duration(breach.wait)}; ask"
        " your platform team for more.",
        type="insufficient_quota",
        code="insufficient_quota",
        headers=retry_after(breach.wait) | {"x-should-retry": "false"},
    )


def unavailable() -> APIError:
    """The counters cannot be asked, and the policy for that is to refuse."""
    return APIError(
        503,
        "Limits cannot be checked now: try again shortly.",
        type="server_error",
        code="quota_unavailable",
        headers={"retry-after": "5"},
    )


def _place(scope: Scope, team: str) -> str:
    kind, _, name = scope.name.partition(":")
    match kind:
        case "key":
            return f"key {name} of team {team}"
        case "model":
            return f"team {team} on this model"
        case _:
            return f"team {team}"
