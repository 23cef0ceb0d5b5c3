"""What is asked of the counters, and what they answer: values."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from service.quota.calendar import Windows
from service.quota.limits import Limits


class Kind(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Scope:
    """One place where use is counted: `team`, `key:<id>` or `model:<name>` (of this team)."""

    name: str
    limits: Limits

    def limit(self, kind: Kind) -> int | None:
        """The limit of that kind, or None."""
        limits = self.limits
        match kind:
            case Kind.REQUESTS:
                return limits.rpm
            case Kind.TOKENS:
                return limits.tpm
            case Kind.CONCURRENCY:
                return limits.concurrency
            case Kind.DAY:
                return limits.daily_tokens
            case Kind.MONTH:
                return limits.monthly_tokens


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request's claim on all limits that apply to it, made before it goes to an engine.

    `prompt` and `output` are estimates in tokens. The windows are those of the moment it was made:
    whenever it is settled, it is settled there.
    """

    id: str
    team: str
    scopes: tuple[Scope, ...]
    windows: Windows
    prompt: int
    output: int

    @property
    def tokens(self) -> int:
        """What is reserved."""
        return self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a reservation: what it really used.

    `requests` is 0 for a request that no engine worked on: it does not count at all.
    """

    reservation: Reservation
    tokens: int
    requests: int = 1


class Level(NamedTuple):
    """How much of one scope is used, at one moment.

    `requests` and `tokens` are what has not refilled yet of a minute's worth; `open` the requests
    being answered; the rest is of the day and the month of the reservation, tokens.
    """

    requests: int = 0
    tokens: int = 0
    open: int = 0
    day_used: int = 0
    day_reserved: int = 0
    month_used: int = 0
    month_reserved: int = 0

    def used(self, kind: Kind) -> int:
        """What counts against the limit of that kind."""
        match kind:
            case Kind.REQUESTS:
                return self.requests
            case Kind.TOKENS:
                return self.tokens
            case Kind.CONCURRENCY:
                return self.open
            case Kind.DAY:
                return self.day_used + self.day_reserved
            case Kind.MONTH:
                return self.month_used + self.month_reserved


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counters' answer to a reservation.

    `levels` go with the reservation's scopes: after it where it was granted, untouched by it where
    it was refused. `expired` are others that were found unattended and charged as estimated.
    `narrowed` is set where it was decided without the store: the same reservation at this gateway's
    share of the limits.
    """

    granted: bool
    levels: tuple[Level, ...]
    expired: tuple[Reservation, ...] = ()
    narrowed: Reservation | None = None
