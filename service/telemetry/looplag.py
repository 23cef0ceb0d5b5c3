"""How late the event loop is. It is one thread: what is late here is late for every stream."""

import asyncio
import time

from prometheus_client import Histogram

_SECONDS = 0.25


async def watch_lag(lag: Histogram) -> None:
    """Observe it until cancelled."""
    while True:
        due = time.perf_counter() + _SECONDS
        await asyncio.sleep(_SECONDS)
        lag.observe(max(time.perf_counter() - due, 0.0))
