"""How an engine failed on a request, before or within its answer."""

from dataclasses import dataclass
from enum import StrEnum

from service.gateway.errors import APIError


class Fault(StrEnum):
    """What went wrong."""

    UNREACHABLE = "unreachable"
    """No connection: it never saw the request."""
    FULL = "full"
    """It takes no more requests now."""
    ENDING = "ending"
    """It is shutting down: vLLM answers new requests with nothing, as if that were an answer."""
    FAILED = "failed"
    """It answered with an error of its own, or with something else than an answer."""
    SILENT = "silent"
    """It said nothing for too long."""
    CUT = "cut"
    """It closed the connection before the end."""


@dataclass(slots=True)
class EngineFailed(Exception):
    """`error` is what a client is told if nobody else can answer, `reason` what operators are told
    of the replica: what went wrong with its connection, where that is known."""

    fault: Fault
    error: APIError
    reason: str = ""
