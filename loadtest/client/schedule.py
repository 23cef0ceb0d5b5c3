"""Sends what is due when it is due: by the plan's own times, whatever became of what went before.

A timer is set for the next arrival's time, not for a while after the last one: nothing adds up.
What was not sent in time, since the loop was busy, is sent at once, and its record says how late.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

from loadtest.client.alarm import Alarm, Ring
from loadtest.client.conversation import Prepared
from loadtest.plan.arrival import Arrival

_AHEAD = 3.0
# Of prepared bodies: long prompts are half a megabyte each.
_MOST_BYTES = 256 * 1024 * 1024


class Schedule:
    """The open-loop arrivals of one worker, by time. `prepare` makes what is sent, which may take
    milliseconds: it is made a few seconds ahead. `start` sends it."""

    def __init__(
        self,
        arrivals: Sequence[tuple[str, Arrival]],
        prepare: Callable[[str, Arrival], Prepared],
        start: Callable[[Prepared], None],
        alarm: Alarm,
    ) -> None:
        self._arrivals = arrivals
        self._prepare = prepare
        self._start = start
        self._alarm = alarm
        self._ready: deque[Prepared] = deque()
        self._bytes = 0
        self._made = 0
        self._fired = 0
        self._began = 0.0
        self._ring: Ring | None = None
        self._over = asyncio.Event()

    def due(self, now: float) -> int:
        """How many have become due until now, of the monotonic clock: those that were sent, and
        those that should have been."""
        count = self._fired
        while count < len(self._arrivals) and self._at(count) <= now:
            count += 1
        return count

    async def first(self) -> None:
        """Prepare what is due in the first seconds, before the clock runs."""
        while self._can_prepare(_AHEAD):
            self._prepare_one()
            await asyncio.sleep(0)

    async def play(self, began: float) -> None:
        """Send everything, from `began` on, of the monotonic clock. Returns after the last, or when
        it is stopped."""
        self._began = began
        self._fire()
        while not self._over.is_set():
            if self._can_prepare(time.monotonic() - began + _AHEAD):
                self._prepare_one()
                await asyncio.sleep(0)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _AHEAD / 10)

    def stop(self) -> None:
        """Send nothing more."""
        if self._ring is not None:
            self._ring.cancel()
        self._over.set()

    def _fire(self) -> None:
        while self._fired < len(self._arrivals) and self._at(self._fired) <= time.monotonic():
            if not self._ready:
                self._prepare_one()
            prepared = self._ready.popleft()
            self._bytes -= _size(prepared)
            self._fired += 1
            self._start(prepared)
        if self._fired == len(self._arrivals):
            self._over.set()
        else:
            self._ring = self._alarm.at(self._at(self._fired), self._fire)

    def _at(self, number: int) -> float:
        return self._began + self._arrivals[number][1].at

    def _can_prepare(self, until: float) -> bool:
        """Whether there is one that is due until then, since the run's start, and room for it."""
        return (
            self._made < len(self._arrivals)
            and self._arrivals[self._made][1].at <= until
            and self._bytes < _MOST_BYTES
        )

    def _prepare_one(self) -> None:
        prepared = self._prepare(*self._arrivals[self._made])
        self._made += 1
        self._ready.append(prepared)
        self._bytes += _size(prepared)


def _size(prepared: Prepared) -> int:
    return len(prepared.first.body) if prepared.first else 0
