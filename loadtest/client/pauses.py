"""Waiting for a time, which ends early for all who wait when the run is over."""

import asyncio

from loadtest.client.alarm import Alarm


class Pauses:
    """All waits of a worker: between turns, before retries, for a client's first request."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._waiting: set[asyncio.Future[bool]] = set()
        self._over = False

    async def until(self, at: float) -> bool:
        """Wait until `at`, of the monotonic clock; whether the run goes on then."""
        if self._over:
            return False
        wake: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        ring = self._alarm.at(at, lambda: _set(wake, True))
        self._waiting.add(wake)
        try:
            return await wake
        finally:
            ring.cancel()
            self._waiting.discard(wake)

    def end(self) -> None:
        """The run is over: nobody waits any more."""
        self._over = True
        for wake in self._waiting:
            _set(wake, False)


def _set(wake: asyncio.Future[bool], goes_on: bool) -> None:
    if not wake.done():
        wake.set_result(goes_on)
