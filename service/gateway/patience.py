"""How long an engine may take until it begins to answer, and between two events."""

import asyncio
from types import TracebackType
from typing import Self

# A timer that is set anew for each of thousands of events a second costs more than the event. It is
# set somewhat later than need be, and left alone until that is used up.
_EXTRA = 0.25


class Patience:
    """A time limit: `first` seconds, then `idle` seconds from each `renew` on.

    A context manager that raises `TimeoutError`; the idle limit is kept to a quarter more.
    """

    def __init__(self, first: float, idle: float) -> None:
        self.seconds = first
        """The limit in force."""
        self._idle = idle
        self._time = asyncio.get_running_loop().time
        self._timeout = asyncio.timeout(first)
        self._used_up = 0.0
        """From when on the timer has to be set anew, by the loop's clock."""

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(kind, error, trace)

    def renew(self) -> None:
        """Something came."""
        now = self._time()
        if now >= self._used_up:
            self.seconds = self._idle
            self._used_up = now + self._idle * _EXTRA
            self._timeout.reschedule(self._used_up + self._idle)
