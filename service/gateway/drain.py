"""The end of a gateway: no new work, and the open requests finish."""

import asyncio
import contextlib
from collections.abc import Iterator


class Drain:
    """Counts the open requests, and tells when the last one ended."""

    def __init__(self) -> None:
        self.draining = False
        self.open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count one request while it lasts."""
        self.open += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.open -= 1
            if not self.open:
                self._idle.set()

    async def finish(self, seconds: float, hurry: asyncio.Event) -> bool:
        """Take no new work and wait for what is open, at most until `hurry` is set.

        False where some of it was not done by then.
        """
        self.draining = True
        if self.open:
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._idle, hurry)]
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in waiting:
                wait.cancel()
        return not self.open

    async def emptied(self) -> None:
        """Wait for the last request to end: what is cut has yet to be settled."""
        await self._idle.wait()
