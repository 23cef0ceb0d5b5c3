"""Faults of pods, by `kubectl` with the context that it has.

- `kill` deletes them at once (`--grace-period=0 --force`), `restart` as a rollout does, with their
  grace period; whoever made them makes new ones. Both are over with the order.
- `stop` lets what runs in a container stand still. Its process 1 cannot be stopped, nor killed,
  from within its own namespace: the kernel drops these signals. So all others of the container are:
  an engine has its processes below it, and so has a server with workers. Where there are none, the
  pod has to run with an init process or with `shareProcessNamespace: true`, and the error says so.
  The container needs a shell.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from loadtest.errors import UserError
from loadtest.scenario.faults import Fault, KubectlTarget

TIMEOUT: Final = 30.0
"""How long a call of `kubectl` may take, s."""

# `-ef` tells without any program whether two are in the same container: they have the same mounts.
_SIGNAL_ALL: Final = """\
n=0
for p in /proc/[0-9]*; do
  p=${p#/proc/}
  [ "$p" = 1 ] || [ "$p" = $$ ] && continue
  [ /proc/$p/ns/mnt -ef /proc/$$/ns/mnt ] && kill -SIGNAL $p 2>/dev/null && n=$((n+1))
done
[ $n -gt 0 ] || exit 3
"""
_NAMES: Final = (
    '{range .items[?(@.status.phase=="Running")]}{.metadata.name}{" "}'
    '{.spec.containers[*].name}{"\\n"}{end}'
)


class Pods:
    """Those that a selector finds. `name` is the target's, for messages."""

    def __init__(self, name: str, target: KubectlTarget, timeout: float = TIMEOUT) -> None:
        self._name = name
        self._target = target
        self._timeout = timeout

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Nothing is needed."""
        yield

    async def check(self, fault: Fault) -> None:
        """That `kubectl` finds a pod that runs, with the container that is named."""
        if shutil.which("kubectl") is None:
            raise UserError(f"fault target {self._name} needs kubectl, which is not on the PATH")
        await self._pods()

    async def make(self, fault: Fault) -> None:
        """Makes and undoes it."""
        if fault.do == "stop":
            await self._stop(fault.lasts)
            return
        at_once = ("--grace-period=0", "--force") if fault.do == "kill" else ()
        pods = await self._pods()
        await self._kubectl("delete", "pod", *pods, "--wait=false", *at_once)

    async def _stop(self, lasts: float) -> None:
        pods = await self._pods()
        try:
            for pod in pods:
                await self._signal(pod, "STOP")
            await asyncio.sleep(lasts)
        finally:
            await self._go_on(pods)

    async def _go_on(self, pods: list[str]) -> None:
        """All of them, also where one cannot be stopped, or does not go on. Who is cancelled
        meanwhile sees to that first: a pod that stands still would do so for good."""
        errors = []
        cancelled: asyncio.CancelledError | None = None
        for pod in pods:
            told = False
            while not told:
                try:
                    await self._signal(pod, "CONT")
                except UserError as error:
                    errors.append(error)
                except asyncio.CancelledError as error:
                    cancelled = error
                    continue  # that has ended the `kubectl`: once more
                told = True
        if errors:
            raise errors[0]
        if cancelled is not None:
            raise cancelled

    async def _signal(self, pod: str, signal: str) -> None:
        script = _SIGNAL_ALL.replace("SIGNAL", signal)
        within = ("-c", self._target.container, "--", "sh", "-c", script)
        try:
            await self._kubectl("exec", pod, *within)
        except UserError as error:
            if not str(error).endswith("exit code 3"):
                raise
            raise UserError(
                f"nothing in {self._target.container} of {pod} gets signals but process 1, which"
                " is immune to them: give it an init process, or `shareProcessNamespace: true`"
            ) from None

    async def _pods(self) -> list[str]:
        """Their names. Raises `UserError` if there are none."""
        found = await self._kubectl(
            "get", "pods", "-l", self._target.selector, "-o", f"jsonpath={_NAMES}"
        )
        lines = [line.split() for line in found.splitlines() if line.strip()]
        where = f"{self._target.selector} in {self._target.namespace}"
        if not lines:
            raise UserError(f"fault target {self._name}: no pod of {where} runs")
        wanted = self._target.container
        for pod, *containers in lines:
            if wanted and wanted not in containers:
                raise UserError(
                    f"fault target {self._name}: pod {pod} has no container {wanted}, but"
                    f" {', '.join(containers)}"
                )
        return [line[0] for line in lines]

    async def _kubectl(self, *words: str) -> str:
        """What it answers. Raises `UserError` with its last line."""
        command = ("kubectl", "-n", self._target.namespace, *words)
        try:
            return await _answer(command, self._timeout)
        except TimeoutError:
            raise UserError(f"kubectl {words[0]} took more than {self._timeout:g} s") from None
        except OSError as error:
            raise UserError(f"kubectl {words[0]}: {error.strerror}") from None


async def _answer(command: Sequence[str], seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, errors = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        lines = [line.strip() for line in errors.decode(errors="replace").splitlines()]
        said = next((line for line in reversed(lines) if line), f"status {process.returncode}")
        raise UserError(f"kubectl {command[3]}: {said[:300]}")
    return out.decode(errors="replace")
