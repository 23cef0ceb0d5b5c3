"""How fast the engines of a pool work."""

import math

# Over how long the pace is averaged, s.
_MEMORY = 30.0


class Pace:
    """The work that one place of the pool does in a second, as estimated, of late.

    It is the work of the requests that ended over the time that they held their places. In a steady
    state this times the places is what the pool does in a second; and unlike a count of what ends
    in a second, it is right from the first request that ends, and follows at once when a replica
    goes. Only what ends while every place is taken counts: an idle engine is faster.
    """

    def __init__(self) -> None:
        self._work = 0.0
        self._seconds = 0.0
        self._at = 0.0

    def add(self, work: int, seconds: float, now: float) -> None:
        """Count a request that ended, and held its place for that long."""
        kept = math.exp(min(self._at - now, 0.0) / _MEMORY)
        self._work = self._work * kept + work
        self._seconds = self._seconds * kept + seconds
        self._at = now

    def of(self, places: int) -> float | None:
        """What so many places do in a second; None where that is not known."""
        if places <= 0 or self._seconds <= 0:
            return None
        return places * self._work / self._seconds
