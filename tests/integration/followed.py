"""A discovery that runs, and what it has reported."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from service.routing.discovery import Discovery

SECONDS = 20.0
"""Nothing that is waited for takes longer."""
_ROUNDS = 3


class Followed:
    """A discovery that runs, and what it has reported."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.reports: list[frozenset[str]] = []

    async def reports_are(self, *expected: set[str]) -> None:
        """Wait for so many, and compare."""
        await happens(lambda: len(self.reports) >= len(expected), f"reports: {self.reports}")
        assert self.reports == [frozenset(one) for one in expected]

    async def failed(self, rounds: int = _ROUNDS) -> None:
        """Wait until so many more rounds have failed."""
        until = self.discovery.failures + rounds
        await happens(lambda: self.discovery.failures >= until, "rounds fail")


async def happens(condition: Callable[[], bool], what: str) -> None:
    """Wait for it; fail if it does not come."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def followed(discovery: Discovery) -> AsyncIterator[Followed]:
    """One that runs until the end of the block."""
    one = Followed(discovery)
    task = asyncio.create_task(discovery.watch(one.reports.append))
    try:
        yield one
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def run(main: Coroutine[Any, Any, None]) -> None:
    """In the event loop that the gateway has."""
    uvloop.run(main)
