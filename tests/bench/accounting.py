"""What processes took, by the kernel's own books: CPU time and memory."""

import contextlib
import os
import time
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED: Final = 2
_PARENT, _WAITED_USER, _WAITED_SYSTEM = 1, 13, 14  # of /proc/PID/stat, counted from the state


def tree(root: int) -> list[int]:
    """A process, and all that come from it and live."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(folder.name))[_PARENT]), []).append(
                    int(folder.name)
                )
    found = [root]
    for pid in found:  # it grows meanwhile
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """CPU time of a process and of all that come from it, user and system, in s.

    By each process's own clock, which counts nanoseconds and its ended threads, too; the ticks in
    /proc/PID/stat are 10 ms, a tenth of what a short phase takes. Of children that have ended the
    ticks are all there is. Raises `OSError`: `ProcessLookupError` where the process is gone,
    another where the machine has no such clock.
    """
    if not Path(f"/proc/{root}").exists():
        raise ProcessLookupError(f"process {root} has ended")
    spent = 0.0
    for pid in tree(root):
        try:
            spent += _spent(pid)
        except OSError:
            if pid == root:  # of others: ended meanwhile, and the parent has its time
                raise
    return spent


def _spent(pid: int) -> float:
    fields = _stat(pid)
    waited = (int(fields[_WAITED_USER]) + int(fields[_WAITED_SYSTEM])) / _TICKS
    # As clock_getcpuclockid(3) makes it.
    return waited + time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def memory_bytes(root: int) -> int:
    """Memory of a process and of all that come from it: PSS, so that shared pages count once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            total += _pss(pid)
    return total


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _stat(pid: int) -> list[str]:
    # The name before it may hold spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
