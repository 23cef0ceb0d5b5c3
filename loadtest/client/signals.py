"""Ctrl-C and SIGTERM, which end a run, or a search of many, in order."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

_TAKEN: Final = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Takes both while it is entered, in the main thread, where signals arrive.

    Before somebody hears them, they cancel the task that has entered; after that nobody does: what
    is left to do then, such as undoing faults, takes bounded time and is not to be broken off.
    """

    def __init__(self) -> None:
        self.came = False
        """Whether any did: also one that nobody heard, so that what comes after it is not begun."""
        self._before: list[signal._HANDLER] = []
        self._hear: Callable[[], object] = _nobody

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._hear = task.cancel
        self._before = [signal.getsignal(one) for one in _TAKEN]
        for one in _TAKEN:
            asyncio.get_running_loop().add_signal_handler(one, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one, handler in zip(_TAKEN, self._before, strict=True):
            asyncio.get_running_loop().remove_signal_handler(one)
            signal.signal(one, handler)

    @contextlib.contextmanager
    def heard_by(self, hear: Callable[[], object]) -> Iterator[None]:
        """Each of them calls this."""
        self._hear = hear
        try:
            yield
        finally:
            self._hear = _nobody

    def _take(self) -> None:
        self.came = True
        self._hear()


def _nobody() -> None:
    """Nothing is to be ended any more."""
