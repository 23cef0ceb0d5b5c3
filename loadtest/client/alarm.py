"""Rings at a time, to the tenth of a millisecond.

The loop's own timers have full milliseconds, and ring one or two late: a schedule that is kept to
two needs better. On Linux the kernel has such a timer, as a file that becomes readable; elsewhere
the loop's must do.
"""

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1


class _Spec(ctypes.Structure):
    """`struct itimerspec`: the period, which is none, and the time."""

    _fields_ = (
        ("period_s", ctypes.c_long),
        ("period_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Ring:
    """One ring that is to come."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It is not to come."""
        self.callback = None


class Alarm:
    """All rings of a worker. Use it as a context. Times are of `time.monotonic()`, and nothing
    rings before its own."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rings: list[tuple[float, int, Ring]] = []
        self._number = itertools.count()
        self._set_for = math.inf
        self._handle: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None)
        self._file = _timer_file(self._libc)
        if self._file is not None:
            self._loop.add_reader(self._file, self._ring)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rings.clear()
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def at(self, when: float, callback: Callable[[], None]) -> Ring:
        """Call it then; soon, if that is over."""
        ring = Ring(callback)
        heapq.heappush(self._rings, (when, next(self._number), ring))
        if when < self._set_for:
            self._set()
        return ring

    def _set(self) -> None:
        """For the next ring."""
        self._set_for = when = self._rings[0][0] if self._rings else math.inf
        if when == math.inf:
            return
        if self._file is None:
            if self._handle is not None:
                self._handle.cancel()
            # Up to a full millisecond, which timers have: rounded down it would ring early.
            self._handle = self._loop.call_at(math.ceil(when * 1000) / 1000, self._ring)
            return
        # A time of 0 would switch it off; one that is over rings at once.
        whole = max(math.ceil(when * 1e9), 1)
        spec = _Spec(0, 0, whole // 10**9, whole % 10**9)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None)

    def _ring(self) -> None:
        if self._file is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._file, 8)
        while self._rings and self._rings[0][0] <= time.monotonic():
            _, _, ring = heapq.heappop(self._rings)
            if ring.callback is not None:
                ring.callback()
        self._set()


def _timer_file(libc: ctypes.CDLL) -> int | None:
    """A timer of the kernel; None where it has none of that kind."""
    if not sys.platform.startswith("linux"):
        return None
    made = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return made if isinstance(made, int) and made >= 0 else None
