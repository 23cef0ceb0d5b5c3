"""How a request can end: a closed set, so that every request is in exactly one of them.

A refusal by a team's own limit (`quota_429`) is the service working as it should. One for want of
room (`capacity_429`, `capacity_503`) is not, and neither is a stream that breaks off.
"""

from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """What became of a request. Its last attempt decides, where it was retried."""

    OK = "ok"
    """A whole answer: a finish reason, and of a stream `[DONE]` too."""
    LENGTH = "length"
    """A whole answer that ended at the limit of tokens asked for."""
    QUOTA_429 = "quota_429"
    """Refused for a limit of its own team or key."""
    CAPACITY_429 = "capacity_429"
    """Refused for want of room, with 429."""
    CAPACITY_503 = "capacity_503"
    """Refused for want of room or of an engine, with 503."""
    AUTH = "auth_401_403"
    """The key is wrong, or may not do this."""
    BAD_4XX = "bad_4xx"
    """Any other refusal of what was asked."""
    SERVER_5XX = "server_5xx"
    """An error of the server."""
    CONNECT = "connect"
    """No connection, or one that broke before the status came."""
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"  # noqa: S105
    TIMEOUT_IDLE = "timeout_idle"
    """Nothing came for too long after the first token."""
    TIMEOUT_TOTAL = "timeout_total"
    ERROR_EVENT = "stream_error_event"
    """The status was 200, and an event within the stream said that it failed."""
    TRUNCATED = "stream_truncated"
    """The stream ended without a finish reason or without `[DONE]`, or was cut."""
    MALFORMED = "malformed"
    """What came is no answer of an OpenAI-compatible server: HTML, or broken JSON."""
    CANCELLED = "client_cancelled"
    """The client left: the run was over, or the scenario said so."""


GOOD: Final = frozenset({Outcome.OK, Outcome.LENGTH})
"""Whole answers."""

NOT_ASKED: Final = frozenset({Outcome.CANCELLED})
"""These say nothing about the server, and count for nothing."""

REFUSED: Final = frozenset({Outcome.QUOTA_429, Outcome.CAPACITY_429, Outcome.CAPACITY_503})
"""The server had no room, or the team none left. A client may come again."""

CAPACITY_CODES: Final = frozenset(
    {"queue_full", "model_overloaded", "overloaded", "engine_overloaded"}
)
"""Of an error with 429, which mean that the server is full. vLLM and gateways use these words."""


def of_status(status: int, code: str, type_: str = "") -> Outcome:
    """The outcome of an answer that is an error: by its status, and of 429 by its code or type.

    A 429 with a word that is not known, or without one, is taken for a refusal by the caller's own
    limit, which is what HTTP means by it: a server that is full and says so in words of its own is
    thereby taken to be right where its team is said to go beyond its limits, and only there.
    """
    if status == 429:
        return Outcome.CAPACITY_429 if {code, type_} & CAPACITY_CODES else Outcome.QUOTA_429
    if status == 503:
        return Outcome.CAPACITY_503
    if status in (401, 403):
        return Outcome.AUTH
    return Outcome.SERVER_5XX if status >= 500 else Outcome.BAD_4XX
