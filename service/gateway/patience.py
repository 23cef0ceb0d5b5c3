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
        self._has_begun = False
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + first
        self._timeout = asyncio.timeout_at(self._end)

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
        now = self._loop.time()
        if self._end - now < self._idle or not self._has_begun:
            self._has_begun, self.seconds = True, self._idle
            self._end = now + self._idle * (1 + _EXTRA)
            self._timeout.reschedule(self._end)
