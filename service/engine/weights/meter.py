"""Work on several files at once, with one progress, and a stop that is felt soon."""

from collections import deque
from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread, get_ident

Progress = Callable[[int, int, str], None]
"""Called with (bytes done, bytes in all, what is being done), always in the caller's thread."""

# One connection to the Hub's CDN rarely fills a data centre's line, and hashing fills one core.
WIDTH = 4
REPORT_EVERY = 0.1
PATIENCE = 2.0


class Stopped(Exception):
    """Another file failed, or the user interrupted: leave what there is, and end."""


class Meter:
    """Bytes done in one phase; the workers add, the caller's thread reports."""

    def __init__(self, progress: Progress, note: str, done: int = 0, total: int = 0) -> None:
        self._progress = progress
        self._note = note
        self._done = done
        self._total = total
        self._lock = Lock()
        self._stop = Event()
        self._waiting: dict[object, str] = {}
        self._owner = get_ident()

    def add(self, count: int) -> None:
        """Count bytes; raises Stopped when the work is to end."""
        if self._stop.is_set():
            raise Stopped
        with self._lock:
            self._done += count

    def wait(self, seconds: float, why: str) -> None:
        """Sleep, telling why, until the time is over or the work is to end."""
        key = object()
        self._waiting[key] = why
        try:
            if get_ident() == self._owner:
                self.report()
            if self._stop.wait(seconds):
                raise Stopped
        finally:
            del self._waiting[key]

    def report(self) -> None:
        """Tell the caller how far it is."""
        why = next(iter(list(self._waiting.values())), "")
        self._progress(self._done, self._total, why or self._note)

    def run(self, jobs: Iterable[Callable[[], None]]) -> None:
        """Do the jobs, a few at once. The first that fails stops the others; its error is raised.

        The threads are daemons and are waited for only briefly: one of them may hang in a read, and
        Ctrl-C must not. What such a thread still writes is a right prefix, and the hash is checked
        before a file is used.
        """
        queue = deque(jobs)
        if not queue:
            return
        errors: list[Exception] = []

        def work() -> None:
            while not self._stop.is_set():
                try:
                    job = queue.popleft()
                except IndexError:
                    return
                try:
                    job()
                except Stopped:
                    return
                except Exception as error:
                    errors.append(error)
                    self._stop.set()

        self.report()
        threads = [Thread(target=work, daemon=True) for _ in range(min(WIDTH, len(queue)))]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive() and not self._stop.is_set():
                    thread.join(REPORT_EVERY)
                    self.report()
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(PATIENCE)
        if errors:
            raise errors[0]
        self.report()
