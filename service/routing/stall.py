"""An engine that hangs: requests run in it, and none of its counters moves.

vLLM's `/health` says 200 all the while, since it asks whether the process lives, not whether it
computes. `/metrics` tells: it is answered by the same server, from the engine's last step.
"""

from dataclasses import replace

from service.routing.standstill import Standstill
from service.settings import HealthSettings

# A stall that is not seen any more is believed for so many times what makes a stall. Of a thousand
# replicas each is read but once a minute.
BELIEVED = 3


class Stall:
    """Whether the engine stands still, by the readings of its counters.

    Time is added up from reading to reading (`Standstill`). So there is no stall without readings,
    and one that was seen is not believed for ever (`unread`).
    """

    def __init__(self, settings: HealthSettings) -> None:
        self.reason = ""
        self._settings = settings
        self._last: Standstill | None = None

    @property
    def stalled(self) -> bool:
        """Whether it was standing still when it was last read."""
        return bool(self.reason)

    def read(self, now: float, running: int, progress: float) -> bool:
        """Take in a reading. Returns whether a counter went back: the engine is a new one."""
        before, stall = self._last, self._settings.stall
        if before is None:
            self._last = Standstill(progress, running, now)
            return False
        self._last = before.then(now, running, progress, stall)
        self.reason = self._last.reason(stall)
        return progress < before.progress

    def unread(self, now: float) -> bool:
        """Whether it stalled, but has not been seen standing still for long since."""
        if self._last is None or not self.stalled:
            return False
        return now - self._last.at > BELIEVED * self._settings.stall

    def forget(self) -> None:
        """It did not stall. What was read stays known, so that a restart still shows."""
        self.reason = ""
        if self._last is not None:
            self._last = replace(self._last, running=0, still=0.0)
