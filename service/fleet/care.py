"""What a keeper remembers of one pool, from one look to the next."""

import time

from service.fleet.demand import Scale

# An engine that does not start is not started again and again as fast as that is possible.
_FIRST_PAUSE, _DOUBLINGS = 2.0, 5


class Care:
    """How many engines it should have, and how starting them went."""

    def __init__(self) -> None:
        self.by_hand: int | None = None
        self.scale: Scale | None = None
        self.failures = 0
        self.not_before = 0.0
        self.why = ""
        self.last_failure = ""

    def failed(self, why: str) -> None:
        """An engine of it did not start."""
        self.last_failure = why
        pause = _FIRST_PAUSE * 2 ** min(self.failures, _DOUBLINGS)
        self.failures += 1
        self.not_before = time.monotonic() + pause

    def worked(self) -> None:
        """An engine of it is ready."""
        self.failures, self.not_before = 0, 0.0
