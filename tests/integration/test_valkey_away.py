"""A server that is away, slow or new costs little, and is found again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
import uvloop
from pydantic import SecretStr

from service.quota.guard import Guard
from service.quota.limits import Limits
from service.quota.reservation import Settled
from service.quota.store import StoreFailed, StoreUnavailable
from service.quota.valkey_pipeline import Pipeline, opened
from service.quota.valkey_url import parse
from service.settings import QuotaSettings
from tests.integration.counters import (
    SLACK,
    TIMEOUT,
    connected,
    level,
    new_team,
    reservation,
    until,
)
from tests.integration.forwarding import forwarding
from tests.servers.redis import Redis


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def test_no_server_at_all_is_said_at_once() -> None:
    async def run() -> None:
        with Redis() as gone:
            url = gone.url
        async with connected(url) as store:
            with pytest.raises(StoreUnavailable):
                await store.reserve(reservation("t"))

    asyncio.run(run())


def test_a_frozen_server_costs_the_time_limit_and_no_reply_goes_astray(server: Redis) -> None:
    async def run() -> None:
        async with connected(server.url) as store:
            # Every team has its own number of open requests: a stray reply would show.
            teams = {new_team(): count for count in range(1, 9)}
            for team, count in teams.items():
                for _ in range(count):
                    await until(partial(store.reserve, reservation(team)))

            async def ask(team: str) -> bool:
                began = time.monotonic()
                try:
                    found = await level(store, reservation(team))
                except StoreUnavailable:
                    assert time.monotonic() - began < TIMEOUT + SLACK
                    return False
                assert found.open == teams[team]
                return True

            async def sure(team: str) -> None:
                if not await ask(team):
                    raise StoreUnavailable

            for _ in range(6):
                asked = [asyncio.create_task(ask(team)) for team in teams]
                server.freeze()
                try:
                    asked += [asyncio.create_task(ask(team)) for team in teams]
                    answered = await asyncio.gather(*asked)
                    assert not all(answered)
                finally:
                    server.thaw()
                # Right after it the late replies come.
                await asyncio.gather(*(ask(team) for team in teams))
                await until(lambda: level(store, reservation("t")))
            for team in teams:
                await until(partial(sure, team))

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_reply_that_is_there_counts_although_this_process_was_too_busy_to_read_it(
    server: Redis, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def run() -> None:
        async with connected(server.url, limit=0.2) as store:
            one = reservation(new_team())
            await until(lambda: level(store, one))
            for _ in range(5):
                asked = asyncio.create_task(level(store, one))
                for _ in range(3):
                    await asyncio.sleep(0)  # it is sent
                time.sleep(0.3)  # noqa: ASYNC251
                await asked

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_a_server_that_greets_slower_than_a_request_may_wait_is_reached_all_the_same(
    server: Redis,
) -> None:
    async def run() -> None:
        async with _delaying(server.port, seconds=0.1) as port:
            url = f"redis://127.0.0.1:{port}/3"  # the database: one more round trip
            async with connected(url, limit=0.18) as store:
                await until(lambda: level(store, reservation("t")))

    asyncio.run(run())


@contextlib.asynccontextmanager
async def _delaying(port: int, seconds: float) -> AsyncIterator[int]:
    """A way to a server that takes that long to send anything."""

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await asyncio.sleep(seconds)
                writer.write(data)
        writer.close()

    async with forwarding(port, late, None) as own:
        yield own


def test_it_is_the_same_after_a_restart() -> None:
    async def run() -> None:
        with Redis(appendonly=True, options={"appendfsync": "always"}) as server:
            async with connected(server.url) as store:
                one = reservation("t", Limits(tpm=1_000))
                await until(lambda: store.reserve(one))
                server.kill()
                with pytest.raises(StoreUnavailable):
                    await store.settle(Settled(one, 70))
                server.start()
                await until(lambda: store.settle(Settled(one, 70)))
                await until(lambda: store.settle(Settled(one, 70)))
                found = await until(lambda: level(store, one))
                assert (found.open, found.day_used, found.day_reserved) == (0, 70, 0)

    asyncio.run(run())


def test_a_connection_that_the_server_closed_meanwhile_costs_no_request(server: Redis) -> None:
    async def run() -> None:
        async with connected(server.url, limit=10) as store:
            await level(store, reservation("t"))
            server.command("CLIENT KILL", "TYPE", "normal")
            await asyncio.sleep(0.1)
            await level(store, reservation("t"))

    asyncio.run(run())


def test_a_server_that_forgot_the_scripts_is_told_again(server: Redis) -> None:
    async def run() -> None:
        async with connected(server.url, limit=10) as store:
            one = reservation(new_team())
            assert (await store.reserve(one)).granted
            server.command("SCRIPT FLUSH")
            await store.settle(Settled(one, 1))
            server.command("SCRIPT FLUSH")
            await store.renew({one.team: [one.id], "other": ["x"]})
            assert (await level(store, one)).day_used == 1

    asyncio.run(run())


def test_it_needs_no_leave_to_load_scripts() -> None:
    async def run() -> None:
        with Redis(options={"rename-command": 'SCRIPT ""'}) as server:
            async with connected(server.url, limit=10) as store:
                assert (await store.reserve(reservation("t"))).granted

    asyncio.run(run())


@pytest.mark.parametrize("password", ["", "wrong-password"])
def test_a_wrong_password_is_said_in_a_line_that_does_not_show_it(password: str) -> None:
    async def run() -> None:
        with Redis(password="right-password") as server:
            url = f"redis://:{password}@{server.address}/0"
            async with connected(url, limit=10) as store:
                with pytest.raises(
                    StoreUnavailable, match=r"mend the setting quota\.url"
                ) as caught:
                    await store.reserve(reservation("t"))
            assert "-password" not in str(caught.value)
            async with connected(server.url, limit=10) as store:
                assert (await store.reserve(reservation("t"))).granted

    asyncio.run(run())


def test_a_burst_that_takes_longer_than_a_request_waits_is_no_loss(server: Redis) -> None:
    """With more patience than 50 ms: so long a busy machine may stand still by itself."""

    async def run() -> None:
        team = new_team()
        async with connected(server.url, limit=0.5) as store:
            await until(lambda: level(store, reservation(team)))
            guard = Guard(store, QuotaSettings(), "g")
            for size in (5_000, 20_000, 80_000):
                burst = (guard.reserve(reservation(team)) for _ in range(size))
                outcomes = await asyncio.gather(*burst)
                assert not guard.degraded
                if any(outcome.narrowed for outcome in outcomes):
                    return  # some did wait too long
            raise AssertionError("no burst took longer than a request waits")

    asyncio.run(run())


@contextlib.asynccontextmanager
async def slow_question(server: Redis) -> AsyncIterator[tuple[Pipeline, "asyncio.Future[object]"]]:
    """A connection, and a question on it that the server answers after 3 s."""
    parsed = parse(SecretStr(server.url))
    pipeline = Pipeline(lambda: opened(parsed.connection(parsed.servers[0])))
    try:
        await pipeline.exchange([("PING",)])
        yield pipeline, asyncio.ensure_future(pipeline.exchange([("BLPOP", "nothing", "3")]))
    finally:
        await pipeline.close()


def test_what_a_busy_process_did_not_read_is_not_owed_by_the_server(server: Redis) -> None:
    async def run() -> None:
        async with slow_question(server) as (pipeline, asked):
            await asyncio.sleep(0.01)
            before = pipeline.owes()
            time.sleep(0.5)  # noqa: ASYNC251  # a process that is busy is what it is about
            assert pipeline.owes() - before < 0.1
            await asked  # meanwhile it looked
            assert pipeline.owes() == 0

    asyncio.run(run())


def test_a_server_owes_what_was_looked_for_in_vain(server: Redis) -> None:
    async def run() -> None:
        async with slow_question(server) as (pipeline, asked):
            most = 0.0
            while not asked.done():
                most = max(most, pipeline.owes())
                await asyncio.sleep(0.01)
            assert most > 0.5  # of 3 s, on however busy a machine
            await asked

    asyncio.run(run())


def test_one_call_that_fails_takes_the_store_from_nobody_else(server: Redis) -> None:
    async def run() -> None:
        bad, good = new_team(), new_team()
        server.command("HSET", f"gptoss:{{{bad}}}:open", "team", "no number")
        async with connected(server.url, limit=10) as store:
            guard = Guard(store, QuotaSettings(), "g")
            with pytest.raises(StoreFailed, match="not an integer"):
                await guard.reserve(reservation(bad))
            assert (await guard.reserve(reservation(good))).narrowed is None

    asyncio.run(run())


def test_a_server_that_takes_no_more_is_away(server: Redis) -> None:
    async def run() -> None:
        async with connected(server.url, limit=10) as store:
            server.command("CONFIG SET", "maxmemory", "1")
            try:
                with pytest.raises(StoreUnavailable) as caught:
                    await store.reserve(reservation(new_team()))
            finally:
                server.command("CONFIG SET", "maxmemory", "0")
            assert not isinstance(caught.value, StoreFailed)
            await store.reserve(reservation(new_team()))

    asyncio.run(run())
