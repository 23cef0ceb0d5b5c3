"""One worker process, as its parent sees it."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import loadtest
from loadtest.client import wire

# Nothing was heard of it for so long: it stands still, and nobody waits for it any more. It tells
# twice a second, but not while it prepares the first requests.
_SILENCE = 30.0
_SILENCE_BEFORE = 120.0
_LAST_LINES = 8


class Lost(Exception):
    """A worker has died, or stands still. Its text says why, in one line."""


class Crewman:
    """The process and the line to it. `Crewman.hire` starts it."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        errors: Path,
    ) -> None:
        self.number = number
        self._process = process
        self._reader, self._writer = streams
        self._errors = errors
        self._began = False

    @classmethod
    async def hire(cls, number: int, job: wire.Job) -> "Crewman":
        """Start one, and tell it its job."""
        ours, theirs = socket.socketpair()
        handle, errors = tempfile.mkstemp(prefix="loadtest-worker-")
        # Its own session: Ctrl-C is for the parent, which ends workers in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loadtest.client.worker",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=environment(),
        )
        theirs.close()
        os.close(handle)
        one = cls(number, process, await asyncio.open_connection(sock=ours), Path(errors))
        one.tell(job)
        return one

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def tell(self, message: wire.ToWorker) -> None:
        """Say something to it. One that is gone does not mind."""
        self._began = self._began or isinstance(message, wire.Start)
        if not self._writer.is_closing():
            self._writer.write(wire.frame(message))

    async def hear(self) -> wire.FromWorker:
        """What it says next. Raises `Lost`."""
        silence = _SILENCE if self._began else _SILENCE_BEFORE
        try:
            return await asyncio.wait_for(wire.from_worker(self._reader), silence)
        except TimeoutError:
            raise Lost(f"worker {self.number} was silent for {silence:.0f} s") from None
        except EOFError:
            raise Lost(f"worker {self.number} {await self._why()}") from None

    async def dismiss(self) -> None:
        """End it, if it has not ended by itself."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), 2.0)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._errors.unlink(missing_ok=True)

    async def _why(self) -> str:
        """How it died: the end of what it said, or the signal."""
        try:
            code = await asyncio.wait_for(self._process.wait(), 2.0)
        except TimeoutError:
            return "closed its line"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        # The end of a traceback says what went wrong, and where.
        said = " | ".join(line.strip() for line in lines[-_LAST_LINES:])
        return f"ended with {code}: {said}" if lines else f"ended with {code}"


def environment() -> dict[str, str]:
    """This process's, in which the worker finds the same modules."""
    own = str(Path(loadtest.__file__).parent.parent)
    paths = [own, *(path for path in sys.path if path)]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
