"""How the load test itself does: its event loop and its use of a core."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

_BEAT = 0.02
_SAMPLE = 10_000
_BUSY = 5.0
_FEW = 1_000


class LoopLag:
    """How late the event loop is, looked at each 20 ms.

    The beats are on a fixed schedule. A loop that stands still for a second misses fifty of them,
    and each counts with the wait that it had: otherwise a standstill would be one sample in a
    thousand.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock()
        self._handle: asyncio.TimerHandle | None = None
        self._seen = 0
        self._lags: list[float] = []
        self._random = random.Random(0)  # noqa: S311  # no secret depends on it

    def start(self) -> None:
        """Begin to look, in the running loop."""
        self._due = self._clock() + _BEAT
        self._arm()

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def beat(self) -> None:
        """Count all beats that were due until now."""
        now = self._clock()
        while self._due <= now:
            self._count(now - self._due)
            self._due += _BEAT

    def lags(self) -> list[float]:
        """All that were seen, s, or a fair sample of them: sorted."""
        return sorted(self._lags)

    def _count(self, lag: float) -> None:
        self._seen += 1
        if len(self._lags) < _SAMPLE:
            self._lags.append(lag)
        elif (place := self._random.randrange(self._seen)) < _SAMPLE:
            self._lags[place] = lag

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        # By full milliseconds, as timers are: what is rounded up is no lag of the loop.
        self._due = -(-self._due * 1000 // 1) / 1000
        self._handle = loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self.beat()
        self._arm()


class Busy:
    """How much of a core this process used in the busiest five seconds it had."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._used = used
        self._marks: deque[tuple[float, float]] = deque()
        self._whole = 0.0
        self._highest = 0.0
        self.percents: list[float] = []
        """Of a core, between each two looks."""

    def mark(self) -> None:
        """Look. To be called about twice a second."""
        now, used = self._clock(), self._used()
        if self._marks and now > self._marks[-1][0]:
            at, before = self._marks[-1]
            self.percents.append(100 * (used - before) / (now - at))
        self._marks.append((now, used))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _BUSY:
            self._marks.popleft()
        since, before = self._marks[0]
        if now > since:
            self._whole = (used - before) / (now - since)
            if now - since >= _BUSY:
                self._highest = max(self._highest, self._whole)

    @property
    def percent(self) -> float:
        """Of a core. Of a run shorter than five seconds: in all of it."""
        return 100 * (self._highest or self._whole)


def few(lags: Sequence[float]) -> list[float]:
    """At most a thousand of them, which are sorted: by rank, and with the last one, so that all
    percentiles are about the same."""
    step = -(-len(lags) // _FEW) or 1
    return list(lags[::-step][::-1])
