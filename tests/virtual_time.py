"""Time that only waiting takes."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Virtual(asyncio.SelectorEventLoop):
    """An event loop in which no time passes but what is waited for: no test waits itself."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready and scheduled:
            self.now = max(self.now, min(one._when for one in scheduled if not one._cancelled))
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, T]) -> T:
    """What comes of it, in no time."""
    with asyncio.Runner(loop_factory=Virtual) as runner:
        return runner.run(work)
