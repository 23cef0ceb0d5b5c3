"""What the engines say they have computed, beside what was charged for it.

Where the two differ, tokens were computed that nobody was charged for: those between a client's
leaving and the engine's noticing. The difference is for Prometheus to take, since several gateways
share the engines: `max by (model, kind) (gptoss_gateway_engine_tokens_total) - sum by (model, kind)
(gptoss_gateway_tokens_total)`, for the kinds `prompt` and `completion`.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable

from aiohttp import ClientError, ClientSession, ClientTimeout

from service.telemetry.metrics import Metrics

EVERY_SECONDS = 10.0
_SCRAPE = ClientTimeout(total=5)
# The whole page is large, and of it these two lines are wanted.
_TOTAL = re.compile(rb"^vllm:(prompt|generation)_tokens_total\{[^}\n]*\} (\S+)$", re.MULTILINE)
_KINDS = {b"prompt": "prompt", b"generation": "completion"}


class Conservation:
    """Follows the engines' own counters of tokens: of each engine its model and its URL."""

    def __init__(
        self, engines: Iterable[tuple[str, str]], session: ClientSession, metrics: Metrics
    ) -> None:
        self._engines = list(engines)
        self._session = session
        self._metrics = metrics
        self._seen: dict[tuple[str, str], int] = {}

    async def watch(self) -> None:
        """Read all engines every now and then, until cancelled."""
        while True:
            await asyncio.gather(*(self._read(model, url) for model, url in self._engines))
            await asyncio.sleep(EVERY_SECONDS)

    async def _read(self, model: str, url: str) -> None:
        totals: Counter[str] = Counter()  # an engine with several ranks has a line for each
        try:
            async with self._session.get(f"{url}/metrics", timeout=_SCRAPE) as response:
                page = await response.read()
            for kind, value in _TOTAL.findall(page):
                totals[_KINDS[kind]] += int(float(value))
        except (ClientError, TimeoutError, ValueError, OverflowError):
            return  # whether an engine is well is not for here to say
        for kind, total in totals.items():
            self._advance(model, url, kind, total)

    def _advance(self, model: str, url: str, kind: str, total: int) -> None:
        """Count what was added since the last time. An engine that restarted begins at 0."""
        before = self._seen.get((url, kind))
        self._seen[url, kind] = total
        if before is not None:
            added = total - before if total >= before else total
            self._metrics.engine_tokens.labels(model, kind).inc(added)
