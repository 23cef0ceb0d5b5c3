"""Whether a replica gets requests, and how many.

Three things take it out, each by itself: requests that fail (an ejection: for a time, then on
trial), checks that fail (down: until a good one), and counters that stand still while requests run
(stalled: until they move). It is up when none holds, and then it starts slowly, since a new engine
has empty caches.

What a request tells is about the engine that it was sent to. Whenever a replica goes out, comes
back or is seen to have restarted, a new life begins, and what was sent in an earlier one tells
nothing any more. So fifty streams that die with their engine are one ejection, not fifty; and
their last words do not count against the engine that took its place.

All times are monotonic seconds and are handed in. From any state, a replica whose checks are good,
whose requests succeed and whose counters, if read, move is up within
`max(max_ejection * (1 + jitter), BELIEVED * stall) + 2 * interval` and the time that one request
takes to come and to begin its answer; it has its full share `slow_start` later.
"""

from collections.abc import Callable
from enum import StrEnum

from service.routing.ejection import Ejection
from service.routing.stall import Stall
from service.settings import HealthSettings

# As much as a replica gets that has just come back; little, but enough to be tried at all.
LEAST_SHARE = 0.1
# Of a request that was sent although the replica admits none. It is less than any other mark.
UNASKED = 0
_LONGEST_ERROR = 200


class State(StrEnum):
    """What a replica gets: all, one request on trial, or none for one of three reasons."""

    UP = "up"
    TRIAL = "trial"
    EJECTED = "ejected"
    DOWN = "down"
    STALLED = "stalled"


class Health:
    """What is known of one replica.

    `known_good`: it need not start slowly, as when the gateway starts and the engines have run all
    along. `jitter`: the share, 0 or more, by which an ejection is longer, so that not all gateways
    come back at once.
    """

    def __init__(
        self,
        settings: HealthSettings,
        now: float,
        *,
        jitter: Callable[[], float],
        known_good: bool = False,
    ) -> None:
        self.last_error = ""  # of a request or a check, whether it counted or not
        self.ejections = 0
        self.downs = 0
        self.stalls = 0
        self._settings = settings
        self._ejection = Ejection(settings, jitter)
        self._ejected_for = ""
        self._stall = Stall(settings)
        self._down_for = ""
        self._bad_checks = 0
        self._failures = 0
        self._up_since = float("-inf") if known_good else now
        self._last_mark = UNASKED
        self._first_mark = UNASKED + 1  # of this life

    def state(self, now: float) -> State:
        """The strongest of what holds it back."""
        if self._down_for:
            return State.DOWN
        if self._stall.stalled:
            return State.STALLED
        if self._ejection.until is None:
            return State.UP
        return State.TRIAL if self._ejection.over(now) else State.EJECTED

    @property
    def reason(self) -> str:
        """Why it is out or on trial, in one line; empty when it is up."""
        return self._down_for or self._stall.reason or self._ejected_for

    def admits(self, now: float) -> bool:
        """Whether it may get one more request now."""
        state = self.state(now)
        return state is State.UP or (state is State.TRIAL and self._ejection.admits(now))

    def share(self, now: float) -> float:
        """How much it gets, of what it would get in the long run: above 0, up to 1."""
        if self.state(now) is not State.UP:
            return LEAST_SHARE
        grown = (now - self._up_since) / self._settings.slow_start
        return LEAST_SHARE + (1 - LEAST_SHARE) * min(max(grown, 0.0), 1.0)

    def began(self, now: float) -> int:
        """A request is sent. Returns its mark, with which its end is told.

        Where the replica admits none the caller may still have no other choice, but nothing is
        learnt from such a request: nobody can say which engine it will meet.
        """
        if not self.admits(now):
            return UNASKED
        self._last_mark += 1
        if self._ejection.until is not None:
            self._ejection.attempt(now, self._last_mark)
        return self._last_mark

    def succeeded(self, now: float, mark: int) -> None:
        """It got its first token, or its whole answer."""
        if not self._counts(mark):
            return
        self._failures = 0
        if self._ejection.until is not None:
            self._acquit(now)

    def failed(self, now: float, mark: int, error: str, *, unreachable: bool = False) -> None:
        """It ended by the engine's fault, before its first token or after.

        `unreachable`: no answer was even begun, the connection being refused or reset. That takes
        the replica out at once; so does a failed trial; other failures only some in a row.
        """
        self.last_error = _line(error)
        if not self._counts(mark):
            return
        self._failures += 1
        if self._ejection.until is not None:
            self._eject(now, f"failed on trial: {self.last_error}")
        elif unreachable:
            self._eject(now, f"unreachable: {self.last_error}")
        elif self._failures >= self._settings.failures:
            self._eject(now, f"{self._failures} requests in a row failed: {self.last_error}")

    def abandoned(self, now: float, mark: int) -> None:
        """It ended and tells nothing of the engine: the client left, or asked for nonsense."""
        if self._counts(mark):
            self._ejection.abandon(now, mark)

    def checked(self, now: float, error: str | None) -> None:
        """An active check ended: None is good; a refused connection is an error like others."""
        if error is None:
            self._passed(now)
            return
        self.last_error = _line(error)
        self._bad_checks += 1
        if self._bad_checks < self._settings.failures:
            return
        if not self._down_for:
            self._leave(now)
            self.downs += 1
        self._down_for = f"{self._bad_checks} checks in a row failed: {self.last_error}"

    def progressed(self, now: float, running: int, progress: float) -> None:
        """The engine's counters were read: its running requests, and what only ever grows."""
        before, was_up = self._stall.stalled, self.state(now) is State.UP
        restarted = self._stall.read(now, running, progress)
        if self._stall.stalled and not before:
            self._forgive(now, was_up)
            self._begin_life(now)
            self.stalls += 1
        elif restarted or (before and not self._stall.stalled):
            self._forgive(now, was_up)
            self._return(now)

    def _passed(self, now: float) -> None:
        """A good check ends being down. It does not end an ejection: `/health` answers 200 to
        nearly everything, and a request knows better. Two things it does end, since nobody else
        would: a stall whose counters are not read any more, which goes on trial; and a trial that
        no request has come for in a long time, so that a burst after a quiet night finds the
        replica ready and nobody is shown a fault that nothing speaks for any more.
        """
        self._bad_checks = 0
        if self._down_for:
            self._down_for = ""
            self._return(now)
        if self._stall.unread(now):
            self._ejected_for = f"{self._stall.reason}; its counters cannot be read since"
            self._stall.forget()
            self._ejection.doubt(now)
            self._return(now)
        elif self.state(now) is State.TRIAL and self._ejection.quiet(now):
            self._acquit(now)

    def _eject(self, now: float, reason: str) -> None:
        self._leave(now)
        length = self._ejection.begin(now)
        self._ejected_for = f"{reason}; out for {length:.1f} s"
        self.ejections += 1

    def _acquit(self, now: float) -> None:
        self._ejection.end()
        self._ejected_for = ""
        self._return(now)

    def _leave(self, now: float) -> None:
        self._forgive(now, self.state(now) is State.UP)
        self._begin_life(now)

    def _return(self, now: float) -> None:
        """One thing that held it back is over; with the last one it starts slowly."""
        self._begin_life(now)
        self._up_since = now

    def _forgive(self, now: float, was_up: bool) -> None:
        if was_up:
            self._ejection.forgive(now - self._up_since)

    def _begin_life(self, now: float) -> None:
        self._first_mark = self._last_mark + 1
        self._failures = 0
        self._ejection.rest(now)

    def _counts(self, mark: int) -> bool:
        return mark >= self._first_mark


def _line(error: str) -> str:
    return " ".join(error.split())[:_LONGEST_ERROR] or "unknown error"
