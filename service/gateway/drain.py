"""The end of a gateway: no new work, and the open requests finish."""

import asyncio
import contextlib


class Drain:
    """Counts the open requests, and tells when the last one ended.

    A context manager for one request, of any number at a time.
    """

    def __init__(self) -> None:
        self.ending = False
        """Whether it was told to end: it is not ready any more, and may take requests still."""
        self.draining = False
        self.open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self.open += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self.open -= 1
        if not self.open:
            self._idle.set()

    async def give_notice(self, seconds: float, hurry: asyncio.Event) -> None:
        """Be unready and take requests all the same, at most until `hurry` is set."""
        self.ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hurry.wait()

    async def finish(self, seconds: float, hurry: asyncio.Event) -> bool:
        """Take no new work and wait for what is open, at most until `hurry` is set.

        False where some of it was not done by then.
        """
        self.ending = self.draining = True
        if self.open:
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._idle, hurry)]
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in waiting:
                wait.cancel()
        return not self.open

    async def emptied(self) -> None:
        """Wait for the last request to end: what is cut has yet to be settled."""
        await self._idle.wait()
