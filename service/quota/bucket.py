"""A rate: a bucket that what is used goes into, and that drains continuously.

It holds a minute's worth. All numbers are integers below 2**53, so that the Lua that runs in the
store computes the same, and the part of a unit that has not drained yet is kept as time.

What goes in for a running request is an estimate, of which a part is given back at its end: as much
as can still be inside. What has drained was room that others may have used; to give it back once
more would let more through than the rate. So the bucket counts how much of its content may still be
given back. What is certainly used drains first; when only estimates are left, they all shrink by
the same ratio. At any moment all that is ever given back of what is inside is inside, and so no
interval admits more than a minute's worth and what drains in it, as the tests show.
"""

from dataclasses import dataclass

MINUTE = 60_000_000  # µs
# All of an estimate, as a share. A share times a minute's worth is below 2**53.
WHOLE = 1 << 26
# So little of an estimate is nothing: shares are whole numbers, and must stay exact to 0.0004 %.
_LEAST = 1 << 18


@dataclass(slots=True)
class Bucket:
    """`used` units at time `at`, µs; `held` of them are estimates.

    `used` may be more than the rate: a debt, which drains before anything else fits. `share` is
    what is left of an estimate that was whole at the beginning of an `era`; one of an earlier era
    is gone.
    """

    at: int
    used: int = 0
    held: int = 0
    era: int = 0
    share: int = WHOLE

    def drain(self, now: int, rate: int) -> None:
        """Let out what a rate per minute lets out until `now`.

        A clock that was set back drains nothing, and costs nothing either.
        """
        drained = self._drained(now, rate)
        if drained >= self.used:
            self.at, drained = now, self.used
        elif now < self.at:
            self.at = now
        else:
            whole, part = divmod(drained, rate)
            self.at += whole * MINUTE - (-part * MINUTE // rate)
        self.used -= drained
        if self.held > self.used:
            self._shrink()

    def level(self, now: int, rate: int) -> int:
        """What will be used at that time, if nothing happens until then. Changes nothing."""
        return self.used - min(self._drained(now, rate), self.used)

    def _drained(self, now: int, rate: int) -> int:
        """What the rate lets out until then, were there enough."""
        whole, rest = divmod(max(now - self.at, 0), MINUTE)
        return whole * rate + rest * rate // MINUTE

    def add(self, amount: int) -> None:
        """Put in what is certainly used."""
        self.used += amount

    def hold(self, estimate: int) -> int:
        """Put in an estimate. Returns its mark, for `settle`."""
        self.used += estimate
        self.held += estimate
        return self.era * 2 * WHOLE + self.share

    def settle(self, used: int, estimate: int, mark: int) -> None:
        """Put what was used in the place of an estimate, as much of which as is still inside."""
        inside = self._inside(estimate, mark)
        self.held -= inside
        self.used += max(used - estimate, 0) - min(max(estimate - used, 0), inside)

    def _inside(self, estimate: int, mark: int) -> int:
        era, share = divmod(mark, 2 * WHOLE)
        return estimate * self.share // share if era == self.era else 0

    def _shrink(self) -> None:
        self.share = self.share * self.used // self.held
        self.held = self.used
        if self.share < _LEAST:
            self.era, self.share, self.held = self.era + 1, WHOLE, 0
