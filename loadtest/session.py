"""One run of a scenario, with all that goes on beside it: faults, scrapes, alerts, a mark in
Grafana."""

import asyncio
import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version

import msgspec

from loadtest import annotation
from loadtest.annotation import Mark
from loadtest.client import probe
from loadtest.client.data import Endpoint, Progress
from loadtest.client.run import run
from loadtest.faults import seen, timeline
from loadtest.faults.alerts import Watch
from loadtest.faults.timeline import Timeline
from loadtest.folder import Circumstances
from loadtest.keys import keys
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

    async def play(
        self, observe: Callable[[Progress], None], enough: asyncio.Event | None = None
    ) -> tuple[Circumstances, list[Record]]:
        """Run it, to its end, to Ctrl-C, or until there is `enough`. Raises `UserError` where it
        cannot begin."""
        scenario = self._scenario
        await timeline.check(scenario)
        plans = await asyncio.to_thread(plan, scenario)
        endpoint, mark = self._endpoint(), self._mark()
        async with AsyncExitStack() as stack:
            # Its proxies first: they may be what the target is reached through.
            faults = await stack.enter_async_context(Timeline(scenario, self._clock))
            probed = await probe.probe(endpoint)
            endpoint = msgspec.structs.replace(endpoint, model=probed.model)
            scraper = await stack.enter_async_context(Scraper(scenario.scrapes, self._clock))
            watch = await self._watch(stack)
            data = await run(
                scenario,
                plans,
                endpoint,
                observe,
                overhead=probed.overhead_tokens or 0,
                run_id=self._id,
                started=lambda zero: self._begin(zero, faults, mark),
                enough=enough,
            )
            await mark.ended(data.began + data.seconds)
        firings = watch.firings if watch else []
        for line in (*scraper.notes, *(watch.notes if watch else ()), *mark.notes):
            self._note(line)
        records, data.records = data.records, []
        return Circumstances(
            data=data,
            target=endpoint.url,
            model=endpoint.model,
            overhead_tokens=probed.overhead_tokens or 0,
            machine=machine(),
            made=faults.made,
            firings=firings,
            series=scraper.series(),
        ), records

    def _endpoint(self) -> Endpoint:
        target = self._scenario.target
        return Endpoint(
            target.url.rstrip("/").removesuffix("/v1"),
            target.model,
            keys(self._scenario, self._environment),
            dict(target.headers),
            target.verify_tls,
        )

    def _begin(self, zero: float, faults: Timeline, mark: Mark) -> None:
        self._clock.begin(zero)
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
    """What a run comes to."""
    plans: Mapping[str, TeamPlan] = plan(scenario)
    data = msgspec.structs.replace(circumstances.data, records=records)
    return summarise(
        scenario,
        data,
        plans,
        target=circumstances.target,
        model=circumstances.model,
        machine=circumstances.machine,
        overhead_tokens=circumstances.overhead_tokens,
        faults=seen.seen(circumstances.made, records, scenario, circumstances.firings),
        series=circumstances.series,
    )


def machine() -> dict[str, str]:
    """What the load test ran on."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": str(os.cpu_count() or 1),
        "gptoss-serving": version("gptoss-serving"),
    }
