"""Watches which alerts of a Prometheus fire during a run.

It asks once a second: times are right to a second, beside what Prometheus itself needs to notice.
What cannot be asked changes nothing: an alert that fired is taken to fire until an answer says
otherwise.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from loadtest.faults.events import Firing

EVERY: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_FAILURES: Final = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    ValueError,
    msgspec.MsgspecError,
)


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    state: str


class _Alerts(msgspec.Struct):
    alerts: list[_Alert]


class _Page(msgspec.Struct):
    data: _Alerts


class Watch:
    """Asks the Prometheus at `url` from when it is entered until it is left. `clock` tells the
    run's time, s; `every` is between two questions, s."""

    def __init__(self, url: str, clock: Callable[[], float], every: float = EVERY) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/alerts"
        self._clock = clock
        self._every = every
        self._firings: list[Firing] = []
        self._tried = self._failed = 0
        self._first_error = ""
        self.answered = 0.0
        """Until when nothing was missed: s from the run's start to its last answer, and the next
        question."""
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        self._task = asyncio.create_task(self._watch(self._session))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None and self._session is not None
        self._task.cancel()
        try:
            await asyncio.gather(self._task, return_exceptions=True)
        finally:
            await self._session.close()

    @property
    def firings(self) -> list[Firing]:
        """What was seen until now, in order of time. One that stops and fires anew is there twice;
        an alert that fires for several things at once is one."""
        return list(self._firings)

    @property
    def notes(self) -> list[str]:
        """A line, if a question failed."""
        if not self._failed:
            return []
        return [
            f"alerts of {self._url}: {self._failed} of {self._tried} questions failed, the first:"
            f" {self._first_error}"
        ]

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._look(session)
            due = max(due + self._every, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _look(self, session: aiohttp.ClientSession) -> None:
        self._tried += 1
        try:
            async with session.get(self._url) as answer:
                if answer.status != 200:
                    raise ValueError(f"it answered {answer.status}")
                page = msgspec.json.decode(await answer.read(), type=_Page)
        except _FAILURES as error:
            self._failed += 1
            self._first_error = self._first_error or _said(error)
            return
        self._learn({one.labels.get("alertname", "") for one in page.data.alerts if _fires(one)})

    def _learn(self, firing: set[str]) -> None:
        # What fired before the run is there from its beginning.
        now = max(self._clock(), 0.0)
        self.answered = now + self._every
        for one in self._firings:
            if one.ended is None:
                if one.alert not in firing:
                    one.ended = now
                firing.discard(one.alert)
        self._firings += [Firing(alert, now) for alert in sorted(firing)]


def _fires(alert: _Alert) -> bool:
    return alert.state == "firing"


def _said(error: BaseException) -> str:
    """One line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT.total:g} s"
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
