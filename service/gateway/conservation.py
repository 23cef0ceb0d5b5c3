"""What the engines say they have computed, beside what was charged for it.

Where the two differ, tokens were computed that nobody was charged for: those between a client's
leaving and the engine's noticing. The difference is for Prometheus to take, since several gateways
share the engines: `max by (model, kind) (gptoss_gateway_engine_tokens_total) - sum by (model, kind)
(gptoss_gateway_tokens_total)`, for the kinds `prompt` and `completion`.
"""

import asyncio
import re
from collections import Counter

from aiohttp import ClientError, ClientSession, ClientTimeout

from service.gateway.upstreams import Upstream, Upstreams
from service.telemetry.metrics import Metrics

EVERY_SECONDS = 10.0
_SCRAPE = ClientTimeout(total=5)
# The whole page is large, and of it these two lines are wanted.
_TOTAL = re.compile(rb"^vllm:(prompt|generation)_tokens_total\{[^}\n]*\} (\S+)$", re.MULTILINE)
_KINDS = {b"prompt": "prompt", b"generation": "completion"}


class Conservation:
    """Follows the engines' own counters of tokens."""

    def __init__(self, upstreams: Upstreams, session: ClientSession, metrics: Metrics) -> None:
        self._upstreams = upstreams
        self._session = session
        self._metrics = metrics
        self._seen: dict[tuple[str, str], int] = {}

    async def watch(self) -> None:
        """Read all engines every now and then, until cancelled."""
        while True:
            pools = self._upstreams.pools.values()
            await asyncio.gather(*(self._read(upstream) for pool in pools for upstream in pool))
            await asyncio.sleep(EVERY_SECONDS)

    async def _read(self, upstream: Upstream) -> None:
        try:
            url = f"{upstream.url}/metrics"
            async with self._session.get(url, timeout=_SCRAPE) as response:
                page = await response.read()
        except (ClientError, TimeoutError):
            return
        totals: Counter[str] = Counter()  # an engine with several ranks has a line for each
        for kind, value in _TOTAL.findall(page):
            totals[_KINDS[kind]] += int(float(value))
        for kind, total in totals.items():
            self._advance(upstream, kind, total)

    def _advance(self, upstream: Upstream, kind: str, total: int) -> None:
        """Count what was added since the last time. An engine that restarted begins at 0."""
        before = self._seen.get((upstream.url, kind))
        self._seen[upstream.url, kind] = total
        if before is not None:
            added = total - before if total >= before else total
            self._metrics.engine_tokens.labels(upstream.model, kind).inc(added)
