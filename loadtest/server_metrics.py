"""Reads the server's own metrics while a run goes on. What fails is noted, and the run goes on.

A page is to be that of one process: behind an address that several share, each reading would be of
another one.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from loadtest.metrics_page import Page
from loadtest.scenario.document import Scrape
from loadtest.summary import Series

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_LEAST_INTERVAL: Final = 0.1
_MOST_BYTES: Final = 16 << 20
_ACCEPT: Final = {"Accept": "text/plain;version=0.0.4"}
# Of what is at the other end, whatever it answers. The parser raises the last one of some garbage.
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError)


class Watched(msgspec.Struct):
    """A page, and how reading it went."""

    scrape: Scrape
    page: Page
    tried: int = 0
    failed: int = 0
    first_error: str = ""


class Scraper:
    """Reads all pages of a scenario from when it is entered until it is left.

    `clock` tells the run's time, s. Intervals below 0.1 s are taken as that.
    """

    def __init__(self, scrapes: Sequence[Scrape], clock: Callable[[], float]) -> None:
        self._watched = [Watched(one, Page(one.name, one.metrics)) for one in scrapes]
        self._clock = clock
        self._leaving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._watched:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=_ACCEPT)
            self._tasks = [
                asyncio.create_task(self._watch(one, self._session)) for one in self._watched
            ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Each page is read once more, unless something went wrong."""
        self._leaving.set()
        if error is not None:
            for task in self._tasks:
                task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._session is not None:
                await self._session.close()

    def series(self) -> list[Series]:
        """What was read until now."""
        return [series for one in self._watched for series in one.page.series()]

    @property
    def notes(self) -> list[str]:
        """A line for each page of which a reading failed."""
        return [
            f"metrics of {one.scrape.name} ({one.scrape.url}): {one.failed} of {one.tried} readings"
            f" failed, the first: {one.first_error}"
            for one in self._watched
            if one.failed
        ]

    async def _watch(self, one: Watched, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        every = max(one.scrape.every, _LEAST_INTERVAL)
        due = loop.time()
        while not self._leaving.is_set():
            await self._read(one, session)
            # By the plan, not by when the last one ended; those that were missed are left out.
            due = max(due + every, loop.time())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), due - loop.time())
        await self._read(one, session)

    async def _read(self, one: Watched, session: aiohttp.ClientSession) -> None:
        one.tried += 1
        before = self._clock()
        try:
            text = await _fetched(session, one.scrape.url)
            one.page.read((before + self._clock()) / 2, text)
        except _FAILURES as error:
            one.failed += 1
            one.first_error = one.first_error or _said(error)


async def _fetched(session: aiohttp.ClientSession, url: str) -> str:
    """A page's text. Raises one of `_FAILURES`."""
    async with session.get(url) as answer:
        if answer.status != 200:
            raise ValueError(f"it answered {answer.status}")
        body = bytearray()
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > _MOST_BYTES:
                raise ValueError(f"it is longer than {_MOST_BYTES >> 20} MiB")
    return body.decode()


def _said(error: BaseException) -> str:
    """One line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT.total:g} s"
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]
