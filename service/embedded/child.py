"""A process of the stack: started, waited for, and ended with all that it started."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from service.embedded.leash import leashed
from service.errors import UserError

Waiting = Callable[[float, str], None]
"""Called now and then with the seconds waited so far and the last line of the log."""

_POLL_SECONDS = 0.1
_SAY_SECONDS = 5.0
_PROBE_SECONDS = 2.0
_ENDING = (signal.SIGINT, signal.SIGTERM)


class Child:
    """One child process, in a process group of its own.

    Ctrl-C in the terminal does not reach it: the stack ends its parts in order. The kernel sends it
    SIGTERM should this process die without a chance to; `between` is for one whose children are
    killed with it (`leash`).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        *,
        between: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output, _uninterrupted():
            self._process = subprocess.Popen(
                leashed(argv, between=between),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def process(self) -> int:
        """Its number, which is that of its process group, too."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def wait_until_ready(self, url: str, seconds: float, waiting: Waiting) -> None:
        """Return once `url` answers 200. Raises `UserError` when it ends, or not in time."""
        started = said = time.monotonic()
        while not _answers(url):
            now = time.monotonic()
            if self.status is not None:
                raise self.ended()
            if now - started > seconds:
                raise UserError(
                    f"the {self.name} was not ready after {seconds:.0f} s: see {self.log}"
                )
            if now - said >= _SAY_SECONDS:
                said = now
                waiting(now - started, self._last_line())
            time.sleep(_POLL_SECONDS)

    def ended(self) -> UserError:
        """What to say of a process that ended unasked."""
        return UserError(
            f"the {self.name} ended with status {self.status}: {self._complaint()};"
            f" its whole log is {self.log}"
        )

    def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL for what is left of its group after that time."""
        if self.status is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _complaint(self) -> str:
        """The line of its log that says why: our own one, or the last of a traceback."""
        lines = self._lines()
        ours = [line for line in lines if line.startswith("gptoss: ")]
        errors = [line for line in lines if "Error: " in line]
        line = next(iter([*ours, *reversed(errors), *lines[-1:]]), "it said nothing")
        return line.removeprefix("gptoss: ").strip()

    def _last_line(self) -> str:
        line = next(reversed(self._lines()), "")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["message"])  # vLLM's log, which is JSON
        return line.strip()

    def _lines(self) -> list[str]:
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if line.strip()]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=_PROBE_SECONDS, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the child is there: Python drops one that comes while it forks."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
