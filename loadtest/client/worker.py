"""One process that sends its part of a run: `python -m loadtest.client.worker FD`.

FD is a socket, on which it hears what to do and tells what happened. When its parent goes, so does
it. Run as a process of its own, so that several cores send, and none of them draws the progress.
"""

import asyncio
import gc
import importlib
import itertools
import resource
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

import uvloop

from loadtest.client import meters, wire
from loadtest.client.alarm import Alarm
from loadtest.client.conversation import Prepared, Talking
from loadtest.client.data import Endpoint, WorkerStats
from loadtest.client.deadline import Deadline
from loadtest.client.log import Log
from loadtest.client.meters import Busy, LoopLag
from loadtest.client.pauses import Pauses
from loadtest.client.request import Sender
from loadtest.client.retry import Retrying
from loadtest.client.schedule import Schedule
from loadtest.client.source import Conversations, Source
from loadtest.outcome import Outcome
from loadtest.plan.arrival import Arrival
from loadtest.scenario.document import Scenario

_EVERY = 0.5
# Of so many reports one comes with how the worker does.
_CONDITION_EVERY = 10
# Streams whose latest gap is looked at for the display.
_LOOKED_AT = 200
# A client of a closed loop whose request failed comes again no sooner: a server that is down would
# else be asked as fast as it can refuse.
_AFTER_FAILURE = 0.1


class Worker:
    """The process, between its first message and its last."""

    def __init__(
        self, job: wire.Job, sender: Sender, conversations: Conversations, alarm: Alarm
    ) -> None:
        scenario = Scenario.model_validate_json(job.scenario)
        self.number = job.worker
        self._scenario = scenario
        self._sender = sender
        self._log = Log()
        self._pauses = Pauses(alarm)
        self._source = Source(scenario, job.endpoint, job.clients, conversations)
        retrying = Retrying(sender, self._pauses)
        self._talking = {
            name: Talking(
                name,
                team,
                _headers(job, job.endpoint, name),
                scenario.span_of(name)[1],
                retrying,
                self._pauses,
                self._log,
            )
            for name, team in scenario.teams.items()
        }
        self._closed = [
            (name, client) for name in job.clients for client in job.arrivals.get(name, [])
        ]
        self._schedule = Schedule(
            _by_time(job),
            self._source.prepare,
            lambda one: self._start(self._hold(one)),
            alarm,
        )
        self._lag = LoopLag()
        self._busy = Busy()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._broken: BaseException | None = None

    async def prepare(self) -> None:
        """All that can be done before the start is known."""
        await self._schedule.first()
        # What is here now stays: no collection shall go through it again and again. Full ones are
        # rare from here on, since they stop everything for as long as a hundred milliseconds.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 1_000)

    async def run(self, at: float) -> None:
        """Send everything, and wait for the answers until the scenario's drain is over."""
        loop = asyncio.get_running_loop()
        self._sender.began = at
        for talking in self._talking.values():
            talking.began = at
        stop = at + self._scenario.duration
        self._timers.append(loop.call_at(stop + self._scenario.drain, self._drained))
        self._lag.start()
        self._busy.mark()
        for name, client in self._closed:
            self._start(self._client(name, client))
        try:
            await self._schedule.play(at)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            self._lag.stop()
            for timer in self._timers:
                timer.cancel()
        if self._broken is not None:
            raise self._broken

    def stop(self, grace: float) -> None:
        """Send nothing more, and end what is under way after so many seconds."""
        self._schedule.stop()
        self._pauses.end()
        timer = asyncio.get_running_loop().call_later(grace, self._leave, "interrupted")
        self._timers.append(timer)

    def report(self) -> wire.Report:
        """What happened since the last one."""
        self._busy.mark()
        log, under_way = self._log, self._sender.open
        step = len(under_way) // _LOOKED_AT + 1
        looked_at = itertools.islice(under_way.values(), 0, None, step)
        gaps = [reading.gap for _, reading in looked_at if reading.pieces > 1]
        told = wire.Report(
            due=log.due + self._schedule.due(time.monotonic()),
            sent=log.sent,
            open=len(under_way),
            records=log.records,
            lags=log.lags,
            firsts=log.firsts,
            gaps=log.gaps + gaps,
        )
        log.clear()
        return told

    def stats(self) -> WorkerStats:
        """How it did."""
        self._lag.beat()
        return WorkerStats(
            worker=self.number,
            cpu_percent=self._busy.percent,
            loop_lags=self._lag.lags(),
            sent=self._log.sent,
            cpu=self._busy.percents,
        )

    def condition(self) -> wire.Condition:
        """How it does: little to send and to write."""
        stats = self.stats()
        stats.loop_lags, stats.cpu = meters.few(stats.loop_lags), []
        return wire.Condition(stats)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """An error in one conversation is one of the load test: it ends the worker, loudly."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self.stop(0.0)

    async def _hold(self, prepared: Prepared) -> None:
        await self._talking[prepared.team].hold(prepared)

    async def _client(self, name: str, client: Arrival) -> None:
        """One client of a closed loop: a request, or a conversation, after the other."""
        talking, arrival = self._talking[name], client
        stop = self._scenario.span_of(name)[1]
        for number in itertools.count(1):
            if arrival.at >= stop or not await self._pauses.until(talking.began + arrival.at):
                return
            self._log.due += 1
            last = await talking.hold(self._source.prepare(name, arrival))
            if last is None:
                return
            record, free = last
            pause = 0.0 if record.good else _AFTER_FAILURE
            arrival = self._source.after(name, client, number, free + pause)

    def _drained(self) -> None:
        """The wait for answers is over. One that has broken the promise of its first token already
        is a failure; of the others nobody knows."""
        self._pauses.end()
        now = time.monotonic() - self._sender.began
        for deadline, (record, reading) in list(self._sender.open.items()):
            promised = self._scenario.slo_of(record.team).ttft
            late = promised is not None and now - record.scheduled > promised
            if reading.first is None and late and record.streamed:
                deadline.leave(Outcome.TIMEOUT_FIRST_TOKEN, "drained")
            else:
                deadline.leave(Outcome.CANCELLED, "drained")

    def _leave(self, why: str) -> None:
        deadlines: list[Deadline] = list(self._sender.open)
        for deadline in deadlines:
            deadline.leave(Outcome.CANCELLED, why)


def _headers(job: wire.Job, endpoint: Endpoint, team: str) -> dict[str, str]:
    headers = {"x-loadtest-run": job.run}
    if key := endpoint.keys.get(team):
        headers["authorization"] = f"Bearer {key}"
    return headers


def _by_time(job: wire.Job) -> list[tuple[str, Arrival]]:
    opened = [
        (name, arrival)
        for name, arrivals in job.arrivals.items()
        if name not in job.clients
        for arrival in arrivals
    ]
    return sorted(opened, key=lambda one: one[1].at)


async def serve(channel: socket.socket) -> None:
    """Do what the parent says over `channel`."""
    reader, writer = await asyncio.open_connection(sock=channel)
    job = await wire.to_worker(reader)
    assert isinstance(job, wire.Job)
    scenario = Scenario.model_validate_json(job.scenario)
    module, _, name = job.conversations.partition(":")
    conversations = getattr(importlib.import_module(module), name)(job.overhead)
    async with Sender(job.endpoint, scenario.target.timeouts, scenario.keep_gaps) as sender:
        with Alarm() as alarm:
            await _serve(Worker(job, sender, conversations, alarm), reader, writer)


async def _serve(
    worker: Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await worker.prepare()
    writer.write(wire.frame(wire.Ready()))
    start = await wire.to_worker(reader)
    if not isinstance(start, wire.Start):
        return  # it was stopped before it began
    hearing = asyncio.create_task(_hear(reader, worker))
    telling = asyncio.create_task(_tell(writer, worker))
    try:
        await worker.run(start.at)
        if telling.done():
            telling.result()  # it has failed: what it was to tell is missing
    finally:
        hearing.cancel()
        telling.cancel()
        # Also where it failed: what it knows is not lost.
        writer.write(wire.frame(worker.report()))
        await writer.drain()
    writer.write(wire.frame(wire.Final(worker.stats())))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _hear(reader: asyncio.StreamReader, worker: Worker) -> None:
    try:
        while True:
            message = await wire.to_worker(reader)
            if isinstance(message, wire.Stop):
                worker.stop(message.grace)
    except EOFError:
        worker.stop(0.0)


async def _tell(writer: asyncio.StreamWriter, worker: Worker) -> None:
    for number in itertools.count():
        await asyncio.sleep(_EVERY)
        writer.write(wire.frame(worker.report()))
        # The first one when the run's time has just begun.
        if number % _CONDITION_EVERY == 1:
            writer.write(wire.frame(worker.condition()))


def raise_limits() -> int:
    """Let this process have as many connections as the system allows. Returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main() -> None:
    """The process."""
    raise_limits()
    uvloop.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
