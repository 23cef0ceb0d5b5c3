"""One line of the ledger: what one request used. Never what was said in it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Settlement(StrEnum):
    """How the use of a request came to be known."""

    EXACT = "exact"
    """The engine reported it at the end."""
    CUT = "cut"
    """The answer was cut: it is what the engine had reported until then."""
    ESTIMATED = "estimated"
    """The engine did work and reported nothing: it is our estimate."""
    REFUNDED = "refunded"
    """The engine did no work: nothing is charged."""
    EXPIRED = "expired"
    """Its gateway died: the reservation was charged when its lease ran out."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one request used, tokens.

    `id` is the request's and the reservation's; a record that is written twice counts once.
    `day` (`2026-08-22`) is the date in the team's time zone under which it was reserved, and whose
    budget it was charged to. `cached_tokens` are among `prompt_tokens`, `reasoning_tokens` among
    `completion_tokens`; they are 0 where the engine does not report them.
    """

    id: str
    at: datetime
    day: str
    team: str
    key: str
    model: str
    route: str
    outcome: str
    settlement: Settlement
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    seconds: float = 0.0
