"""What a client is told of its limits: headers on every answer, and the words of a 429.

Two families of headers: OpenAI's `x-ratelimit-*`, which its SDKs know, and the IETF's `RateLimit`
(draft-ietf-httpapi-ratelimit-headers). Both are written before the first byte of an answer, so that
they say what is left after the reservation.
"""

import math
from collections.abc import Iterator

from service.gateway.errors import APIError
from service.quota.calendar import Windows
from service.quota.decision import Breach, refill
from service.quota.reservation import Kind, Level, Reservation, Scope

Header = tuple[bytes, bytes]

DEGRADED: Header = (b"x-gptoss-quota", b"degraded")
_OPENAI = {Kind.REQUESTS: "requests", Kind.TOKENS: "tokens"}
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


def headers(
    scopes: tuple[Scope, ...], levels: tuple[Level, ...], windows: Windows, now: float
) -> list[Header]:
    """Both families, for whatever is limited. `now` is in epoch seconds."""
    states = list(_states(scopes, levels, windows, now))
    found: list[tuple[str, str]] = []
    for kind, word in _OPENAI.items():
        of_kind = [state for state in states if state.kind is kind]
        if of_kind:
            least = min(of_kind, key=lambda state: state.remaining)
            found += [
                (f"x-ratelimit-limit-{word}", str(least.limit)),
                (f"x-ratelimit-remaining-{word}", str(least.remaining)),
                (f"x-ratelimit-reset-{word}", duration(least.reset)),
            ]
    if states:
        found += [
            ("ratelimit-policy", ", ".join(state.policy() for state in states)),
            ("ratelimit", ", ".join(state.item() for state in states)),
        ]
    return [(name.encode(), value.encode()) for name, value in found]


class _State:
    """One limit, as a header says it."""

    def __init__(
        self, scope: Scope, level: Level, kind: Kind, limit: int, windows: Windows, now: float
    ) -> None:
        used = level.used(kind)
        self.kind = kind
        self.limit = limit
        self.remaining = max(limit - used, 0)
        self.reset = _reset(kind, limit, used, windows, now)
        place = scope.name.partition(":")[0]
        self._name = f'"{place}-{_SUFFIX[kind]}"'

    def policy(self) -> str:
        window = {Kind.DAY: 86_400, Kind.MONTH: 2_592_000}.get(self.kind, 60)
        seconds = "" if self.kind is Kind.CONCURRENCY else f";w={window}"
        return f'{self._name};q={self.limit}{seconds};qu="{_UNITS.get(self.kind, "tokens")}"'

    def item(self) -> str:
        seconds = "" if self.kind is Kind.CONCURRENCY else f";t={math.ceil(self.reset)}"
        return f"{self._name};r={self.remaining}{seconds}"


def _states(
    scopes: tuple[Scope, ...], levels: tuple[Level, ...], windows: Windows, now: float
) -> Iterator[_State]:
    for scope, level in zip(scopes, levels, strict=True):
        for kind in Kind:
            limit = scope.limit(kind)
            if limit is not None:
                yield _State(scope, level, kind, limit, windows, now)


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
    if kind in (Kind.DAY, Kind.MONTH):
        return _spent(breach, f"{place} on {_NAMES[kind]}: {numbers}")
    type = "tokens" if kind is Kind.TOKENS else "requests"
    if breach.wait is None:
        return APIError(
            429,
            f"Request too large for {model} in {place} on {_NAMES[kind]}: Limit {breach.limit},"
            f" Requested {breach.requested}. The prompt or max_tokens must be reduced.",
            type=type,
            code="rate_limit_exceeded",
            headers={"x-should-retry": "false"},
        )
    return APIError(
        429,
        f"Rate limit reached for {model} in {place} on {_NAMES[kind]}: {numbers}. Please try again"
        f" in {duration(breach.wait)}.",
        type=type,
        code="rate_limit_exceeded",
        headers=_retry(breach.wait),
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
        headers=_retry(breach.wait) | {"x-should-retry": "false"},
    )


def _retry(wait: float) -> dict[str, str]:
    # Rounded up: a client that comes back at that moment must get in.
    return {
        "retry-after": str(max(math.ceil(wait), 1)),
        "retry-after-ms": str(max(math.ceil(wait * 1000), 1)),
    }


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
