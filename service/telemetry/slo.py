"""Which objectives a request is about, and which of them it met.

*Availability* is about every request that was not refused for cause: not for what it asked, not by
its team's quota, nor by a gateway that ends (another one takes it). It is met by a whole answer.
*TTFT* is about streams: one that failed before its first token did not meet it, nor one whose
client gave up after the bound. *TPOT* is about streams of at least two tokens; one that failed
after its first did not meet it. Batch requests wait for all others, as they were told: how long
they wait, and whether in vain, is no objective's matter. All are counted at the gateway, so they
hold what clients saw.
"""

from dataclasses import dataclass

_ELSEWHERE = "gateway_draining"
_WAITED_IN_VAIN = "model_overloaded"
# Outcomes of answers that had begun, of which the service is not the cause.
_CLIENTS = frozenset(
    {"client_gone", "client_stalled", "invalid_request_error", "context_length_exceeded"}
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What counts as good, s."""

    ttft: float
    tpot: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a request once it has ended. Times in s; None where there was none.

    `streamed` is whether it asked for a stream, `batch` whether its team's tier is that. `status`
    is what the client was told, 499 where it left before.
    """

    status: int
    outcome: str
    streamed: bool
    seconds: float
    ttft: float | None = None
    tpot: float | None = None
    batch: bool = False


def judge(seen: Seen, bounds: Bounds) -> dict[str, bool]:
    """The objectives that the request is about, and whether it met each."""
    verdicts: dict[str, bool] = {}
    if seen.outcome == _ELSEWHERE or (seen.batch and seen.outcome == _WAITED_IN_VAIN):
        return verdicts
    failed = seen.status >= 500 or (
        seen.status == 200 and seen.outcome != "ok" and seen.outcome not in _CLIENTS
    )
    if failed or seen.outcome == "ok":
        verdicts["availability"] = not failed
    if not seen.streamed:
        return verdicts
    if seen.batch:
        pass
    elif seen.ttft is not None:
        verdicts["ttft"] = seen.ttft <= bounds.ttft
    elif failed or (seen.outcome == "client_gone" and seen.seconds > bounds.ttft):
        verdicts["ttft"] = False
    if failed and seen.ttft is not None:
        verdicts["tpot"] = False
    elif seen.tpot is not None:
        verdicts["tpot"] = seen.tpot <= bounds.tpot
    return verdicts
