"""Faults of a process of this machine.

`kill` and `stop` reach all that it has started too, by who started whom (an engine has processes of
its own below it): not its process group, in which a shell puts what has nothing to do with it.
`restart` asks the process alone to end, which is to tell the others.

A process can be found by its command line also after it was started again. Where a number in a file
names it and the new one does not write that file, it is still the one that was started here.
"""

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from loadtest.errors import UserError
from loadtest.faults.origin import Origin, origin, start
from loadtest.faults.process_tree import (
    Held,
    Process,
    all_processes,
    ancestors,
    descendants,
    hold,
    look,
    release,
    stop_tree,
)
from loadtest.scenario.faults import Fault, ProcessTarget

PATIENCE: Final = 60.0
"""How long a process that is restarted may take to end, s."""
_KILLED_WITHIN: Final = 10.0
_LOOK_EVERY: Final = 0.02
_MOST_SHOWN: Final = 5


class LocalProcess:
    """A process of this machine. `name` is the target's, for messages."""

    def __init__(self, name: str, target: ProcessTarget, patience: float = PATIENCE) -> None:
        self._name = name
        self._target = target
        self._patience = patience
        self._stops = 0
        self._child: subprocess.Popen[bytes] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Nothing is needed."""
        yield

    async def check(self, fault: Fault) -> None:
        """That there is one such process, and a command where it is to be started again."""
        self._find()
        command = self._target.restart
        if fault.do == "restart" and not command:
            raise UserError(f"to restart {self._name}, give its command: `restart: [...]`")
        if command and shutil.which(command[0]) is None:
            raise UserError(f"fault target {self._name}: there is no program {command[0]}")

    async def make(self, fault: Fault) -> None:
        """Makes and undoes it."""
        root = self._find()
        if fault.do == "stop":
            await self._stop(root, fault.lasts)
        elif fault.do == "kill":
            await self._kill(root, fault.lasts)
        else:
            await self._restart(root)

    async def _stop(self, root: Process, lasts: float) -> None:
        tree = stop_tree(root)
        self._stops += 1
        try:
            await asyncio.sleep(lasts)
        finally:
            self._stops -= 1
            # Of two at a time the one that ends last lets it go on.
            release(tree, signal.SIGSTOP if self._stops else signal.SIGCONT)

    async def _kill(self, root: Process, lasts: float) -> None:
        before = self._origin(root)
        tree = stop_tree(root)
        try:
            _send(tree, signal.SIGKILL)
            await _gone(tree, _KILLED_WITHIN)
            if before:
                await asyncio.sleep(lasts)
        finally:
            release(tree, signal.SIGKILL)
            if before:
                self._child = start(self._target.restart, before)

    async def _restart(self, root: Process) -> None:
        before = self._origin(root)
        below = (hold(one) for one in descendants(root.pid, all_processes()))
        tree = [one for one in (hold(root), *below) if one and one.process.user == root.user]
        try:
            _send(tree[:1], signal.SIGTERM)
            ended = await _gone(tree, self._patience)
        finally:
            _send(tree, signal.SIGKILL)
            await _gone(tree, _KILLED_WITHIN)
            release(tree, signal.SIGKILL)
            if before:
                self._child = start(self._target.restart, before)
        if not ended:
            raise UserError(
                f"{self._name} still ran {self._patience:g} s after SIGTERM, and was killed"
            )

    def _origin(self, root: Process) -> Origin | None:
        """None: it is not to be started again."""
        if not self._target.restart:
            return None
        try:
            return origin(root.pid)
        except OSError as error:
            raise UserError(f"cannot see how {self._name} was started: {error.strerror}") from None

    def _find(self) -> Process:
        """Raises `UserError` if there is none, or more than one."""
        if sys.platform != "linux":
            raise UserError("faults of processes can be made on Linux only")
        found = self._started() or self._named()
        if found.user != os.getuid():
            raise UserError(
                f"fault target {self._name}: process {found.pid} belongs to another user, and is"
                " not touched"
            )
        return found

    def _started(self) -> Process | None:
        """The one that was started here, while it lives."""
        if self._child is None or self._child.poll() is not None:
            return None
        return look(self._child.pid)

    def _named(self) -> Process:
        processes = all_processes()
        own = {os.getpid(), *(one.pid for one in ancestors(os.getpid(), processes))}
        if self._target.pid_file is None:
            return self._matching(processes, own)
        pid = _number(self._name, self._target.pid_file)
        if pid in own:
            raise UserError(f"fault target {self._name}: process {pid} is the load test itself")
        if pid not in processes:
            raise UserError(
                f"fault target {self._name}: there is no process {pid}, which"
                f" {self._target.pid_file} names"
            )
        return processes[pid]

    def _matching(self, processes: dict[int, Process], own: set[int]) -> Process:
        part = self._target.command
        myself = processes[os.getpid()].command
        # The load test's own workers are those with its own words.
        found = [
            one
            for one in processes.values()
            if part in one.command and one.pid not in own and one.command != myself
        ]
        # Those that one of them has started, as workers of a server, go with it.
        for one in found:
            if len(found) - 1 == len({*descendants(one.pid, processes)} & {*found}):
                return one
        if not found:
            raise UserError(f"fault target {self._name}: no process has {part!r} in its command")
        shown = "; ".join(f"{one.pid} {one.command[:60]}" for one in found[:_MOST_SHOWN])
        raise UserError(
            f"fault target {self._name}: {len(found)} processes have {part!r} in their command,"
            f" give more of it: {shown}"
        )


def _number(name: str, file: Path) -> int:
    try:
        return int(file.read_text().split()[0])
    except OSError as error:
        raise UserError(f"fault target {name}: {file}: {error.strerror}") from None
    except (ValueError, IndexError):
        raise UserError(f"fault target {name}: {file} holds no number of a process") from None


def _send(tree: Sequence[Held], number: signal.Signals) -> None:
    for held in tree:
        held.send(number)


async def _gone(tree: Sequence[Held], seconds: float) -> bool:
    """Whether all of these end within that time."""
    waiting = select.poll()
    for held in tree:
        waiting.register(held.descriptor, select.POLLIN)
    deadline = asyncio.get_running_loop().time() + seconds
    while len(waiting.poll(0)) < len(tree):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_LOOK_EVERY)
    return True
