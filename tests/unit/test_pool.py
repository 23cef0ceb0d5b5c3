"""A pool: who may get requests, how many places there are, and who stays in whatever happens."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.quota.limits import Tier
from service.routing.health import State
from service.routing.pool import Pool
from service.routing.replica import Replica, Report
from service.settings import HealthSettings, QueueSettings, RoutingSettings

SLOTS = 3
HEALTH = HealthSettings(failures=2, ejection=2, slow_start=10, stall=20)
SETTINGS = RoutingSettings(health=HEALTH, queue=QueueSettings(slots=SLOTS))
URLS = [f"http://10.0.0.{number}:8000" for number in range(3)]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pool_of(*urls: str, clock: Clock | None = None) -> Pool:
    pool = Pool("p", "m", SETTINGS, clock or Clock(), random.Random(1))
    pool.set_members(urls, lambda url: SLOTS)
    return pool


def fail(pool: Pool, replica: Replica) -> None:
    with pool.request(replica, 1) as mark:
        pass
    pool.failed(replica, mark, "unreachable", unreachable=True)


def state(pool: Pool, replica: Replica) -> State:
    return replica.health.state(pool.now)


def test_one_that_fails_gets_no_more_and_the_others_do() -> None:
    pool = pool_of(*URLS)
    bad = pool.replicas[URLS[0]]
    fail(pool, bad)
    assert state(pool, bad) is State.EJECTED
    assert {pool.pick(None, 1) for _ in range(50)} == set(pool.replicas.values()) - {bad}


def test_the_last_one_that_is_in_stays_in_whatever_it_does() -> None:
    pool = pool_of(*URLS)
    *others, last = pool.replicas.values()
    for replica in [*others, *[last] * 20]:
        fail(pool, replica)
    assert state(pool, last) is State.UP
    assert pool.pick(None, 1) is last
    assert "unreachable" in last.health.last_error


def test_it_works_until_its_checks_say_that_none_is_there() -> None:
    pool = pool_of(URLS[0])
    replica = pool.replicas[URLS[0]]
    for _ in range(HEALTH.failures):
        assert pool.works
        pool.checked(replica, "cannot connect")
    assert not pool.works
    assert pool.pick(None, 1) is None
    pool.checked(replica, None)
    assert pool.works


def test_those_who_wait_for_a_replica_are_told_when_there_is_one() -> None:
    async def run() -> None:
        pool = pool_of()
        waiting = asyncio.ensure_future(pool.until_it_works())
        await asyncio.sleep(0)
        assert not waiting.done()
        pool.set_members(URLS[:1], lambda url: SLOTS)
        await waiting

    asyncio.run(run())


def test_a_replica_that_is_gone_finishes_what_it_has_and_gets_nothing_new() -> None:
    pool = pool_of(*URLS)
    gone = pool.replicas[URLS[0]]
    with pool.request(gone, 10):
        pool.set_members(URLS[1:], lambda url: SLOTS)
        assert gone.in_flight == 1
        assert not gone.is_member
        assert gone not in {pool.pick(7, 1) for _ in range(50)}
    assert gone.in_flight == 0


def test_one_that_stays_a_member_keeps_what_is_known_of_it() -> None:
    pool = pool_of(*URLS)
    bad = pool.replicas[URLS[0]]
    fail(pool, bad)
    new = pool.set_members([*URLS, "http://10.0.0.9:8000"], lambda url: 7)
    assert [replica.url for replica in new] == ["http://10.0.0.9:8000"]
    assert pool.replicas[URLS[0]] is bad
    assert state(pool, bad) is State.EJECTED
    assert bad.slots == 7


def test_those_of_the_beginning_are_warm_and_later_ones_start_slowly() -> None:
    pool = pool_of(URLS[0])
    pool.set_members(URLS[:2], lambda url: SLOTS)
    first, later = (pool.replicas[url].health.share(pool.now) for url in URLS[:2])
    assert first == 1
    assert later < 0.2


def test_an_engine_that_makes_no_progress_is_out_and_back_when_it_does() -> None:
    clock = Clock()
    pool = pool_of(*URLS[:2], clock=clock)
    stuck = pool.replicas[URLS[0]]
    for _ in range(10):
        pool.reported(stuck, Report(2, 0, 0.5, 100, clock.now), progress=100)
        clock.now += HEALTH.stall / 4
    assert state(pool, stuck) is State.STALLED
    assert "stalled" in stuck.health.reason
    pool.reported(stuck, Report(2, 0, 0.5, 101, clock.now), progress=101)
    assert state(pool, stuck) is State.UP


def test_what_others_have_there_counts_as_load() -> None:
    pool = pool_of(*URLS[:2])
    busy, idle = pool.replicas.values()
    pool.reported(busy, Report(8, 4, 0.9, 100, pool.now), progress=100)
    pool.refresh()
    assert {pool.pick(None, 1) for _ in range(50)} == {idle}


def test_there_are_as_many_turns_as_places() -> None:
    async def run() -> None:
        pool = pool_of(*URLS[:2])
        turns = [await pool.turnstile.enter("t", Tier.STANDARD, 1) for _ in range(2 * SLOTS)]
        waiting = asyncio.ensure_future(pool.turnstile.enter("t", Tier.STANDARD, 1))
        await asyncio.sleep(0)
        pool.refresh()  # turns that are given and not used yet are places that are taken
        await asyncio.sleep(0)
        assert not waiting.done()
        turns[0].leave(1)
        await waiting
        pool.set_members(URLS, lambda url: SLOTS)
        for _ in range(SLOTS):
            await asyncio.wait_for(pool.turnstile.enter("t", Tier.STANDARD, 1), 1)

    asyncio.run(run())


events = st.lists(
    st.tuples(
        st.sampled_from(["begin", "end", "fail", "check", "recover", "members", "pass", "refresh"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


@examples(max_examples=200)
@given(events=events)
def test_places_never_exceed_the_slots_of_those_that_are_in(events: list[tuple[str, int]]) -> None:
    """Whatever begins, ends, fails, comes and goes: capacity is what is under way and what the
    candidates have room for, and none of them ever has more than its slots."""
    clock = Clock()
    pool = pool_of(*URLS, clock=clock)
    open_requests = []
    for what, number in events:
        replicas = list(pool.replicas.values())
        replica = replicas[number % len(replicas)] if replicas else None
        match what:
            case "begin":
                picked = pool.pick(number, 1)
                if picked is not None:
                    request = pool.request(picked, 1)
                    open_requests.append((request, picked, request.__enter__()))
            case "end" | "fail" if open_requests:
                request, one, mark = open_requests.pop(number % len(open_requests))
                request.__exit__(None, None, None)
                if what == "end":
                    pool.succeeded(one, mark)
                else:
                    pool.failed(one, mark, "cut", unreachable=bool(number % 2))
            case "check" if replica:
                pool.checked(replica, "bad")
            case "recover" if replica:
                pool.checked(replica, None)
            case "members":
                pool.set_members(URLS[: number % 4], lambda url: SLOTS)
            case "pass":
                clock.now += number
            case "refresh":
                pool.refresh()
        assert all(one.in_flight <= SLOTS for one in pool.replicas.values())
    pool.refresh()
    in_flight = sum(1 for _ in open_requests)
    assert in_flight <= pool.capacity <= in_flight + SLOTS * pool.candidates
    for request, _, _ in open_requests:
        request.__exit__(None, None, None)
    assert all(one.in_flight == one.tokens == 0 for one in pool.replicas.values())


def test_a_request_that_breaks_off_is_counted_no_more() -> None:
    pool = pool_of(URLS[0])
    replica = pool.replicas[URLS[0]]
    with pytest.raises(RuntimeError), pool.request(replica, 5):
        assert (replica.in_flight, replica.tokens) == (1, 5)
        raise RuntimeError
    assert (replica.in_flight, replica.tokens) == (0, 0)
