"""Processes of this machine and what they have started, as Linux tells it in /proc.

A process is held by a file descriptor of its own (`pidfd`), so that a signal can never reach
another one that got its number meanwhile. What belongs to another user is not touched.
"""

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

PROC: Final = Path("/proc")
# A process that starts others faster than they can be stopped is not waited for.
_MOST_ROUNDS: Final = 50


class Process(msgspec.Struct, frozen=True):
    """One that lives: those that have ended and were not waited for are left out."""

    pid: int
    parent: int
    started: int
    """In ticks since the machine's start: with its number it is one process for ever."""
    user: int
    command: str
    """Its words, with a space between."""


class Held(msgspec.Struct, frozen=True):
    """A process, and the descriptor by which signals reach it."""

    process: Process
    descriptor: int

    def send(self, number: signal.Signals) -> bool:
        """Whether it was there to get it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)
            return True
        return False

    def close(self) -> None:
        """It is held no longer."""
        os.close(self.descriptor)


def all_processes() -> dict[int, Process]:
    """Of all users, by number."""
    pids = [int(one.name) for one in PROC.iterdir() if one.name.isdigit()]
    found = [process for pid in pids if (process := look(pid)) is not None]
    return {process.pid: process for process in found}


def look(pid: int) -> Process | None:
    """None: there is none, or it has ended."""
    folder = PROC / str(pid)
    try:
        # Its name, in parentheses, may hold spaces and parentheses itself.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        words = (folder / "cmdline").read_bytes().split(b"\0")
        user = folder.stat().st_uid
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if fields[0] in "ZXx":
        return None
    command = b" ".join(word for word in words if word).decode(errors="replace")
    return Process(pid, int(fields[1]), int(fields[19]), user, command)


def descendants(pid: int, processes: dict[int, Process]) -> list[Process]:
    """What it has started, and what these have, parents first."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found = list(children.get(pid, []))
    for process in found:
        found += children.get(process.pid, [])
    return found


def ancestors(pid: int, processes: dict[int, Process]) -> list[Process]:
    """What has started it, nearest first."""
    found = []
    while (process := processes.get(pid)) is not None and process.parent != pid:
        pid = process.parent
        found += [processes[pid]] if pid in processes else []
    return found


def hold(process: Process) -> Held | None:
    """None: it has ended, or its number is another one's now."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    now = look(process.pid)
    if now is None or now.started != process.started:
        os.close(descriptor)
        return None
    return Held(process, descriptor)


def stop_tree(root: Process) -> list[Held]:
    """Let it and all that it has started stand still: they are held, parents first.

    In rounds, until nothing new is found: what runs may still start something.
    """
    stopped: list[Held] = []
    try:
        for _ in range(_MOST_ROUNDS):
            known = {held.process.pid for held in stopped}
            new = list(_held(one for one in _tree(root) if one.pid not in known))
            if not new:
                break
            for held in new:
                stopped.append(held)
                held.send(signal.SIGSTOP)
    except BaseException:
        release(stopped, signal.SIGCONT)
        raise
    return stopped


def release(tree: Sequence[Held], number: signal.Signals) -> None:
    """The last signal that these get: children first, so that none is found missing."""
    for held in reversed(tree):
        with suppress(PermissionError):
            held.send(number)
        held.close()


def _tree(root: Process) -> list[Process]:
    below = descendants(root.pid, all_processes())
    return [root, *(process for process in below if process.user == root.user)]


def _held(processes: Iterable[Process]) -> Iterator[Held]:
    for process in processes:
        held = hold(process)
        if held is not None:
            yield held
