"""Plays a scenario: starts the workers, gathers what they tell, and ends with all of it."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loadtest.client import crew, wire
from loadtest.client.crewman import Crewman, Lost
from loadtest.client.data import Endpoint, Health, Progress, RunData, WorkerStats
from loadtest.client.signals import Signals
from loadtest.client.wall_clock import WallClock
from loadtest.client.window import Window
from loadtest.errors import UserError
from loadtest.plan import plan
from loadtest.plan.plan import TeamPlan
from loadtest.record import Record
from loadtest.scenario.document import Scenario

_EVERY = 0.5
# From when all workers are ready to the run's time 0: until then each must have heard of it.
_LEAD = 0.5
# After Ctrl-C, for what is under way.
_GRACE = 2.0
# After that, for a worker to tell its last. One that does not is ended.
_LAST_WORDS = 10.0


async def run(
    scenario: Scenario,
    plans: Mapping[str, TeamPlan],
    endpoint: Endpoint,
    observe: Callable[[Progress], None],
    *,
    overhead: int = 0,
    run_id: str = "",
    started: Callable[[float], None] = lambda _: None,
    keep: Callable[[list[Record]], None] = lambda _: None,
    health: Callable[[Health], None] = lambda _: None,
    enough: asyncio.Event | None = None,
    signals: Signals | None = None,
    conversations: str = "loadtest.client.source:prompts",
) -> RunData:
    """Play a scenario to its end, or to Ctrl-C or SIGTERM: then what there is so far is returned.

    `observe` is called twice a second. `started` is called once, with the run's time 0 of the
    monotonic clock, shortly before that. `keep` gets records as they arrive, and `health` how the
    load test does, each few seconds. Once there is `enough`, it ends as by Ctrl-C, and may still
    be ended at once by two of them. `overhead` is what the server puts around a prompt, in tokens;
    `conversations` names what makes requests, `module:function`. To be awaited in the main thread,
    where signals arrive; `signals` are those of who takes them for longer than the run.
    """
    workers = scenario.workers or crew.size(scenario, plans, os.cpu_count() or 1)
    running = _Run(scenario, endpoint, observe, keep, health, run_id or secrets.token_hex(8))
    jobs = [
        running.job(number, plan.slice(plans, number, workers), plans, overhead, conversations)
        for number in range(workers)
    ]
    with contextlib.ExitStack() as stack:
        signals = signals or stack.enter_context(Signals())
        stack.enter_context(signals.heard_by(running.interrupt))
        stack.enter_context(running.ending(enough or asyncio.Event()))
        return await running.play(jobs, started)


class _Run:
    """One run, as it goes."""

    def __init__(
        self,
        scenario: Scenario,
        endpoint: Endpoint,
        observe: Callable[[Progress], None],
        keep: Callable[[list[Record]], None],
        health: Callable[[Health], None],
        run_id: str,
    ) -> None:
        self._scenario = scenario
        self._endpoint = endpoint
        self._observe = observe
        self._keep = keep
        self._health = health
        self._id = run_id
        self._crew: list[Crewman] = []
        self._records: list[Record] = []
        self._stats: list[WorkerStats] = []
        self._conditions: dict[int, WorkerStats] = {}
        self._has_news = False
        self._lost: list[str] = []
        self._gone: set[int] = set()
        self._window = Window(scenario.duration)
        self._wall = WallClock()
        self._interrupts = 0
        self._ending = asyncio.Event()
        self._at = 0.0

    def job(
        self,
        number: int,
        part: Mapping[str, TeamPlan],
        plans: Mapping[str, TeamPlan],
        overhead: int,
        conversations: str,
    ) -> wire.Job:
        """What one worker does."""
        return wire.Job(
            worker=number,
            scenario=self._scenario.model_dump_json(by_alias=True),
            endpoint=self._endpoint,
            run=self._id,
            overhead=overhead,
            arrivals={team: its.arrivals for team, its in part.items()},
            clients={team: len(its.arrivals) for team, its in plans.items() if its.closed},
            conversations=conversations,
        )

    async def play(self, jobs: list[wire.Job], started: Callable[[float], None]) -> RunData:
        """All of it."""
        try:
            for job in jobs:
                self._crew.append(await Crewman.hire(job.worker, job))
            await self._until_ready()
            self._at = time.monotonic() + _LEAD
            began = time.time() + _LEAD
            if not self._ending.is_set():
                started(self._at)
                for worker in self._crew:
                    worker.tell(wire.Start(self._at))
                await self._gather()
        finally:
            await asyncio.gather(*(worker.dismiss() for worker in self._crew))
        ends = [record.ended for record in self._records if record.ended is not None]
        return RunData(
            records=self._records,
            workers=sorted(self._stats, key=lambda one: one.worker),
            began=began,
            seconds=max(ends, default=0.0),
            interrupted=self._ending.is_set(),
            clock_steps=self._wall.steps,
            lost_workers=self._lost,
            run=self._id,
        )

    @contextlib.contextmanager
    def ending(self, enough: asyncio.Event) -> Iterator[None]:
        """The run ends in order once there is enough."""

        async def end() -> None:
            await enough.wait()
            if not self._ending.is_set():
                self._end(_GRACE)

        waiting = asyncio.create_task(end())
        try:
            yield
        finally:
            waiting.cancel()

    def interrupt(self) -> None:
        """End the run in order; a second time, at once. Where it ends already since there is
        enough, the first one hastens nothing."""
        self._interrupts += 1
        if self._interrupts > 1:
            self._end(0.0)
        elif not self._ending.is_set():
            self._end(_GRACE)

    def _end(self, grace: float) -> None:
        self._ending.set()
        for worker in self._crew:
            worker.tell(wire.Stop(grace))

    async def _until_ready(self) -> None:
        """Each worker is ready, or lost."""
        everyone = asyncio.gather(*(self._ready(worker) for worker in self._crew))
        stopped = asyncio.create_task(self._ending.wait())
        await _first_of(everyone, stopped)
        if len(self._gone) == len(self._crew):
            raise UserError(f"no worker could begin: {self._lost[0]}")

    async def _ready(self, worker: Crewman) -> None:
        try:
            await worker.hear()
        except Lost as lost:
            self._lose(worker, lost)

    async def _gather(self) -> None:
        """Until each worker has told its last, or is lost."""
        living = [worker for worker in self._crew if worker.number not in self._gone]
        listening = asyncio.gather(*(self._listen(worker) for worker in living))
        showing = asyncio.create_task(self._show())
        try:
            await _first_of(listening, asyncio.create_task(self._patience()))
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        self._progress()

    async def _listen(self, worker: Crewman) -> None:
        told = False
        try:
            while not told:
                match await worker.hear():
                    case wire.Report() as report:
                        self._records += report.records
                        self._keep(report.records)
                        self._window.add(worker.number, report, time.monotonic() - self._at)
                    case wire.Condition(stats):
                        self._conditions[worker.number] = stats
                        self._has_news = True
                    case wire.Final(stats):
                        self._stats.append(stats)
                        told = True
        except Lost as lost:
            self._lose(worker, lost)
        except asyncio.CancelledError:
            self._lost.append(f"worker {worker.number} did not end")
            raise

    def _lose(self, worker: Crewman, lost: Lost) -> None:
        self._lost.append(str(lost))
        self._gone.add(worker.number)
        self._window.lose(worker.number)
        self._conditions.pop(worker.number, None)
        self._has_news = True

    async def _show(self) -> None:
        while True:
            self._progress()
            self._tell_health()
            await asyncio.sleep(_EVERY)

    def _progress(self) -> None:
        self._wall.look()
        self._observe(self._window.progress(time.monotonic() - self._at, self._lost))

    def _tell_health(self) -> None:
        if self._has_news:
            self._has_news = False
            told = sorted(self._conditions.values(), key=lambda one: one.worker)
            self._health(Health(told, list(self._lost), self._wall.steps))

    async def _patience(self) -> None:
        """How long workers are waited for: to the end of their drain, or after Ctrl-C not long."""
        end = self._at + self._scenario.duration + self._scenario.drain + _LAST_WORDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), end - time.monotonic())
            await asyncio.sleep(_GRACE + _LAST_WORDS)


async def _first_of(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait for either, and end both. An error in either is raised."""
    try:
        await asyncio.wait([one, other], return_when=asyncio.FIRST_COMPLETED)
    finally:
        one.cancel()
        other.cancel()
        results = await asyncio.gather(one, other, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
