"""Makes the faults of a scenario at their times, and undoes each of them whatever happens.

A fault that cannot be made is noted with its error, and the run goes on.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, assert_never

from loadtest.errors import UserError
from loadtest.faults.events import Made
from loadtest.faults.pods import Pods
from loadtest.faults.processes import LocalProcess
from loadtest.faults.proxy import Proxy
from loadtest.faults.target import Target
from loadtest.scenario.document import Scenario
from loadtest.scenario.faults import Fault, FaultTarget, KubectlTarget, ProcessTarget, ProxyTarget


class Timeline:
    """The faults of one run. From when it is entered its proxies pass connections; from `begin` on
    faults are made when `clock`, the run's time in s, says so; when it is left, what still lasts is
    undone.

    `targets` are those of the scenario unless they are given.
    """

    def __init__(
        self,
        scenario: Scenario,
        clock: Callable[[], float],
        targets: dict[str, Target] | None = None,
    ) -> None:
        self.made: list[Made] = []
        """Those that were made, or tried, in order of time."""
        self._faults = scenario.faults
        self._clock = clock
        self._targets = _targets(scenario) if targets is None else targets
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises `UserError` if a proxy cannot listen."""
        async with AsyncExitStack() as stack:
            for target in self._targets.values():
                await stack.enter_async_context(target.open())
            self._stack = stack.pop_all()
        return self

    def begin(self) -> None:
        """The run's time goes on from here."""
        self._tasks = [
            asyncio.create_task(self._make(number, fault))
            for number, fault in enumerate(self._faults)
        ]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.undo()
        finally:
            await self._stack.aclose()

    async def undo(self) -> None:
        """Make no more faults, and undo what still lasts. Proxies pass connections on."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, number: int, fault: Fault) -> None:
        await asyncio.sleep(fault.at - self._clock())
        made = Made(number, fault.do, fault.target, began=self._clock())
        self.made.append(made)
        try:
            await self._targets[fault.target].make(fault)
        except UserError as error:
            made.error = str(error)
        except Exception as error:  # what nobody thought of is no reason to lose the run
            made.error = f"{type(error).__name__}: {error}"
        finally:
            made.ended = self._clock()


async def check(scenario: Scenario) -> None:
    """That all faults could be made, before anything is sent. Raises `UserError`."""
    targets = _targets(scenario)
    for fault in scenario.faults:
        await targets[fault.target].check(fault)


def _targets(scenario: Scenario) -> dict[str, Target]:
    """Those that faults are made to, by name. Proxies are all there: who has been pointed at one
    needs it without any fault, too."""
    used = {fault.target for fault in scenario.faults}
    chance = random.Random(scenario.seed)  # noqa: S311
    return {
        name: _target(name, one, chance)
        for name, one in scenario.fault_targets.items()
        if name in used or one.kind == "proxy"
    }


def _target(name: str, target: FaultTarget, chance: random.Random) -> Target:
    match target:
        case ProcessTarget():
            return LocalProcess(name, target)
        case ProxyTarget():
            return Proxy(name, target, chance)
        case KubectlTarget():
            return Pods(name, target)
        case _:
            assert_never(target)
