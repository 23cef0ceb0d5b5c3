"""How long something may take, watched by one timer that is rarely set."""

import asyncio
import math
import time
from types import TracebackType
from typing import Self

from loadtest.outcome import Outcome


class Deadline:
    """Ends the task of a `with` block when its time is over, or when it is told to leave.

    A stream moves it on with each piece by writing `soft`: nothing else happens then. The timer
    looks once in a while whether the time is really over. Times are of `time.monotonic()`.
    """

    __slots__ = (
        "_handle",
        "_hard",
        "_loop",
        "_set_for",
        "_task",
        "ended",
        "soft",
        "soft_outcome",
        "why",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._set_for = math.inf
        self._task: asyncio.Task[object] | None = None
        self._hard: list[tuple[float, Outcome, str]] = []
        self.soft = math.inf
        """When this phase is too long."""
        self.soft_outcome = Outcome.TIMEOUT_TOTAL
        self.ended: Outcome | None = None
        """What ended the task, if this did."""
        self.why = ""

    def hard(self, at: float, outcome: Outcome, why: str) -> None:
        """It ends then, whatever its phase. Before the block."""
        self._hard.append((at, outcome, why))

    def phase(self, at: float, outcome: Outcome) -> None:
        """A new phase, which may last until then."""
        self.soft, self.soft_outcome = at, outcome
        if at < self._set_for:
            self._arm()

    def leave(self, outcome: Outcome, why: str) -> None:
        """End it now. `why` is a word for people."""
        if self.ended is None and self._task is not None:
            self.ended, self.why = outcome, why
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._handle is not None:
            self._handle.cancel()
        task, self._task = self._task, None
        if self.ended is None or task is None:
            return False
        # Where it was told to leave in its very last step, no error has come out: none shall later.
        others = task.uncancel()
        return kind is asyncio.CancelledError and others == 0

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._set_for = min([self.soft, *(at for at, _, _ in self._hard)])
        if self._task is not None and self._set_for < math.inf:
            self._handle = self._loop.call_at(self._set_for, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self.soft:
            self.leave(self.soft_outcome, "timeout")
            return
        for at, outcome, why in self._hard:
            if now >= at:
                self.leave(outcome, why)
                return
        self._set_for = math.inf
        self._arm()
