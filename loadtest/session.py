"""One run of a scenario, with all that goes on beside it: faults, scrapes, alerts, a mark in
Grafana."""

import asyncio
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version

import msgspec

from loadtest import annotation
from loadtest.annotation import Mark
from loadtest.client import meters, probe
from loadtest.client.data import Endpoint, Health, Progress, RunData, WorkerStats
from loadtest.client.meters import Busy, LoopLag
from loadtest.client.run import run
from loadtest.client.signals import Signals
from loadtest.faults import seen, timeline
from loadtest.faults.alerts import Watch
from loadtest.faults.timeline import Timeline
from loadtest.folder import Circumstances, Keeper
from loadtest.keys import keys, variables
from loadtest.plan.plan import TeamPlan, plan
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.server_metrics import Scraper
from loadtest.summarise import summarise
from loadtest.summary import Summary


class Clock:
    """The run's time, s since its time 0. Before that is known it is negative without end."""

    def __init__(self) -> None:
        self._zero = float("inf")

    def __call__(self) -> float:
        """Now."""
        return time.monotonic() - self._zero

    def begin(self, zero: float) -> None:
        """Time 0 is then, of the monotonic clock."""
        self._zero = zero


class Parent:
    """How this process does: connections that go through a fault proxy are carried by it."""

    NUMBER = -1

    def __init__(self) -> None:
        self._lag = LoopLag()
        self._busy = Busy()

    def begin(self) -> None:
        """From here on."""
        self._lag.start()
        self._busy.mark()

    def look(self) -> None:
        """To be called about twice a second."""
        self._busy.mark()

    def end(self) -> None:
        """Until here."""
        self._lag.stop()

    def stats(self) -> WorkerStats:
        """As of a worker that sends nothing."""
        cpu, lags = self._busy.percent, self._lag.lags()
        return WorkerStats(self.NUMBER, cpu, lags, sent=0, cpu=self._busy.percents)

    def condition(self) -> WorkerStats:
        """The same until now, in brief."""
        lags = meters.few(self._lag.lags())
        return WorkerStats(self.NUMBER, self._busy.percent, lags, sent=0)


class Session:
    """A run to be. `note` is told, in a line each, what went wrong beside it."""

    def __init__(
        self, scenario: Scenario, environment: Mapping[str, str], note: Callable[[str], None]
    ) -> None:
        self._scenario = scenario
        self._environment = environment
        self._note = note
        self._clock = Clock()
        self._id = secrets.token_hex(6)
        self._parent = Parent()

    async def play(
        self,
        observe: Callable[[Progress], None],
        enough: asyncio.Event | None = None,
        keeper: Keeper | None = None,
        signals: Signals | None = None,
    ) -> tuple[Circumstances, list[Record]]:
        """Run it, to its end, to Ctrl-C, or until there is `enough`. A `keeper` gets all of it as
        it comes. `signals` are those of who takes them for longer. Raises `UserError` where it
        cannot begin."""
        scenario = self._scenario
        known = machine()
        await timeline.check(scenario)
        plans = await asyncio.to_thread(plan, scenario)
        endpoint, mark = self._endpoint(), self._mark()
        async with AsyncExitStack() as stack:
            # Signals outermost, so that none breaks off what is undone. Then proxies: they may be
            # what the target is reached through.
            signals = signals or stack.enter_context(Signals())
            faults = await stack.enter_async_context(Timeline(scenario, self._clock))
            probed = await probe.probe(endpoint)
            endpoint = msgspec.structs.replace(endpoint, model=probed.model)
            scraper = await stack.enter_async_context(Scraper(scenario.scrapes, self._clock))
            watch = await self._watch(stack)
            found = Circumstances(
                data=_unfinished(self._id),
                target=endpoint.url,
                model=endpoint.model,
                overhead_tokens=probed.overhead_tokens or 0,
                machine=known,
                plans=plans,
            )
            if keeper is not None:
                await asyncio.to_thread(keeper.begin, found)
            with self._measured():
                data = await run(
                    scenario,
                    plans,
                    endpoint,
                    lambda progress: self._observed(progress, observe),
                    overhead=probed.overhead_tokens or 0,
                    run_id=self._id,
                    started=lambda zero: self._begin(zero, faults, mark),
                    keep=keeper.add if keeper is not None else lambda _: None,
                    health=lambda one: self._stands(found, one, faults, watch, keeper),
                    enough=enough,
                    signals=signals,
                )
            # Before anything else that may take its time.
            await faults.undo()
            await mark.ended(data.began + data.seconds)
        for line in (*scraper.notes, *(watch.notes if watch else ()), *mark.notes):
            self._note(line)
        if self._carries:
            data.workers.append(self._parent.stats())
        records, data.records = data.records, []
        found.data, found.made, found.series = data, faults.made, scraper.series()
        self._note_alerts(found, watch)
        return found, records

    def _note_alerts(self, found: Circumstances, watch: Watch | None) -> None:
        if watch is not None:
            found.firings, found.watched = watch.firings, watch.answered

    @contextmanager
    def _measured(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._parent.end()

    @property
    def _carries(self) -> bool:
        """Whether connections go through this process."""
        return any(one.kind == "proxy" for one in self._scenario.fault_targets.values())

    def _stands(
        self,
        found: Circumstances,
        health: Health,
        faults: Timeline,
        watch: Watch | None,
        keeper: Keeper | None,
    ) -> None:
        """Keep what is known beside the records, for the report of a run that dies."""
        if keeper is None:
            return
        own = [self._parent.condition()] if self._carries else []
        found.data.workers = [*health.workers, *own]
        found.data.lost_workers = health.lost_workers
        found.data.clock_steps = health.clock_steps
        found.made = faults.made
        self._note_alerts(found, watch)
        keeper.stand(found)

    def _observed(self, progress: Progress, observe: Callable[[Progress], None]) -> None:
        self._parent.look()
        observe(progress)

    def _endpoint(self) -> Endpoint:
        target = self._scenario.target
        return Endpoint(
            target.url.rstrip("/").removesuffix("/v1"),
            target.model,
            keys(self._scenario, self._environment),
            dict(target.headers),
            target.verify_tls,
            variables(self._scenario),
        )

    def _begin(self, zero: float, faults: Timeline, mark: Mark) -> None:
        self._clock.begin(zero)
        self._parent.begin()
        faults.begin()
        mark.began(time.time())

    async def _watch(self, stack: AsyncExitStack) -> Watch | None:
        if not self._scenario.prometheus:
            return None
        return await stack.enter_async_context(Watch(self._scenario.prometheus, self._clock))

    def _mark(self) -> Mark:
        token = self._environment.get(annotation.TOKEN, "")
        return Mark(self._scenario.grafana, token, self._scenario.name, self._id)


def concluded(scenario: Scenario, circumstances: Circumstances, records: list[Record]) -> Summary:
    """What a run comes to. One that died is as one that was interrupted."""
    plans: Mapping[str, TeamPlan] = circumstances.plans or plan(scenario)
    ends = [record.ended for record in records if record.ended is not None]
    seconds = circumstances.data.seconds or max(ends, default=0.0)
    data = msgspec.structs.replace(circumstances.data, records=records, seconds=seconds)
    return summarise(
        scenario,
        data,
        plans,
        target=circumstances.target,
        model=circumstances.model,
        machine=circumstances.machine,
        overhead_tokens=circumstances.overhead_tokens,
        faults=seen.seen(circumstances.made, records, scenario, circumstances.firings),
        watched=circumstances.watched,
        series=circumstances.series,
    )


def _unfinished(run_id: str) -> RunData:
    """What a run has from its beginning until its end replaces it: what one that dies leaves."""
    return RunData(
        records=[],
        workers=[],
        began=time.time(),
        seconds=0.0,
        interrupted=True,
        clock_steps=0.0,
        run=run_id,
        died=True,
    )


def machine() -> dict[str, str]:
    """What the load test ran on."""
    try:
        own = version("gptoss-serving")
    except PackageNotFoundError:  # run out of its sources
        own = "unknown"
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": str(os.cpu_count() or 1),
        "gptoss-serving": own,
    }
