"""The beginning of a stream, held back until the engine has generated something.

vLLM begins a stream with events that say nothing yet, and an engine that is shutting down ends it
right after them. What is held here costs no time: vLLM writes them together with its first token.
As long as nothing went to the client, another replica can answer instead.
"""

from service.gateway.policy import Request
from service.gateway.usage import Meter


class Opening:
    """What came before the first token."""

    def __init__(self, request: Request, meter: Meter) -> None:
        self._meter = meter
        self._may_be_empty = request.may_be_empty
        self._held: list[bytes] = []
        self.is_over = False

    def feed(self, shown: bytes, complete: bool) -> bytes:
        """What can go on now, until it is over. `complete` is whether the stream has ended."""
        self._held.append(shown)
        if not (self._meter.begun or complete):
            return b""
        self.is_over = True
        return b"".join(self._held)

    @property
    def is_empty(self) -> bool:
        """Whether the engine says that it has ended without a single token."""
        return self._meter.is_empty and not self._may_be_empty
