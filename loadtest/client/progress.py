"""Shows how a run stands: a table that changes in a terminal, a line each ten seconds elsewhere.

A thread of its own writes. A terminal that stands still (Ctrl-S), a pipe that nobody reads any more
or a full disk costs the display, and the run nothing.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from loadtest.client.data import Progress
from loadtest.outcome import GOOD

_LINE_EVERY = 10.0
# Lines that may wait to be written. Of a table only the newest is of use.
_LINES = 16
# In the end, for what is still to be written, s.
_PATIENCE = 2.0


class Screen(Console):
    """A console whose broken pipe is an error. The library's own would end the thread, and let
    nothing be seen of the process's standard output either."""

    def on_broken_pipe(self) -> None:
        """Called while the `BrokenPipeError` is handled."""
        raise BrokenPipeError


class Display:
    """Use it as a context, and give `show` to the run: it never waits, and never raises."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_line = 0.0
        self._last: Progress | None = None
        self._box: queue.Queue[Callable[[], None] | None]
        self._box = queue.Queue(1 if self._live else _LINES)
        # A daemon: one that waits for its terminal for good keeps no process alive.
        self._writer = threading.Thread(target=self._write, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._last is not None:
            self._put(self._last)
        if not self._writer.is_alive():
            return
        with contextlib.suppress(queue.Full):
            self._box.put(None, timeout=_PATIENCE)
            self._writer.join(_PATIENCE)

    def show(self, progress: Progress) -> None:
        """Show this from now on."""
        if self._live is not None:
            self._put(progress)
            return
        self._last = progress
        if progress.elapsed >= self._next_line:
            self._next_line += _LINE_EVERY
            self._put(progress)
            self._last = None

    def _put(self, progress: Progress) -> None:
        """Have it written, at the cost of the oldest that waits."""
        if self._box.full():
            with contextlib.suppress(queue.Empty):
                self._box.get_nowait()
        with contextlib.suppress(queue.Full):
            self._box.put_nowait(lambda: self._draw(progress))

    def _write(self) -> None:
        """The thread: after the first failure it writes nothing more."""
        # SystemExit too: of a console that is not a `Screen`.
        with contextlib.suppress(Exception, SystemExit):
            if self._live is not None:
                self._live.start()
            try:
                while (draw := self._box.get()) is not None:
                    draw()
            finally:
                if self._live is not None:
                    self._live.stop()

    def _draw(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(table(self._name, progress), refresh=True)
        else:
            self._console.print(line(progress), markup=False, highlight=False, soft_wrap=True)


def line(progress: Progress) -> str:
    """All that matters, in one line."""
    outcomes = " ".join(f"{name}={count}" for name, count in progress.outcomes.items())
    parts = [
        # Before time 0 it is below 0, and a rounded one of these is -0.
        f"{max(0.0, progress.elapsed):.0f}/{progress.duration:.0f}s",
        f"sent {progress.sent}",
        f"open {progress.open}",
        outcomes or "nothing has ended",
        f"last 10 s: {progress.rate:.1f} req/s",
        f"{progress.output_rate:.0f} tok/s",
        f"TTFT p50 {time(progress.ttft_p50)} p99 {time(progress.ttft_p99)}",
        f"gap p99 {time(progress.gap_p99)}",
        f"lag p99 {time(progress.lag_p99)}",
        *progress.lost_workers,
    ]
    return " · ".join(parts)


def table(name: str, progress: Progress) -> Table:
    """The same, for a terminal."""
    grid = Table(
        title=escape(title(name, progress)), show_header=False, title_justify="left", box=None
    )
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row(
        "requests",
        f"{progress.due} due · {progress.sent} sent · {progress.open} open · {progress.done} ended",
    )
    grid.add_row(
        "last 10 s",
        f"{progress.rate:.1f} sent/s · {progress.good_rate:.1f} good/s · "
        f"{progress.output_rate:.0f} output tokens/s",
    )
    grid.add_row("- TTFT", f"p50 {time(progress.ttft_p50)} · p99 {time(progress.ttft_p99)}")
    grid.add_row("- gap", f"p50 {time(progress.gap_p50)} · p99 {time(progress.gap_p99)}")
    grid.add_row("- schedule lag", f"p99 {time(progress.lag_p99)}")
    good = {str(outcome) for outcome in GOOD}
    grid.add_row("all of the run", "" if progress.outcomes else "nothing has ended")
    for outcome, count in progress.outcomes.items():
        colour = "green" if outcome in good else "yellow"
        grid.add_row(f"- {outcome}", f"[{colour}]{count}[/]")
    for lost in progress.lost_workers:
        grid.add_row("[red]lost[/]", escape(lost))
    return grid


def title(name: str, progress: Progress) -> str:
    """Where in its time the run is."""
    if progress.elapsed < 0:
        return f"{name}: begins"
    if progress.elapsed > progress.duration:
        return f"{name}: waits for answers ({progress.elapsed - progress.duration:.0f} s)"
    return f"{name}: {progress.elapsed:.0f} of {progress.duration:.0f} s"


def time(seconds: float | None) -> str:
    """As people say it."""
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
