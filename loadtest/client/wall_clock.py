"""Whether somebody sets the wall clock while a run lasts."""

import time
from collections.abc import Callable

# NTP slews by 0.5 ms a second at most; a clock that was set jumps.
_STEP = 0.05


class WallClock:
    """The wall clock, watched against the monotonic one. To be looked at twice a second."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self.steps = 0.0
        """By how much it was set in all, s, whether forwards or backwards."""

    def look(self) -> None:
        """See whether it was set since it was looked at last."""
        offset = self._wall() - self._monotonic()
        step = abs(offset - self._offset)
        if step > _STEP:
            self.steps += step
        self._offset = offset
