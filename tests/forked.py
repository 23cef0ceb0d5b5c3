"""Runs `gptoss` many times for one start: each run is a fork of a process that has imported it.

Importing takes seconds of CPU; a test of the command line needs processes, not imports.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Forked:
    """A process that runs `gptoss` in a fork of itself, as often as it is asked."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)

    def said(self) -> str:
        """What the one that runs has printed so far."""
        path = self._scratch / "stdout"
        return path.read_text() if path.exists() else ""

    def run(
        self, words: Sequence[str], env: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `gptoss` with these words; it ends by itself."""
        paths = [self._scratch / name for name in ("stdin", "stdout", "stderr")]
        paths[0].write_text(stdin)
        order = {"words": list(words), "env": dict(env), "paths": [str(path) for path in paths]}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        out, error = (path.read_text() for path in paths[1:])
        paths[1].unlink()
        return subprocess.CompletedProcess(list(words), status, out, error)


def _serve() -> None:
    import_module("service.database.opened")  # a command imports it when it needs it
    from service.cli.main import main

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(order)
            os._exit(_status(main))  # the interpreter's own end would clean up what it shares
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(order: dict[str, Any]) -> None:
    source, out, error = order["paths"]
    files = [os.open(source, os.O_RDONLY)]
    files += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in (out, error)]
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin = os.fdopen(0)  # the old one holds what it had read ahead
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["gptoss", *order["words"]]


def _status(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve()
