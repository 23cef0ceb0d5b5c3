"""What a key, a team, or a team on one model may use: values, no state."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated

from pydantic import Field

# The stores count in integers that a double holds exactly: a minute in µs times this is < 2**53.
MAX_PER_MINUTE = 100_000_000
MAX_TOKENS = 10**15

PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MINUTE)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Effort(StrEnum):
    """How long a model may reason, as vLLM 0.32 knows it for gpt-oss."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Tier(StrEnum):
    """How urgent a team's work is."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"

    @property
    def priority(self) -> int:
        """vLLM's `priority`: lower is served earlier. 0 is what a request has that says nothing."""
        return {Tier.INTERACTIVE: -10, Tier.STANDARD: 0, Tier.BATCH: 10}[self]


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of one scope; None is no limit.

    Rates are per minute and refill continuously. Budgets are tokens, prompt and completion
    together, in a calendar day or month of the team's time zone. `max_context` and `max_output` are
    tokens of one request.
    """

    rpm: PerMinute | None = None
    tpm: PerMinute | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    daily_tokens: Tokens | None = None
    monthly_tokens: Tokens | None = None
    max_context: Tokens | None = None
    max_output: Tokens | None = None
    models: tuple[str, ...] | None = None
    efforts: tuple[Effort, ...] | None = None

    def __bool__(self) -> bool:
        """Whether anything is limited at all."""
        return any(getattr(self, field.name) is not None for field in fields(self))


UNLIMITED = Limits()
