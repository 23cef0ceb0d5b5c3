"""The shared counters are as their specification, and atomic."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.crc import key_slot

from service.quota.calendar import Window, Windows
from service.quota.counters import MEMORY, SECOND, TeamCounters
from service.quota.limits import Effort, Limits
from service.quota.reservation import Outcome, Reservation, Scope, Settled
from service.quota.valkey import ValkeyStore
from service.quota.valkey_servers import Call, Servers, servers
from service.quota.valkey_url import parse
from tests.integration.counters import (
    WINDOWS,
    connected,
    level,
    new_team,
    reservation,
)
from tests.servers.redis import Redis


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


class Timed:
    """Servers that note the time of the last script, by the server's clock, µs."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.now = 0

    async def exchange(self, calls: Sequence[Call]) -> list[Any]:
        replies = await self._servers.exchange(calls)
        if isinstance(replies[-1], list):
            self.now = replies[-1][0]
        return replies

    def place(self, key: str) -> str:
        return self._servers.place(key)

    def owes(self, key: str) -> float:
        return self._servers.owes(key)

    async def close(self) -> None:
        await self._servers.close()


WINDOWS_SEEN = (
    WINDOWS,
    Windows(Window("2099-01-01", 4_070_995_200), Window("2099-01", 4_073_587_200)),
)
# High rates, so that milliseconds count; some so low that their limits are reached.
rate = st.none() | st.integers(3, 30) | st.integers(10_000, 100_000_000)
budget = st.none() | st.integers(1, 4_000) | st.just(10**15)
some_limits = st.builds(
    Limits,
    rpm=rate,
    tpm=rate,
    concurrency=st.none() | st.integers(1, 4),
    daily_tokens=budget,
    monthly_tokens=budget,
    models=st.none() | st.just(("gpt-oss-20b", "gpt-oss-120b")),
    efforts=st.just((Effort.LOW,)),
)
ids = st.integers(0, 12).map(str)
scopes = st.lists(
    st.builds(Scope, st.sampled_from(["team", "key:k1", "model:m1"]), some_limits),
    unique_by=lambda scope: scope.name,
    min_size=1,
    max_size=3,
).map(tuple)
reservations = st.builds(
    Reservation,
    ids,
    st.just("t"),
    scopes,
    st.sampled_from(WINDOWS_SEEN),
    st.integers(0, 900),
    st.integers(0, 900),
)
steps = st.one_of(
    st.tuples(st.just("reserve"), reservations),
    st.tuples(st.just("reserve"), reservations),
    st.tuples(st.just("settle"), ids, st.integers(0, 2_500), st.integers(0, 1)),
    st.tuples(st.just("settle"), ids, st.integers(0, 300), st.integers(0, 1)),
    st.tuples(st.just("renew"), st.lists(ids, max_size=4, unique=True)),
    st.tuples(st.just("levels"), scopes, st.sampled_from(WINDOWS_SEEN)),
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.01, 0.06])),
)
LEASE = 0.05


@settings(max_examples=80)
@given(steps=st.lists(steps, min_size=5, max_size=40))
def test_every_answer_is_that_of_the_specification_at_the_same_time(
    server: Redis, steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(_compare(server.url, steps))


async def _compare(url: str, steps: list[tuple[Any, ...]]) -> None:
    timed = Timed(servers(parse(SecretStr(url))))
    # Slow machines are tested elsewhere: here every answer counts.
    store, model = ValkeyStore(timed, LEASE, timeout=10), TeamCounters(MEMORY)
    team, lease = new_team(), int(LEASE * SECOND)
    asked: dict[str, Reservation] = {}
    untold: set[str] = set()
    for what, *rest in steps:
        if what == "wait":
            await asyncio.sleep(rest[0])
        elif what == "reserve":
            (one,) = rest
            one = Reservation(one.id, team, one.scopes, one.windows, one.prompt, one.output)
            outcome = await store.reserve(one)
            untold |= {expired.id for expired in model.expire(timed.now)}
            assert outcome == Outcome(*model.reserve(one, timed.now, lease))
            if outcome.granted:
                asked[one.id] = one
        elif what == "settle":
            id, tokens, requests = rest
            settled = Settled(asked.get(id, reservation(team, id=id)), tokens, requests)
            await store.settle(settled)
            model.settle(settled, timed.now)
            untold.discard(id)
            untold |= {expired.id for expired in model.expire(timed.now)}
        elif what == "renew":
            await store.renew({team: rest[0]})
            model.renew(rest[0], timed.now, lease)
        else:
            scopes, windows = rest
            found_levels = await store.levels(team, scopes, windows)
            untold |= {expired.id for expired in model.expire(timed.now)}
            assert found_levels == model.levels(scopes, windows, timed.now)
        if what in ("reserve", "settle", "levels"):  # whose replies say that there are some
            assert {one.id for one in await store.expired(())} == untold
    await store.close()


@pytest.mark.parametrize(
    "limits", [Limits(concurrency=50), Limits(rpm=50), Limits(daily_tokens=5_000)]
)
def test_200_requests_at_once_from_4_gateways_are_admitted_up_to_the_limit_exactly(
    server: Redis, limits: Limits
) -> None:
    async def run() -> None:
        team = new_team()
        async with contextlib.AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(connected(server.url, limit=20)) for _ in range(4)
            ]
            began = time.monotonic()
            outcomes = await asyncio.gather(
                *(stores[i % 4].reserve(reservation(team, limits)) for i in range(200))
            )
            granted = sum(outcome.granted for outcome in outcomes)
            refilled = (time.monotonic() - began) * 50 / 60 if limits.rpm else 0
            assert 50 <= granted <= 50 + refilled

    asyncio.run(run())


def test_a_refused_request_writes_nothing(server: Redis) -> None:
    async def run() -> None:
        team = new_team()
        async with connected(server.url, limit=10) as store:
            limits = Limits(rpm=1, tpm=1_000)
            assert (await store.reserve(reservation(team, limits))).granted
            before = _contents(server, team)
            assert not (await store.reserve(reservation(team, limits))).granted
            await level(store, reservation(team, limits))
            assert _contents(server, team) == before

    asyncio.run(run())


def _contents(server: Redis, team: str) -> dict[str, Any]:
    return {key: server.command("DUMP", key) for key in _keys(server, team)}


def _keys(server: Redis, team: str) -> list[str]:
    return sorted(server.command("KEYS", f"gptoss:{{{team}}}:*"))


def test_every_key_ends_some_day(server: Redis) -> None:
    async def run() -> None:
        team = new_team()
        limits = Limits(rpm=10, tpm=1_000)
        async with connected(server.url, limit=10) as store:
            one, two = reservation(team, limits), reservation(team, limits)
            await store.reserve(one)
            await store.reserve(two)
            await store.renew({team: [one.id]})
            await store.settle(Settled(one, 50))
            await store.beat("g", restored=True)
        names = _keys(server, team)
        kinds = {name.removeprefix(f"gptoss:{{{team}}}:").split(":")[0] for name in names}
        assert kinds == {"leases", "finished", "records", "open", "rate", "day", "month"}
        assert len({key_slot(name.encode()) for name in names}) == 1
        for name in [*names, "gptoss:gateways", "{gptoss:gateways}:epoch"]:
            assert 0 < int(server.command("TTL", name)) < 80 * 86_400

    asyncio.run(run())


def test_a_debt_is_remembered_until_it_has_drained(server: Redis) -> None:
    async def run() -> None:
        team = new_team()
        one = reservation(team, Limits(tpm=100))
        async with connected(server.url, limit=10) as store:
            await store.reserve(one)
            await store.settle(Settled(one, 100 * 60 * 48))
        assert int(server.command("TTL", f"gptoss:{{{team}}}:rate:team")) > 48 * 3600

    asyncio.run(run())


def test_what_a_dead_gateway_had_reserved_is_charged_and_handed_to_the_next(server: Redis) -> None:
    async def run() -> None:
        team = new_team()
        limits = Limits(concurrency=1, tpm=1_000, models=("m",), efforts=(Effort.HIGH,))
        dead, next_one = reservation(team, limits), reservation(team, limits)
        async with connected(server.url, lease=2, limit=10) as store:
            assert (await store.reserve(dead)).granted
            assert not (await store.reserve(next_one)).granted
            await asyncio.sleep(2.1)
            outcome = await store.reserve(next_one)
            assert outcome.granted
            assert outcome.levels[0].day_used == dead.tokens
            assert await store.expired(()) == (dead,)
            await store.settle(Settled(dead, 7))
            assert (await level(store, dead)).day_used == 7

    asyncio.run(run())


def test_a_renewed_lease_lasts_also_among_thousands(server: Redis) -> None:
    async def run() -> None:
        team, other = new_team(), new_team()
        async with connected(server.url, lease=3, limit=10) as store:
            kept = [reservation(name) for name in (team, other)]
            lost = reservation(team)
            for one in (*kept, lost):
                await store.reserve(one)
            more = [f"unknown-{i}" for i in range(2_500)]
            for _ in range(3):
                await asyncio.sleep(1.2)
                await store.renew({team: [*more, kept[0].id], other: [kept[1].id]})
            for name in (team, other):
                await store.reserve(reservation(name))
            assert await store.expired(()) == (lost,)
            assert (await level(store, kept[0])).open == 2

    asyncio.run(run())


def test_gateways_that_live_are_counted(server: Redis) -> None:
    async def run() -> None:
        server.flush()
        async with connected(server.url, lease=3, limit=10) as store:
            assert (await store.beat("a")).gateways == 1
            assert (await store.beat("b")).gateways == 2
            assert (await store.beat("b")).gateways == 2
            await asyncio.sleep(3.1)
            assert (await store.beat("b")).gateways == 1

    asyncio.run(run())


def test_beats_are_numbered_from_when_the_ledger_was_told(server: Redis) -> None:
    async def run() -> None:
        server.flush()
        async with connected(server.url, limit=10) as store:
            assert [(await store.beat(name)).number for name in "ab"] == [0, 0]
            assert (await store.beat("a", restored=True)).number == 1
            assert (await store.beat("b", restored=True)).number == 2
            assert (await store.beat("a")).number == 3
            server.flush()
            assert (await store.beat("a")).number == 0

    asyncio.run(run())


def test_what_the_ledger_knows_is_put_back_once_and_takes_nothing_away(server: Redis) -> None:
    async def run() -> None:
        one, (day, month) = reservation(new_team()), (WINDOWS.day.label, WINDOWS.month.label)
        async with connected(server.url, limit=10) as store:
            await store.settle(Settled(one, 300))
            for _ in range(2):
                await store.restore(one.team, {day: {"team": 200}, month: {"team": 10**15}})
            found = await level(store, one)
            assert (found.day_used, found.month_used) == (300, 10**15)
            other = reservation(new_team())
            await store.restore(other.team, {day: {"team": 200}})
            assert (await level(store, other)).day_used == 200
            for name in _keys(server, other.team):
                assert 0 < int(server.command("TTL", name)) < 80 * 86_400

    asyncio.run(run())


def test_what_expired_is_told_again_until_it_was_written_down(server: Redis) -> None:
    async def run() -> None:
        team = new_team()
        async with contextlib.AsyncExitStack() as stack:
            deaf, other = [
                await stack.enter_async_context(connected(server.url, lease=lease, limit=10))
                for lease in (0.05, 60)
            ]
            dead = [reservation(team) for _ in range(3)]
            for one in dead:
                await deaf.reserve(one)
            await asyncio.sleep(0.06)
            await level(deaf, dead[0])  # and the answer is not heard
            live = reservation(team)
            await other.reserve(live)
            assert set(await other.expired(())) == set(dead)
            assert set(await deaf.expired(())) == set(dead)
            assert await other.expired(dead) == ()
            await other.settle(Settled(live, 1))
            assert await other.expired(()) == ()

    asyncio.run(run())
