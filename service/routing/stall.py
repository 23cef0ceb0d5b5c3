"""An engine that hangs: requests run in it, and none of its counters moves.

vLLM's `/health` says 200 all the while, since it asks whether the process lives, not whether it
computes. `/metrics` tells: it is answered by the same server, from the engine's last step.
"""

from service.settings import HealthSettings

# A stall that is not seen any more is believed for so many times what makes a stall. Of a thousand
# replicas each is read but once a minute.
BELIEVED = 3


class Stall:
    """Whether the engine stands still, by the readings of its counters.

    Time is added up from reading to reading, and no gap between two counts as more than half of
    what makes a stall: nobody saw whether the running requests ended in it and others began. So
    there is no stall without readings, and one that was seen is not believed for ever (`unread`).
    """

    def __init__(self, settings: HealthSettings) -> None:
        self.stalled = False
        self.reason = ""
        self._settings = settings
        self._progress: float | None = None
        self._running = 0
        self._read_at = 0.0
        self._still = 0.0

    def read(self, now: float, running: int, progress: float) -> bool:
        """Take in a reading. Returns whether a counter went back: the engine is a new one."""
        before = self._progress
        stands = running > 0 and self._running > 0 and progress == before
        if stands:
            self._still += min(max(now - self._read_at, 0.0), self._settings.stall / 2)
            self._judge(running)
        else:
            self._still, self.stalled, self.reason = 0.0, False, ""
        self._progress, self._running, self._read_at = progress, running, now
        return before is not None and progress < before

    def unread(self, now: float) -> bool:
        """Whether it stalled, but has not been seen standing still for long since."""
        return self.stalled and now - self._read_at > BELIEVED * self._settings.stall

    def forget(self) -> None:
        """It did not stall. What was read stays known, so that a restart still shows."""
        self.stalled, self.reason = False, ""
        self._running, self._still = 0, 0.0

    def _judge(self, running: int) -> None:
        if self._still > self._settings.stall:
            self.stalled = True
            self.reason = f"stalled: no token in {self._still:.0f} s with {running} running"
