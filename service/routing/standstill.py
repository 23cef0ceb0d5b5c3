"""How long an engine has stood still, from one reading of its counters to the next.

Pure, and light to import: the engine's own probe starts anew every few seconds.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Standstill:
    """A reading: the counters' sum, the requests that ran, and when it was, s.

    `still` is for how long it has been seen standing still until then, s.
    """

    progress: float
    running: int
    at: float
    still: float = 0.0

    def then(self, now: float, running: int, progress: float, stall: float) -> Self:
        """The next reading. It goes on standing still while requests run and nothing moves.

        No gap between two readings counts as more than half of `stall`, which is what makes a
        stall, s: nobody saw whether the running requests ended in it and others began. A clock that
        goes back adds nothing.
        """
        stands = running > 0 and self.running > 0 and progress == self.progress
        if not stands:
            return type(self)(progress, running, now)
        gap = min(max(now - self.at, 0.0), stall / 2)
        return type(self)(progress, running, now, self.still + gap)

    def reason(self, stall: float) -> str:
        """Why it is called stalled; empty while it is not."""
        if self.still <= stall:
            return ""
        return f"stalled: no token in {self.still:.0f} s with {self.running} running"
