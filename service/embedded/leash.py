"""Becomes another program, which the kernel ends should the one that started it die.

    python leash.py PARENT become|watch PROGRAM ARGUMENT…

A file of its own that is run by itself: what the child has to do before it becomes its program must
not be done between fork and exec of a process with threads, as those of Ray are. It also takes
signals again that its parent held back while it forked.

`watch` does not become the program, but stays between: for a parent whose children are killed with
it, as Ray does. Then the one between is killed, and the program is told to end in good order.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGINT, signal.SIGTERM)


def leashed(argv: Sequence[str], *, between: bool = False) -> list[str]:
    """The command that runs `argv` so. The thread that starts it has to live as long as it."""
    # Neither site-packages nor the environment's Python settings: it starts in 10 ms.
    how = "watch" if between else "become"
    return [sys.executable, "-ISE", __file__, str(os.getpid()), how, *argv]


def main() -> None:
    """Take the leash, then become the program, or watch it."""
    parent, how, *argv = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before that: nobody would end this process
        raise SystemExit(1)
    if how == "watch":
        raise SystemExit(_watch(argv))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        raise SystemExit(f"cannot start {argv[0]}: {error.strerror}") from None


def _watch(argv: Sequence[str]) -> int:
    """Pass signals on to the program. Returns its status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until there is whom to tell
    program = subprocess.Popen(leashed(argv))
    for number in _ENDING:
        signal.signal(number, lambda number, _: program.send_signal(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    status = program.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    main()
