"""Three real engines behind a gateway: where requests go, who waits, and what a failure costs.

The gateway has the engines in two pools: `wide`, which takes as many requests as come, and `narrow`
with few slots, where teams wait in line. `pytest -s` shows what was measured.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from service.ledger.record import Settlement
from tests.e2e import engines
from tests.e2e.engines import Engine, Engines, signal_core, stalled
from tests.e2e.traffic import Load, Outcome, Place, ask, session
from tests.integration.fleet import until

ENGINES = 3
WIDE, NARROW = "wide", "narrow"
SLOTS = 2
TEAMS = ("tests", "flood")
INTERVAL, CHECK_TIMEOUT, FAILURES = 0.5, 2.0, 2
STALL = 3.0
EJECTION, MAX_EJECTION = 1.0, 4.0
FIRST_EVENT, IDLE, RESPONSE = 8.0, 5.0, 12.0
BUSY = 15.0
"""What a machine of two cores on which three engines compute may add to any time, s."""
CHECKED_OUT = FAILURES * (1.1 * INTERVAL + CHECK_TIMEOUT)
STALLED_OUT = STALL + 3 * INTERVAL
# By the docstring of `service.routing.health`, s.
BACK_IN = max(1.2 * MAX_EJECTION, 3 * STALL) + 2 * INTERVAL
# A request that two replicas leave waiting, and a third one answers, s.
LONGEST = 2 * RESPONSE + BUSY
OUT = ("ejected", "down", "stalled")

SETTINGS = {
    "GPTOSS_ROUTING__HEALTH__INTERVAL": str(INTERVAL),
    "GPTOSS_ROUTING__HEALTH__TIMEOUT": str(CHECK_TIMEOUT),
    "GPTOSS_ROUTING__HEALTH__FAILURES": str(FAILURES),
    "GPTOSS_ROUTING__HEALTH__EJECTION": str(EJECTION),
    "GPTOSS_ROUTING__HEALTH__MAX_EJECTION": str(MAX_EJECTION),
    "GPTOSS_ROUTING__HEALTH__SLOW_START": "2",
    "GPTOSS_ROUTING__HEALTH__STALL": str(STALL),
    "GPTOSS_GATEWAY__CONNECT_TIMEOUT": "5",
    "GPTOSS_GATEWAY__FIRST_EVENT_TIMEOUT": str(FIRST_EVENT),
    "GPTOSS_GATEWAY__IDLE_TIMEOUT": str(IDLE),
    "GPTOSS_GATEWAY__RESPONSE_TIMEOUT": str(RESPONSE),
    "GPTOSS_GATEWAY__TOTAL_TIMEOUT": "90",
}


@pytest.fixture(scope="module")
def stack(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    home = tmp_path_factory.mktemp("replicas")
    pools: dict[str, dict[str, object]] = {WIDE: {}, NARROW: {"slots": SLOTS}}
    with engines.start(ENGINES, weights, home, pools, TEAMS, SETTINGS) as started:
        asyncio.run(warm(started))
        yield started


@pytest.fixture(autouse=True)
def well(stack: Engines) -> Iterator[None]:
    """Each test leaves nothing open, and no surprise in the gateway's log."""
    yield
    until(stack.is_idle, RESPONSE + BUSY)
    assert "Traceback" not in stack.gateway.log.read_text()


def report(line: str) -> None:
    print(f"\n  {line}", end="")  # noqa: T201


async def warm(stack: Engines) -> None:
    """The first request of an engine takes longer than any other."""
    async with session() as connections:
        hello = [{"role": "user", "content": "Hello"}]
        await asyncio.gather(*(ask(connections, one.direct, hello, 2) for one in stack.engines))


# Where conversations go

CONVERSATIONS, TURNS, WORDS = 12, 4, 200
AT_ONCE = 4


@dataclass(frozen=True)
class Talk:
    """What a workload of conversations met."""

    hit_rate: float
    ttft: float
    """The median of all turns but the first, s."""

    def __str__(self) -> str:
        return f"{self.hit_rate:.1%}, {self.ttft * 1000:.0f} ms"


def talk(stack: Engines, seed: int, place: Callable[[int], Place]) -> Talk:
    """Conversations with several turns, some at a time; the n-th request goes to `place(n)`."""
    names = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    before = [stack.metric(name) for name in names]
    later = asyncio.run(_talk(random.Random(seed), place))
    hits, queries = (stack.metric(name) - b for name, b in zip(names, before, strict=True))
    return Talk(hits / queries, statistics.median(later))


async def _talk(rng: random.Random, place: Callable[[int], Place]) -> list[float]:
    said: list[list[dict[str, str]]] = [
        [{"role": "system", "content": "Answer briefly. " * 10}] for _ in range(CONVERSATIONS)
    ]
    sent = itertools.count()
    later: list[float] = []

    async def worker(left: Iterator[list[dict[str, str]]], turn: int) -> None:
        for messages in left:
            numbers = " ".join(str(rng.randrange(10**6)) for _ in range(WORDS))
            messages.append({"role": "user", "content": f"Remember {numbers}"})
            outcome = await ask(connections, place(next(sent)), messages, 4)
            assert outcome.complete and not outcome.code, outcome
            messages.append({"role": "assistant", "content": "I do."})
            if turn:
                later.append(outcome.ttft)

    async with session() as connections:
        for turn in range(TURNS):
            # In another order each time, as people write: dealt in turn, none stays anywhere.
            left = iter(rng.sample(said, CONVERSATIONS))
            await asyncio.gather(*(worker(left, turn) for _ in range(AT_ONCE)))
    return later


def test_a_conversation_finds_its_prefix_cached_more_often_than_by_round_robin(
    stack: Engines,
) -> None:
    """Dealt in turn by the client itself; and by the gateway, which in between is made to take each
    request for a conversation of its own. None finds anything of another in a cache: each has other
    words, and a team has its own part of the caches, by their salt."""
    direct = [engine.direct for engine in stack.engines]
    ours = stack.place(WIDE)
    dealt = talk(stack, 1, lambda number: direct[number % ENGINES])
    strangers = talk(
        stack, 2, lambda number: replace(ours, extra={"prompt_cache_key": f"stranger {number}"})
    )
    routed = talk(stack, 3, lambda _: ours)
    report(
        "prefix cache hits, and TTFT of later turns (median): by conversation"
        f" {routed}; each request by itself {strangers}; round robin past the gateway {dealt}"
    )
    assert routed.hit_rate > 1.5 * dealt.hit_rate
    assert routed.hit_rate > 1.5 * strangers.hit_rate
    assert routed.hit_rate > 0.5  # of the 60 % that four turns of the same length have in common


# Who waits

FLOOD, FLOOD_TOKENS = 40, 60
SHORT_REQUESTS = 16


def short(stack: Engines, pool: str) -> Load:
    """Single short requests of a team, one after the other."""
    with stack.load(pool, clients=1, tokens=4, pause=0.1, whole=False) as load:
        load.more(SHORT_REQUESTS)
    return load


def ttfts(load: Load) -> list[float]:
    """In order."""
    return sorted(outcome.ttft for outcome in load.outcomes)


def p95(ordered: Sequence[float]) -> float:
    return ordered[int(0.95 * len(ordered))]


def flooded(stack: Engines, pool: str) -> tuple[Load, Load]:
    """The same while another team floods the pool."""
    with stack.load(pool, "flood", clients=FLOOD, tokens=FLOOD_TOKENS, whole=False) as flood:
        flood.more(2 * ENGINES * SLOTS)
        found = short(stack, pool)
    return found, flood


def waits(stack: Engines, load: Load) -> tuple[list[float], list[float]]:
    """How long its requests waited in line, and how long they had a slot then: by the gateway's
    log. In order."""
    ours = stack.lines(outcome.id for outcome in load.outcomes).values()
    return (
        sorted(line["queue_seconds"] for line in ours),
        sorted(line["seconds"] - line["queue_seconds"] for line in ours),
    )


def test_a_team_that_floods_delays_another_by_one_release_of_a_slot_at_most(
    stack: Engines,
) -> None:
    """Bound: whoever is alone in its team is next. A slot is free as soon as one of the answers
    ends that are under way, hence within the length of one; and in the mean much sooner."""
    alone = ttfts(short(stack, NARROW))
    team, flood = flooded(stack, NARROW)
    waited, _ = waits(stack, team)
    in_line, answers = waits(stack, flood)
    beside, own = ttfts(team), ttfts(flood)
    open_alone = ttfts(short(stack, WIDE))
    open_team, _ = flooded(stack, WIDE)
    open_beside = ttfts(open_team)
    length, slots = statistics.median(answers), ENGINES * SLOTS
    report(
        f"{FLOOD} streams of another team on {slots} slots: TTFT p95"
        f" {p95(beside):.2f} s, median {statistics.median(beside):.2f} s (alone p95"
        f" {p95(alone):.2f} s); an answer of the flood takes {length:.2f} s (p95"
        f" {p95(answers):.2f} s), by slots {length / slots:.2f} s; its own TTFT"
        f" {statistics.median(own):.2f} s\n  without a line: TTFT p95 {p95(open_beside):.2f} s,"
        f" median {statistics.median(open_beside):.2f} s (alone p95 {p95(open_alone):.2f} s)"
    )
    assert not (team.failed or flood.failed)
    assert waited[-1] < answers[-1]
    assert statistics.median(waited) < length
    assert statistics.median(waited) < statistics.median(in_line) / 2


# What a failure costs


def check(stack: Engines, load: Load, at_fault: Iterable[Engine] = (), *codes: str) -> None:
    """A request fails only if a part of its answer was out, on an engine that is at fault, and it
    says so. None hangs."""
    urls = {engine.url for engine in at_fault}
    for outcome in load.failed:
        assert outcome.streamed and outcome.status == 200 and outcome.first, outcome
        assert outcome.code in codes and not outcome.broken, outcome
    for line in stack.lines(outcome.id for outcome in load.failed).values():
        assert line["replica"] in urls, line
    assert max(outcome.seconds for outcome in load.outcomes) < LONGEST


def until_midway(stack: Engines, engine: Engine) -> None:
    until(lambda: stack.replica(engine, WIDE)["in_flight"] >= 3, BUSY)


def until_used(stack: Engines, engine: Engine) -> None:
    """Until it answers requests again, which it does only where it is sent some."""
    stack.until(engine, WIDE, "up", seconds=BACK_IN + BUSY)
    before = engine.metric("vllm:request_success_total")
    with stack.load(WIDE, clients=4, tokens=8) as load:
        until(lambda: engine.metric("vllm:request_success_total") > before, BUSY)
    check(stack, load)
    assert not load.failed


@pytest.mark.parametrize(
    "part, state", [("all", "down"), ("core", "stalled")], ids=["all of it", "its core"]
)
def test_an_engine_that_hangs_is_left_alone_until_it_goes_on(
    stack: Engines, part: str, state: str
) -> None:
    """If only its core hangs, its server goes on to say that all is well."""
    victim = stack.engines[1]
    with stack.load(WIDE, clients=8, tokens=80) as load:
        load.more(8)
        until_midway(stack, victim)
        with stopped(victim) if part == "all" else stalled(victim):
            out = stack.until(victim, WIDE, *OUT, seconds=max(CHECKED_OUT, STALLED_OUT) + BUSY)
            said = stack.until(victim, WIDE, state, seconds=max(CHECKED_OUT, STALLED_OUT) + BUSY)
            reason = stack.replica(victim, WIDE)["reason"]
            left = until(lambda: not stack.replica(victim, WIDE)["in_flight"], RESPONSE + BUSY)
            load.more(8)
        back = stack.until(victim, WIDE, "up", seconds=BACK_IN + BUSY)
        load.more(8)
    check(stack, load, [victim], "engine_timeout")
    longest = max(outcome.seconds for outcome in load.outcomes)
    report(
        f"SIGSTOP of {part}: {len(load.failed)} of {len(load.outcomes)} failed; avoided after"
        f" {out:.1f} s, {state} after {out + said:.1f} s ({reason!r}), its last request given up"
        f" after {out + said + left:.1f} s, back {back:.1f} s after SIGCONT; longest request"
        f" {longest:.1f} s"
    )
    assert reason
    until_used(stack, victim)


@contextlib.contextmanager
def stopped(engine: Engine) -> Iterator[None]:
    """All of it stands still, its server too."""
    engine.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        engine.signal_all(signal.SIGCONT)


def test_an_engine_that_is_killed_costs_the_streams_that_it_had_begun(stack: Engines) -> None:
    victim = stack.engines[0]
    with stack.load(WIDE, clients=8, tokens=80) as load:
        load.more(8)
        until_midway(stack, victim)
        victim.signal_all(signal.SIGKILL)
        avoided = stack.until(victim, WIDE, *OUT, seconds=CHECKED_OUT + BUSY)
        stopped = time.monotonic()
        load.more(24)
    victim.ended()
    check(stack, load, [victim], "engine_disconnected")
    assert all(outcome.ok for outcome in load.outcomes if outcome.began > stopped)
    began = time.monotonic()
    victim.launch()
    victim.wait()
    report(
        f"kill -9: {len(load.failed)} of {len(load.outcomes)} failed; avoided after"
        f" {avoided:.2f} s; started again in {time.monotonic() - began:.0f} s"
    )
    until_used(stack, victim)


def test_a_rolling_restart_fails_nothing_and_cuts_nothing(stack: Engines) -> None:
    """What reaches vLLM while it ends is answered with nothing, as if that were an answer; or not
    at all, once its core has ended and before its server has."""
    said = []
    with stack.load(WIDE, clients=6, tokens=60, pause=2) as load:
        for engine in stack.engines[1:]:
            load.more(6)
            until(lambda engine=engine: stack.replica(engine, WIDE)["in_flight"], BUSY)  # type: ignore[misc]
            open_then = stack.replica(engine, WIDE)["in_flight"]
            began = time.monotonic()
            engine.signal(signal.SIGTERM)
            status = engine.ended(engines.DRAIN + BUSY)
            ended = time.monotonic()
            engine.launch()
            engine.wait()
            up = stack.until(engine, WIDE, "up", seconds=BACK_IN + BUSY)
            said.append(
                f"{open_then} open, ended ({status}) in {ended - began:.1f} s, up again"
                f" {time.monotonic() - ended:.0f} s later, {up:.1f} s after it answered"
            )
    first = max(outcome.ttft for outcome in load.outcomes if outcome.first)
    report(
        f"rolling restart: {len(load.failed)} of {len(load.outcomes)} failed, longest TTFT"
        f" {first:.1f} s; {'; '.join(said)}"
    )
    check(stack, load)
    assert not load.failed
    for engine in stack.engines[1:]:
        until_used(stack, engine)


def test_an_engine_whose_core_dies_costs_the_streams_that_it_had_begun(stack: Engines) -> None:
    victim = stack.engines[0]
    with stack.load(WIDE, clients=8, tokens=80) as load:
        load.more(8)
        until_midway(stack, victim)
        signal_core(victim, signal.SIGKILL)
        avoided = stack.until(victim, WIDE, *OUT, seconds=CHECKED_OUT + BUSY)
        load.more(24)
    report(
        f"kill -9 of the core: {len(load.failed)} of {len(load.outcomes)} failed; avoided after"
        f" {avoided:.2f} s"
    )
    check(stack, load, [victim], "engine_disconnected", "engine_error")


def test_in_the_end_each_answer_is_in_the_ledger_as_its_engine_counted_it(stack: Engines) -> None:
    outcomes: list[Outcome] = [one for load in stack.loads for one in load.outcomes]
    until(lambda: {one.id for one in outcomes} <= {record.id for record in stack.office.ledger()})
    records = {record.id: record for record in stack.office.ledger()}
    for outcome in outcomes:
        record = records[outcome.id]
        if outcome.ok:
            assert record.settlement is Settlement.EXACT
            assert record.completion_tokens == outcome.used
        else:
            assert record.settlement is not Settlement.REFUNDED
            assert record.completion_tokens > 0


def test_in_the_end_what_the_engines_computed_was_charged(stack: Engines) -> None:
    left = [engine for engine in stack.engines if engine.core]
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    before = [sum(engine.metric(name) for engine in left) for name in names]
    with stack.load(WIDE, clients=6, tokens=20) as load:
        load.more(18)
    assert not load.failed
    ids = {outcome.id for outcome in load.outcomes}
    until(lambda: ids <= {record.id for record in stack.office.ledger()})
    records = [record for record in stack.office.ledger() if record.id in ids]
    computed = [sum(engine.metric(name) for engine in left) for name in names]
    charged = [
        sum(record.prompt_tokens for record in records),
        sum(record.completion_tokens for record in records),
    ]
    assert charged == [now - then for now, then in zip(computed, before, strict=True)]
