"""Time in which this process could have noticed that something came."""

import asyncio

TICK_SECONDS = 0.01


class AttentionClock:
    """A clock, s, that runs only while the event loop turns.

    What a server takes to answer is measured with it. A loop that is busy within one turn, for
    however long, reads no socket in that time: the reply may be there, and the server owes nothing.
    """

    def __init__(self) -> None:
        self._counted = 0.0
        self._ticked = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """What it shows; to be compared with what it showed before."""
        return self._counted if self._timer is None else self._counted + self._since_tick()

    def start(self) -> None:
        """Let it run. Costs a wake-up of the loop a tick, until `stop`."""
        if self._timer is None:
            self._next()

    def stop(self) -> None:
        """Let it stand still."""
        if self._timer is not None:
            self._counted += self._since_tick()
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._counted += self._since_tick()
        self._next()

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticked = loop.time()
        self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def _since_tick(self) -> float:
        # A tick that is a little late is an ordinary turn; one that is very late was kept waiting.
        return min(asyncio.get_running_loop().time() - self._ticked, 2 * TICK_SECONDS)
