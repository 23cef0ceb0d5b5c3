"""A run sends what was planned, when it was planned, and ends with all that it knows."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from loadtest.client.data import Endpoint, Health, Progress, RunData
from loadtest.client.run import run
from loadtest.client.signals import Signals
from loadtest.errors import UserError
from loadtest.outcome import Outcome
from loadtest.plan import plan
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from tests.loadtest.live.golden import (
    DONE,
    Gate,
    Golden,
    Script,
    Seen,
    Stall,
    Wait,
    answer,
    content,
    finish,
    golden,
    refusal,
    whole,
)
from tests.loadtest.live.scripted import SCRIPTED


def scenario(team: dict[str, Any], **more: Any) -> Scenario:
    base = {"name": "t", "duration": 1.0, "drain": 10, "workers": 1}
    return Scenario.model_validate(base | more | {"teams": {"a": team}})


def constant(rate: float, workload: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    arrivals = {"kind": "constant", "rate": rate}
    return {"arrivals": arrivals, "workloads": [workload or {}], **more}


def closed(clients: int, workload: dict[str, Any] | None = None, think: float = 0) -> Any:
    arrivals = {"kind": "closed", "clients": clients, "think": think}
    return {"arrivals": arrivals, "workloads": [workload or {}]}


async def play(
    server: Golden, planned: Scenario, observe: Callable[[Progress], None] = lambda _: None
) -> RunData:
    endpoint = Endpoint(server.url, "m", {"a": "key-of-a"}, {"x-own": "1"})
    plans = plan.plan(planned)
    return await run(planned, plans, endpoint, observe, run_id="r7", conversations=SCRIPTED)


def within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, seconds))


async def until(met: Callable[[], bool]) -> None:
    while not met():  # noqa: ASYNC110  # what it waits for tells nobody
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_arrival_is_sent_once_whatever_the_number_of_processes(workers: int) -> None:
    async def work() -> None:
        planned = scenario(constant(40), workers=workers)
        async with golden(answer(2)) as server:
            data = await play(server, planned)
        assert sorted(record.index for record in data.records) == list(range(40))
        assert Counter(seen.body["index"] for seen in server.seen) == Counter(range(40))
        due = {arrival.index: arrival.at for arrival in plan.plan(planned)["a"].arrivals}
        assert {record.index: record.scheduled for record in data.records} == due
        assert len(data.workers) == workers
        assert sum(worker.sent for worker in data.workers) == 40
        assert not data.interrupted
        assert data.lost_workers == []
        assert data.run == "r7"

    within(30, work())


def test_requests_come_no_sooner_than_planned_and_the_record_says_how_late() -> None:
    async def work() -> None:
        starts: list[float] = []
        planned = scenario(constant(50), workers=2)
        endpoint_started = starts.append
        async with golden(answer(1)) as server:
            data = await run(
                planned,
                plan.plan(planned),
                Endpoint(server.url, "m"),
                lambda _: None,
                started=endpoint_started,
                conversations=SCRIPTED,
            )
        (began,) = starts
        arrived = {seen.body["index"]: seen.at - began for seen in server.seen}
        for record in data.records:
            assert record.lag is not None
            assert record.lag >= 0
            assert record.sent is not None
            assert record.scheduled <= record.sent <= arrived[record.index]

    within(30, work())


def test_a_server_that_is_slow_to_answer_delays_no_later_request() -> None:
    async def work() -> None:
        opened = asyncio.Event()
        script = Script(answer(1).steps, before=[Gate(opened)])
        planned = scenario(constant(20))
        async with golden(script) as server:
            task = asyncio.create_task(play(server, planned))
            # All twenty come although not one has been answered.
            await until(lambda: len(server.seen) == 20)
            opened.set()
            data = await task
        assert len(data.records) == 20
        assert all(record.good for record in data.records)
        # What they waited is in their time to the first token, by when they were due.
        first = min(data.records, key=lambda record: record.scheduled)
        assert first.ttft is not None
        assert first.ttft > 0.9

    within(30, work())


def test_requests_carry_the_key_the_headers_and_the_runs_id() -> None:
    async def work() -> None:
        async with golden(answer(1)) as server:
            await play(server, scenario(constant(2)))
        for seen in server.seen:
            assert seen.path == "/v1/chat/completions"
            assert seen.headers["authorization"] == "Bearer key-of-a"
            assert seen.headers["x-loadtest-run"] == "r7"
            assert seen.headers["x-own"] == "1"

    within(30, work())


def test_a_client_of_a_closed_loop_has_one_request_at_a_time() -> None:
    async def work() -> None:
        open_now: Counter[int] = Counter()

        def choose(seen: Seen) -> Script:
            open_now[seen.body["index"] % 3] += 1
            return answer(2, gap=0.02)

        planned = scenario(closed(3), duration=3.0)
        async with golden(choose) as server:
            data = await play(server, planned)
        assert len(data.records) > 9
        for client in range(3):
            own = sorted((r for r in data.records if r.index % 3 == client), key=lambda r: r.index)
            assert [record.index for record in own] == list(range(client, client + 3 * len(own), 3))
            for before, after in itertools.pairwise(own):
                assert before.ended is not None and after.began is not None
                assert before.ended <= after.scheduled <= after.began
        assert max(record.scheduled for record in data.records) < planned.duration

    within(30, work())


def test_a_body_that_ends_late_is_no_lateness_of_the_client() -> None:
    """After `[DONE]` the end of the body is waited for: the next request is due after that."""

    async def work() -> None:
        late = Script([content(), finish(), DONE, Stall()])
        async with golden(late) as server:
            data = await play(server, scenario(closed(1)))
        async with golden(late) as server:
            turns = await play(server, scenario(constant(1, {"turns": 3}), duration=1.5))
        for records in (data.records, turns.records):
            own = sorted(records, key=lambda record: record.scheduled)
            assert len(own) > 1
            for before, after in itertools.pairwise(own):
                assert before.ended is not None and after.lag is not None
                # It waits for a quarter of a second.
                waited = after.scheduled - before.ended
                assert waited > 0.2
                assert after.lag < waited / 4

    within(30, work())


def test_a_failing_server_is_not_asked_as_fast_as_it_can_refuse() -> None:
    async def work() -> None:
        async with golden(refusal(500, "x")) as server:
            data = await play(server, scenario(closed(1)))
        assert 2 <= len(data.records) <= 11
        assert {record.outcome for record in data.records} == {Outcome.SERVER_5XX}

    within(30, work())


def test_later_turns_have_the_answer_before_and_are_due_after_thought() -> None:
    async def work() -> None:
        workload = {"turns": 3, "think": 0.1}
        async with golden(answer(2)) as server:
            data = await play(server, scenario(constant(2, workload), duration=3.0))
        by_index: dict[int, list[Any]] = {}
        for record in sorted(data.records, key=lambda record: record.turn):
            by_index.setdefault(record.index, []).append(record)
        turns = by_index[0]
        assert [record.turn for record in turns] == [0, 1, 2]
        assert {record.conversation for record in turns} == {0}
        for before, after in itertools.pairwise(turns):
            assert before.ended + 0.1 <= after.scheduled <= after.sent
        bodies = [seen.body for seen in server.seen if seen.body["index"] == 0]
        assert [body["after"] for body in bodies] == [None, "word word ", "word word "]

    within(30, work())


def test_a_conversation_ends_with_the_turn_that_failed() -> None:
    async def work() -> None:
        def choose(seen: Seen) -> Script:
            return answer(1) if seen.body["after"] is None else refusal(503, "x")

        async with golden(choose) as server:
            data = await play(server, scenario(constant(1, {"turns": 3})))
        outcomes = [record.outcome for record in sorted(data.records, key=lambda r: r.turn)]
        assert outcomes == [Outcome.OK, Outcome.CAPACITY_503]

    within(30, work())


def test_a_retried_request_is_one_record_with_all_its_attempts() -> None:
    async def work() -> None:
        advice = {"retry-after-ms": "150", "x-request-id": "refused"}
        scripts = iter([refusal(429, "queue_full", headers=advice)] * 2 + [answer(1)])
        team = constant(1, retry={"policy": "retry_after", "attempts": 5})
        async with golden(lambda _: next(scripts)) as server:
            data = await play(server, scenario(team))
        (record,) = data.records
        assert record.outcome is Outcome.OK
        assert [attempt.outcome for attempt in record.attempts] == [Outcome.CAPACITY_429] * 2
        assert [attempt.retry_after for attempt in record.attempts] == [0.15, 0.15]
        assert (record.request_id, record.retry_after) == ("", None)
        times = [seen.at for seen in server.seen]
        assert times[1] - times[0] >= 0.15
        assert record.sent is not None
        assert record.attempts[1].ended + 0.15 <= record.sent
        assert record.lag is not None
        assert record.lag < 0.15

    within(30, work())


def test_a_user_who_leaves_is_cancelled_and_the_others_are_not() -> None:
    async def work() -> None:
        workload = {"cancel_percent": 100, "cancel_after": 0.2}
        async with golden(Script([content(), Stall()])) as server:
            data = await play(server, scenario(constant(3, workload)))
            assert [record.outcome for record in data.records] == [Outcome.CANCELLED] * 3
            for seen in server.seen:
                await seen.gone.wait()

    within(30, work())


def test_whole_answers_are_asked_for_and_read() -> None:
    async def work() -> None:
        async with golden(whole(7)) as server:
            data = await play(server, scenario(constant(2, {"stream": False})))
        assert all(record.good and not record.streamed for record in data.records)
        assert {record.output_tokens for record in data.records} == {7}

    within(30, work())


def test_what_is_open_after_the_drain_has_failed_if_its_promise_was_broken() -> None:
    async def work() -> None:
        def choose(seen: Seen) -> Script:
            return Script([content(), Stall()] if seen.body["index"] == 0 else [Stall()])

        slo = {"ttft": 0.4}
        async with golden(choose) as server:
            planned = scenario(constant(2), drain=0.5, slo=slo)
            data = await play(server, planned)
        outcomes = {record.index: record.outcome for record in data.records}
        # The first is on its way. The second has waited for longer than was promised.
        assert outcomes == {0: Outcome.CANCELLED, 1: Outcome.TIMEOUT_FIRST_TOKEN}

    within(30, work())


def test_what_has_not_waited_for_long_when_the_drain_ends_says_nothing() -> None:
    async def work() -> None:
        async with golden(Script([Stall()])) as server:
            data = await play(server, scenario(constant(1), drain=0.2, slo={"ttft": 60}))
        assert [record.outcome for record in data.records] == [Outcome.CANCELLED]

    within(30, work())


def test_progress_comes_during_the_run_and_its_last_is_the_end() -> None:
    async def work() -> None:
        seen: list[Progress] = []
        async with golden(answer(3, gap=0.02)) as server:
            data = await play(server, scenario(constant(20), duration=2.0), seen.append)
        assert len(seen) >= 4
        sent = [progress.sent for progress in seen]
        assert sent == sorted(sent)
        last = seen[-1]
        assert (last.due, last.sent, last.done, last.open) == (40, 40, 40, 0)
        assert last.outcomes == {"ok": len(data.records)}
        assert last.ttft_p50 is not None
        assert last.gap_p99 is not None
        assert last.lag_p99 is not None

    within(30, work())


# Ends before the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_what_there_is(number: signal.Signals) -> None:
    async def work() -> None:
        def choose(seen: Seen) -> Script:
            return Script([content(), Stall()]) if seen.body["index"] % 2 else answer(1)

        handler = signal.getsignal(number)
        planned = scenario(constant(20), duration=600, workers=2)
        async with golden(choose) as server:
            task = asyncio.create_task(play(server, planned))
            await until(lambda: len(server.seen) >= 20)
            before = time.monotonic()
            os.kill(os.getpid(), number)
            data = await task
            count = len(server.seen)
            assert time.monotonic() - before < 20
            stalled = [seen for seen in server.seen if seen.body["index"] % 2]
            await asyncio.gather(*(seen.gone.wait() for seen in stalled))
        assert data.interrupted
        assert data.lost_workers == []
        # Every request that the server has seen has its record, and nothing more was sent.
        assert len(data.records) == count
        outcomes = Counter(record.outcome for record in data.records)
        assert set(outcomes) == {Outcome.OK, Outcome.CANCELLED}
        assert signal.getsignal(number) == handler

    within(60, work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_as_there_is_enough_is_ended_at_once_by_the_second_signal_only(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is under way is waited for as good as for ever, unless it is ended at once.
    monkeypatch.setattr("loadtest.client.run._GRACE", 600.0)

    async def work() -> None:
        opened, enough = asyncio.Event(), asyncio.Event()
        kept: list[Record] = []

        def choose(seen: Seen) -> Script:
            stalled = bool(seen.body["index"] % 2)
            return Script([content(), Stall()] if stalled else [Gate(opened), *answer(1).steps])

        planned = scenario(constant(20), duration=600, drain=600)
        async with golden(choose) as server:
            endpoint, plans = Endpoint(server.url, "m"), plan.plan(planned)
            with Signals() as signals:
                running = run(
                    planned,
                    plans,
                    endpoint,
                    lambda _: None,
                    keep=kept.extend,
                    enough=enough,
                    signals=signals,
                    conversations=SCRIPTED,
                )
                task = asyncio.create_task(running)
                await until(lambda: len(server.seen) >= 4)
                enough.set()
                await asyncio.sleep(0)
                os.kill(os.getpid(), number)
                await until(lambda: signals.came)
                opened.set()
                await until(lambda: len(kept) >= 2)
                assert {record.outcome for record in kept} == {Outcome.OK}
                os.kill(os.getpid(), number)
                data = await task
        outcomes = {record.index: record.outcome for record in data.records}
        assert {outcomes[index] for index in outcomes if index % 2} == {Outcome.CANCELLED}
        assert data.interrupted and data.lost_workers == []

    within(60, work())


def test_how_the_load_test_does_is_told_while_it_goes_on() -> None:
    async def work() -> None:
        told: list[Health] = []
        planned = scenario(constant(20), duration=600, workers=2)
        async with golden(answer(1)) as server:
            running = run(
                planned,
                plan.plan(planned),
                Endpoint(server.url, "m"),
                lambda _: None,
                health=told.append,
                conversations=SCRIPTED,
            )
            task = asyncio.create_task(running)
            await until(lambda: bool(told) and len(told[-1].workers) == 2)
            assert [one.worker for one in told[-1].workers] == [0, 1]
            for one in told[-1].workers:
                assert one.cpu_percent > 0 and one.loop_lags and not one.cpu
            os.kill(workers()[0], signal.SIGKILL)
            await until(lambda: bool(told[-1].lost_workers))
            assert len(told[-1].workers) == 1
            os.kill(os.getpid(), signal.SIGINT)
            await task

    within(60, work())


def children() -> dict[int, list[str]]:
    """The processes of this one, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                    line = (entry / "cmdline").read_bytes().decode().split("\0")
                    found[int(entry.name)] = line
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def workers() -> list[int]:
    return [pid for pid, line in children().items() if "loadtest.client.worker" in line]


def test_a_worker_that_dies_is_said_and_the_others_go_on() -> None:
    async def work() -> None:
        async with golden(answer(1)) as server:
            planned = scenario(constant(40), duration=3.0, workers=2)
            task = asyncio.create_task(play(server, planned))
            await until(lambda: len(server.seen) >= 20)
            os.kill(workers()[0], signal.SIGKILL)
            data = await task
        (lost,) = data.lost_workers
        assert "was ended by SIGKILL" in lost
        assert len(data.workers) == 1
        assert not data.interrupted
        living = data.workers[0].worker
        assert living != int(lost.split()[1])
        # All of the other's part is there, to the end.
        due = plan.slice(plan.plan(planned), living, 2)["a"].arrivals
        assert {arrival.index for arrival in due} <= {record.index for record in data.records}
        assert workers() == []

    within(60, work())


def test_an_error_of_a_worker_is_said_with_its_last_line() -> None:
    async def work() -> None:
        planned = scenario(constant(1), duration=10.0)
        async with golden(answer(1)) as server:
            with pytest.raises(UserError, match=r"no worker could begin: .*a bug of the load test"):
                await run(
                    planned,
                    plan.plan(planned),
                    Endpoint(server.url, "m"),
                    lambda _: None,
                    conversations="tests.loadtest.live.scripted:broken",
                )
        assert workers() == []

    within(60, work())


def test_a_worker_that_fails_tells_first_what_it_knows_and_where_it_was() -> None:
    async def work() -> None:
        kept: list[Record] = []
        planned = scenario(constant(20), duration=3.0)
        async with golden(answer(1)) as server:
            data = await run(
                planned,
                plan.plan(planned),
                Endpoint(server.url, "m"),
                lambda _: None,
                keep=kept.extend,
                conversations="tests.loadtest.live.scripted:breaking",
            )
        (lost,) = data.lost_workers
        assert "a bug of the load test" in lost and "scripted.py" in lost and "\n" not in lost
        seen = {one.body["index"] for one in server.seen}
        told = {record.index: record for record in data.records}
        assert set() != seen <= told.keys()
        unseen = [told[index] for index in told.keys() - seen]  # it was just about to be sent
        assert all(record.outcome is Outcome.CANCELLED for record in unseen)
        assert kept == data.records

    within(60, work())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_run_breaks_nothing_off(number: signal.Signals) -> None:
    async def work() -> None:
        heard: list[str] = []
        with Signals() as signals:
            with signals.heard_by(lambda: heard.append("run")):
                os.kill(os.getpid(), number)
                await until(lambda: bool(heard))
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
        assert heard == ["run"]

    within(30, work())


def test_a_signal_before_the_run_ends_all_of_it() -> None:
    async def work() -> None:
        with Signals():
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)

    with pytest.raises(asyncio.CancelledError):
        within(60, work())


def test_a_worker_goes_when_its_parent_has_gone() -> None:
    async def work() -> None:
        async with golden(answer(1)) as server:
            task = asyncio.create_task(play(server, scenario(constant(5), duration=600)))
            await until(lambda: len(server.seen) >= 2)
            (pid,) = workers()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert pid not in children()

    within(60, work())


def test_nothing_to_send_ends_at_once() -> None:
    async def work() -> None:
        planned = scenario(constant(1, start=5.0), duration=1.0)
        async with golden(Script([Wait(0)])) as server:
            data = await play(server, planned)
        assert data.records == []
        assert data.lost_workers == []

    within(30, work())
