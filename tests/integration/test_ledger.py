"""The ledger's writer against real databases: each accepted record is there exactly once."""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import delete, event, make_url

from service.database.connect import Database
from service.database.schema import usage
from service.ledger.record import Settlement, UsageRecord
from service.ledger.writer import Ledger
from service.settings import LedgerSettings
from tests.records import opened, record, rows, running, until
from tests.servers.postgres import Postgres

SOON = LedgerSettings(flush=0.05)
EXACT, EXPIRED = Settlement.EXACT, Settlement.EXPIRED


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def test_what_is_put_is_written_within_the_flush_time(url: str) -> None:
    async def run() -> None:
        async with opened(url) as database, running(Ledger(database, SOON)) as ledger:
            one = record("one", Settlement.CUT)
            ledger.put(one)
            await until(lambda: ledger.written == 1)
            (row,) = await rows(database)
            assert UsageRecord(**row._mapping) == one
            assert (ledger.pending, ledger.dropped, ledger.failures) == (0, 0, 0)

    asyncio.run(run())


def test_a_full_batch_does_not_wait_for_the_flush_time(url: str) -> None:
    async def run() -> None:
        slow = LedgerSettings(flush=3600)
        async with opened(url) as database, running(Ledger(database, slow)) as ledger:
            for number in range(1700):
                ledger.put(record(f"{number:04}"))
            await until(lambda: ledger.written >= 1500)
            ledger.put(record("last"))
            assert await ledger.close(10) == 0
            assert len(await rows(database)) == ledger.written == 1701

    asyncio.run(run())


written_twice = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([EXACT, Settlement.CUT, EXPIRED])),
    max_size=12,
)


@examples(max_examples=25, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(written_twice, max_size=4))
def test_a_request_counts_once_and_its_own_settlement_replaces_an_expired_lease(
    url: str, batches: list[list[tuple[str, Settlement]]]
) -> None:
    async def run() -> None:
        expected: dict[str, set[Settlement]] = {}
        async with opened(url) as database:
            async with database.begin() as connection:
                await connection.execute(delete(usage))
            for batch in batches:
                ledger = Ledger(database, SOON)
                for id, settlement in batch:
                    ledger.put(record(id, settlement))
                assert await ledger.close(10) == 0
                for id in {id for id, _ in batch}:
                    own = {settlement for other, settlement in batch if other == id} - {EXPIRED}
                    if expected.get(id, {EXPIRED}) == {EXPIRED}:  # the first settlement stays
                        expected[id] = own or {EXPIRED}
            found = {row.id: Settlement(row.settlement) for row in await rows(database)}
        assert found.keys() == expected.keys()
        assert all(found[id] in expected[id] for id in found)

    asyncio.run(run())


def test_a_late_settlement_replaces_the_whole_charge_of_an_expired_lease_and_nothing_else_does(
    url: str,
) -> None:
    async def run() -> None:
        lease, again = (record("one", EXPIRED, prompt_tokens=tokens) for tokens in (500, 600))
        late = record("one", EXACT, prompt_tokens=7, completion_tokens=3, day="2026-08-21")
        other = record("one", EXACT, prompt_tokens=8)
        written = [(lease, lease), (again, lease), (late, late), (again, late), (other, late)]
        async with opened(url) as database:
            for one, kept in written:
                ledger = Ledger(database, SOON)
                ledger.put(one)
                assert await ledger.close(10) == 0
                (row,) = await rows(database)
                assert UsageRecord(**row._mapping) == kept

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(2))
def test_each_record_is_written_once_though_the_server_is_killed_and_frozen(
    postgres: Postgres, seed: int
) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        async with opened(postgres.database()) as database:
            async with running(Ledger(database, SOON)) as ledger:
                stop = asyncio.Event()

                async def put() -> int:
                    number = 0
                    while not stop.is_set():
                        for _ in range(chance.randrange(60)):
                            ledger.put(record(f"{number:07}", prompt_tokens=number))
                            number += 1
                        await asyncio.sleep(0.005)
                    return number

                putting = asyncio.create_task(put())
                for fault in chance.sample(["kill", "freeze", "kill", "freeze"], 4):
                    await asyncio.sleep(chance.uniform(0.1, 0.4))
                    await asyncio.to_thread(_fault, postgres, fault, chance.uniform(0, 0.5))
                    await until(_more_than(ledger, ledger.written))
                stop.set()
                count = await putting
                await until(lambda: not ledger.pending)
            found = [(row.id, row.prompt_tokens) for row in await rows(database)]
            assert found == [(f"{number:07}", number) for number in range(count)]
            assert (ledger.written, ledger.dropped) == (count, 0)
            assert ledger.failures

    asyncio.run(run())


def _more_than(ledger: Ledger, written: int) -> Callable[[], bool]:
    return lambda: ledger.written > written


def _fault(postgres: Postgres, fault: str, seconds: float) -> None:
    if fault == "kill":
        postgres.kill()
        time.sleep(seconds)
        postgres.start()
    else:
        postgres.freeze()
        time.sleep(seconds)
        postgres.thaw()


def test_a_batch_whose_commit_was_not_acknowledged_is_written_again_and_counts_once(
    postgres: Postgres,
) -> None:
    async def run() -> None:
        url = postgres.database()
        async with opened(url) as direct, _cut_after_commit(url) as (proxied, cuts):
            database = Database(proxied)
            async with running(Ledger(database, SOON)) as ledger:
                for number in range(700):
                    ledger.put(record(f"{number:03}"))
                await until(lambda: ledger.written == 700)
            await database.close()
            assert cuts == ["cut", "cut"]
            assert ledger.failures == 2
            assert [row.id for row in await rows(direct)] == [f"{n:03}" for n in range(700)]

    asyncio.run(run())


@asynccontextmanager
async def _cut_after_commit(url: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A way to the server that is cut, twice, when it has committed and is about to say so."""
    cuts: list[str] = []
    server = make_url(url)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(server.host, server.port)
        committing = asyncio.Event()

        async def answers() -> None:
            while data := await back.read(65536):
                if committing.is_set() and b"COMMIT" in data and len(cuts) < 2:
                    cuts.append("cut")
                    break
                writer.write(data)
            writer.close()
            forth.close()

        answering = asyncio.create_task(answers())
        while data := await reader.read(65536):
            if b"COMMIT" in data:
                committing.set()
            forth.write(data)
        forth.close()
        await answering

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        yield server.set(port=port).render_as_string(hide_password=False), cuts
    finally:
        proxy.close()


def test_memory_is_bounded_while_the_server_is_away_and_the_overflow_is_counted(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        small = LedgerSettings(flush=0.05, max_pending=1200)
        async with opened(postgres.database()) as database:
            async with running(Ledger(database, small)) as ledger:
                await asyncio.to_thread(postgres.kill)
                for number in range(2000):
                    ledger.put(record(f"{number:04}"))
                await until(lambda: ledger.failures > 1)
                assert (ledger.pending, ledger.dropped, ledger.written) == (1200, 800, 0)
                await asyncio.to_thread(postgres.start)
                await until(lambda: ledger.written == 1200)
            kept = [row.id for row in await rows(database)]
            assert kept == [f"{number:04}" for number in range(1200)]  # the newest are dropped

    asyncio.run(run())
    said = [entry.message for entry in caplog.records if entry.name == "service.ledger.writer"]
    assert len([text for text in said if "full" in text]) == 1
    assert len([text for text in said if "cannot be written" in text]) == 1


def test_a_small_ledger_is_written_before_it_is_full(tmp_path: Path) -> None:
    async def run() -> None:
        seldom = LedgerSettings(flush=3600, max_pending=10)
        async with (
            opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database,
            running(Ledger(database, seldom)) as ledger,
        ):
            for number in range(20):
                for half in range(5):
                    ledger.put(record(f"{number}-{half}"))
                await until(lambda: not ledger.pending)
            assert (ledger.written, ledger.dropped) == (100, 0)

    asyncio.run(run())


def test_a_record_that_the_database_refuses_is_counted_and_does_not_hold_up_the_others(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        record("nul", outcome="a\0b"),
        record("surrogate", model="\ud800"),
        record("long", team="t" * 64),
        record("large", prompt_tokens=2**63),
        record("missing", route=None),
        record("no-number", prompt_tokens="many"),
    ]

    async def run() -> None:
        async with (
            opened(postgres.database()) as database,
            running(Ledger(database, SOON)) as ledger,
        ):
            for number in range(40):
                ledger.put(record(f"{number:02}"))
                if number < len(bad):
                    ledger.put(bad[number])
            await until(lambda: not ledger.pending)
            assert [row.id for row in await rows(database)] == [f"{n:02}" for n in range(40)]
            assert (ledger.written, ledger.dropped, ledger.failures) == (40, len(bad), 0)

    asyncio.run(run())
    assert "many" not in caplog.text


def test_sqlite_does_not_hold_up_the_others_either(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database:
            ledger = Ledger(database, SOON)
            for one in ("a", "b", "c"):
                ledger.put(record(one))
            ledger.put(record("large", prompt_tokens=2**63))
            ledger.put(record("surrogate", model="\ud800"))
            ledger.put(record("not-a-number", seconds=float("nan")))
            assert await ledger.close(10) == 0
            assert [row.id for row in await rows(database)] == ["a", "b", "c"]
            assert (ledger.written, ledger.dropped) == (3, 3)

    asyncio.run(run())


def test_a_missing_table_loses_nothing(url: str) -> None:
    async def run() -> None:
        database = Database(url)
        async with running(Ledger(database, SOON)) as ledger:
            ledger.put(record("early"))
            await until(lambda: ledger.failures > 0)
            assert (ledger.pending, ledger.dropped) == (1, 0)
            async with opened(url):
                await until(lambda: ledger.written == 1)
        await database.close()

    asyncio.run(run())


def test_a_sqlite_file_that_another_writer_has_locked_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def run() -> None:
        async with opened(f"sqlite:///{path}") as database:
            await database.close()  # connections from here on give up soon

            @event.listens_for(database.engine.sync_engine, "connect")
            def impatient(connection: sqlite3.Connection, _: object) -> None:
                connection.execute("PRAGMA busy_timeout=20")

            other = sqlite3.connect(path, isolation_level=None)
            async with running(Ledger(database, SOON)) as ledger:
                other.execute("BEGIN IMMEDIATE")
                ledger.put(record("one"))
                await until(lambda: ledger.failures > 1)
                assert (ledger.written, ledger.pending) == (0, 1)
                other.execute("COMMIT")
                other.close()
                await until(lambda: ledger.written == 1)
            assert len(await rows(database)) == 1

    asyncio.run(run())


def test_a_writer_that_is_cancelled_at_any_moment_leaves_each_record_to_be_written_once(
    url: str,
) -> None:
    chance = random.Random(0)

    async def run() -> None:
        async with opened(url) as database:
            ledger = Ledger(database, LedgerSettings(flush=0.001))
            for turn in range(20):
                for number in range(50):
                    ledger.put(record(f"{turn:02}-{number:02}"))
                async with running(ledger):
                    await asyncio.sleep(chance.uniform(0, 0.02))
            assert await ledger.close(10) == 0
            assert len(await rows(database)) == ledger.written == 1000

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_closing_takes_no_longer_than_it_may_and_says_how_many_records_were_lost(
    postgres: Postgres, fault: str
) -> None:
    async def run() -> None:
        async with opened(postgres.database()) as database:
            ledger = Ledger(database, SOON)
            ledger.put(record("first"))
            assert await ledger.close(10) == 0
            ledger = Ledger(database, SOON)
            for number in range(3):
                ledger.put(record(f"{number}"))
            getattr(postgres, fault)()
            try:
                before = time.monotonic()
                assert await ledger.close(0.5) == 3
                assert time.monotonic() - before < 15  # a command may take 30
            finally:
                postgres.start() if fault == "kill" else postgres.thaw()
            ledger.put(record("after"))
            assert (ledger.pending, ledger.dropped) == (3, 1)

    asyncio.run(run())
