"""What is known of a request at its end: of this its log line and its span are made.

Never what was said in it. Imports nothing of the service but the trace.
"""

from dataclasses import dataclass

from service.telemetry.trace import Trace


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one replica. Times are in nanoseconds since the epoch; `fault` is empty where it
    answered, or was given up for no fault of its own."""

    replica: str
    started_ns: int
    ended_ns: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """One request.

    `started_ns` and `ended_ns` are since the epoch. `asked_model` is what was asked for and `model`
    what answered, which differ for a fallback; both are models that there are, or empty: a client's
    own word is in neither. `team` and `key` (its id) are empty without one. `settlement` is empty
    for a request that was not admitted; then there are no tokens. `attempts` are in their order.
    """

    request_id: str
    trace: Trace
    route: str
    status: int
    outcome: str
    started_ns: int
    ended_ns: int
    model: str = ""
    asked_model: str = ""
    team: str = ""
    key: str = ""
    replica: str = ""
    streamed: bool = False
    first_token_seconds: float | None = None
    queue_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    settlement: str = ""
    attempts: tuple[Attempt, ...] = ()
