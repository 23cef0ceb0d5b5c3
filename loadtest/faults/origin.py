"""How a process was started, so that another can be started like it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from loadtest.errors import UserError
from loadtest.faults.process_tree import PROC


class Origin(msgspec.Struct, frozen=True):
    """What a process has from whoever started it."""

    folder: str
    environment: dict[bytes, bytes]
    """Secrets among it: it is handed on, and shown nowhere."""
    output: str
    """The file that it writes to, or /dev/null where it writes to something else."""
    errors: str


def origin(pid: int) -> Origin:
    """Of a process that lives. Raises `OSError`."""
    folder = PROC / str(pid)
    pairs = (one.partition(b"=") for one in (folder / "environ").read_bytes().split(b"\0") if one)
    return Origin(
        folder=str((folder / "cwd").readlink()),
        environment={name: value for name, _, value in pairs},
        output=_file(folder / "fd" / "1"),
        errors=_file(folder / "fd" / "2"),
    )


def start(command: Sequence[str], like: Origin) -> subprocess.Popen[bytes]:
    """In a session of its own: it lives on when the load test is over, and Ctrl-C does not reach
    it. Raises `UserError`."""
    try:
        with _append(like.output) as output, _append(like.errors) as errors:
            return subprocess.Popen(
                command,
                cwd=like.folder,
                env=like.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
    except OSError as error:
        raise UserError(f"{command[0]} could not be started again: {error.strerror}") from None


def _file(link: Path) -> str:
    try:
        path = link.readlink()
    except OSError:
        return os.devnull
    return str(path) if path.is_file() else os.devnull


def _append(path: str) -> IO[bytes]:
    return Path(path).open("ab")
