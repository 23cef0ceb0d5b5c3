"""A replica that is out after failed requests, and the one request that may end it.

Each ejection is twice as long as the one before, up to the longest. A long good time takes the
doublings back, one by one.
"""

from collections.abc import Callable

from service.settings import HealthSettings

_NO_TRIAL = 0


class Ejection:
    """When it is over, a request goes out as a trial; its end decides. One trial at a time.

    A trial that says nothing for `settings.stall` is given up, so that one whole answer of ten
    minutes does not keep a good replica out that long; then the next request is a trial as well.

    `jitter` gives the share by which an ejection is longer, 0 or more.
    """

    def __init__(self, settings: HealthSettings, jitter: Callable[[], float]) -> None:
        self.until: float | None = None  # when it is over; None: there is none
        self._settings = settings
        self._jitter = jitter
        self._doublings = 0
        self._trial = _NO_TRIAL
        self._tried_at = 0.0
        self._quiet_since = 0.0

    def begin(self, now: float) -> float:
        """Out from now on. Returns for how many seconds."""
        longest = self._settings.max_ejection
        length = min(self._settings.ejection * 2.0**self._doublings, longest)
        if length < longest:
            self._doublings += 1
        length *= 1 + self._jitter()
        self.until = now + length
        self.rest(now)
        return length

    def doubt(self, now: float) -> None:
        """Nothing is known against it, but a trial must decide before it is back."""
        self.until = max(now, self.until or now)
        self.rest(now)

    def end(self) -> None:
        """It is back."""
        self.until = None
        self._trial = _NO_TRIAL

    def forgive(self, good: float) -> None:
        """Take doublings back for so many good seconds."""
        steps = min(max(good, 0.0) / self._settings.max_ejection, self._doublings)
        self._doublings -= int(steps)

    def over(self, now: float) -> bool:
        """Whether its time has passed, so that a trial may decide."""
        return self.until is not None and now >= self.until

    def admits(self, now: float) -> bool:
        """Whether a request may go out as a trial."""
        under_way = self._trial != _NO_TRIAL and now - self._tried_at < self._settings.stall
        return self.over(now) and not under_way

    def attempt(self, now: float, mark: int) -> None:
        """The request of that mark is the trial."""
        self._trial, self._tried_at = mark, now

    def abandon(self, now: float, mark: int) -> None:
        """That request ended and told nothing: if it was the trial, another may go out."""
        if mark == self._trial:
            self.rest(now)

    def rest(self, now: float) -> None:
        """No trial is under way any more, and none has been since."""
        self._trial = _NO_TRIAL
        self._quiet_since = max(now, self.until or now)

    def quiet(self, now: float) -> bool:
        """Whether it has been over for long and nobody came to try.

        Not so while a trial waits, however long: its silence may be the very fault.
        """
        if self._trial != _NO_TRIAL or not self.over(now):
            return False
        return now - self._quiet_since >= self._settings.max_ejection
