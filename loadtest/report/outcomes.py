"""How each outcome looks and what it means: the same in each report, whatever happened in it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from loadtest.outcome import Outcome


class Look(NamedTuple):
    """Kinds of outcomes share a colour, and differ by a pattern: it can be told apart in print and
    by those who see few colours."""

    colour: str
    """A variable of the style sheet."""
    pattern: str
    """`/`, `x`, `.` or none."""
    meaning: str


LOOKS: Final[dict[Outcome, Look]] = {
    Outcome.OK: Look("good", "", "A whole answer."),
    Outcome.LENGTH: Look("good", "/", "A whole answer that ended at the limit of tokens."),
    Outcome.QUOTA_429: Look(
        "quota", "", "Refused for the team's own limit: the service works as it should."
    ),
    Outcome.CAPACITY_429: Look("capacity", "", "Refused for want of room, with 429."),
    Outcome.CAPACITY_503: Look("capacity", "/", "Refused for want of room, with 503."),
    Outcome.AUTH: Look("asked", "", "The key is wrong, or may not do this."),
    Outcome.BAD_4XX: Look("asked", "/", "Another refusal of what was asked."),
    Outcome.SERVER_5XX: Look("broken", "", "An error of the server."),
    Outcome.CONNECT: Look("broken", "/", "No connection, or one that broke before the status."),
    Outcome.ERROR_EVENT: Look("broken", "x", "An event within the stream said that it failed."),
    Outcome.TRUNCATED: Look("broken", ".", "The stream ended without its end."),
    Outcome.MALFORMED: Look("strange", "", "What came is no answer of such a server."),
    Outcome.TIMEOUT_FIRST_TOKEN: Look("late", "", "No first token in time."),
    Outcome.TIMEOUT_IDLE: Look("late", "/", "Nothing came for too long after the first token."),
    Outcome.TIMEOUT_TOTAL: Look("late", "x", "It took too long in all."),
    Outcome.CANCELLED: Look(
        "cancelled",
        "",
        "The client left. It counts only where an objective had been missed by then.",
    ),
}
"""In the order in which they are stacked."""


def swatch(outcome: Outcome) -> str:
    """Its look, as HTML."""
    look = LOOKS[outcome]
    pattern = {"/": "striped", "x": "crossed", ".": "dotted"}.get(look.pattern, "")
    return f'<span class="swatch {pattern}" style="--of: var(--{look.colour})"></span>'


def counted(outcomes: Mapping[str, int]) -> list[Outcome]:
    """Those that happened, in order."""
    return [outcome for outcome in LOOKS if outcomes.get(outcome.value)]
