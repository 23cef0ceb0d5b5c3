"""What the engines say they have computed, beside what was charged for it.

Where the two differ, tokens were computed that nobody was charged for: those between a client's
leaving and the engine's noticing. The difference is for Prometheus to take, since several gateways
share the engines: `max by (model, kind) (gptoss_gateway_engine_tokens_total) - sum by (model, kind)
(gptoss_gateway_tokens_total)`, for the kinds `prompt` and `completion`.
"""

from weakref import WeakKeyDictionary

from service.routing.engine_page import EnginePage
from service.routing.replica import Replica
from service.telemetry.metrics import Metrics


class Conservation:
    """Follows the engines' own counters of tokens."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # With the replica goes what was seen of it.
        self._seen: WeakKeyDictionary[Replica, EnginePage] = WeakKeyDictionary()

    def read(self, replica: Replica, page: EnginePage) -> None:
        """Take in what an engine says of itself. One that restarted begins at 0."""
        before = self._seen.get(replica)
        self._seen[replica] = page
        if before is not None:
            self._count(replica, "prompt", before.prompt_tokens, page.prompt_tokens)
            self._count(replica, "completion", before.generation_tokens, page.generation_tokens)

    def _count(self, replica: Replica, kind: str, before: int, now: int) -> None:
        added = now - before if now >= before else now
        self._metrics.engine_tokens.labels(replica.model, kind).inc(added)
