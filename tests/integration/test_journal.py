"""A gateway that is killed: the next start finds every line of its ledger, once.

README states the bound: at most the requests that were open when it died are missing.
"""

import asyncio
import contextlib
import itertools
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.connect import Database
from service.ledger import writer
from service.ledger.journal import Journal
from service.ledger.record import Settlement
from service.ledger.retention import fold
from service.ledger.usage import UsageQuery
from service.ledger.usage import usage as sums
from service.ledger.writer import Ledger
from service.settings import DatabaseSettings, LedgerSettings, Settings
from service.tenants.team import Team
from tests.integration.fake_engine import FakeEngine
from tests.integration.test_embedded_restart import TOKENS, Embedded, far_from_midnight, used
from tests.integration.test_gateway import CHAT, ask
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import free_port
from tests.records import opened, record, rows, running, until
from tests.servers.postgres import Postgres

SOON = LedgerSettings(flush=0.05)
NEVER = "3600"
CLIENTS = 4


# --- the ledger over its journal


def test_what_cannot_be_written_at_the_end_is_written_by_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"

    async def run() -> None:
        away = Database("postgresql://nobody@127.0.0.1:1/none")
        ledger = Ledger(away, SOON, Journal(folder))
        for number in range(3):
            ledger.put(record(f"{number}", at=datetime.now(UTC)))
        assert await ledger.close(0.1) == 3
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database:
            ledger = Ledger(database, SOON, Journal(folder))
            await ledger.inherit()
            assert (ledger.written, ledger.pending, ledger.dropped) == (3, 0, 0)
            assert [row.id for row in await rows(database)] == ["0", "1", "2"]
            assert await ledger.close(10) == 0
        assert list(folder.iterdir()) == []

    asyncio.run(run())
    assert "usage records are not written: the next start writes them" in caplog.messages
    assert "usage records are lost" not in caplog.messages


def test_without_a_place_for_the_journal_the_end_says_that_records_are_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")

    async def run() -> None:
        away = Database("postgresql://nobody@127.0.0.1:1/none")
        ledger = Ledger(away, SOON, Journal(tmp_path / "state" / "ledger"))
        ledger.put(record("one"))
        assert await ledger.close(0.1) == 1

    asyncio.run(run())
    assert "usage records are lost" in caplog.messages


def test_what_is_left_waits_in_its_file_while_the_database_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    leave(folder, *(f"{number:04}" for number in range(1200)))

    async def run() -> None:
        database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")  # without tables at first
        small = LedgerSettings(flush=0.05, max_pending=10)
        async with running(Ledger(database, small, Journal(folder))) as ledger:
            await ledger.inherit(5)
            await until(lambda: ledger.failures > 2)
            assert (ledger.written, ledger.pending, ledger.dropped) == (0, 0, 0)
            assert len(list(folder.iterdir())) == 2
            ledger.put(record("own"))
            async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as direct:
                await until(lambda: ledger.written == 1201)
                assert len(await rows(direct)) == 1201
        assert ledger.dropped == 0
        await database.close()
        await ledger.close(1)
        assert list(folder.iterdir()) == []

    asyncio.run(run())


def test_what_is_left_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    """Else the second takes for a living gateway's what the first has locked, and gives up."""
    folder = tmp_path / "journal"
    leave(folder, "one")

    class Held(Database):
        """A database whose first transaction fails once that is allowed."""

        fails = asyncio.Event()

        @contextlib.asynccontextmanager
        async def begin(self) -> AsyncIterator[AsyncConnection]:
            if not self.fails.is_set():
                await self.fails.wait()
                raise ConnectionError
            async with super().begin() as connection:
                yield connection

    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as direct:
            held = Held(f"sqlite:///{tmp_path / 'ledger.db'}")
            ledger = Ledger(held, SOON, Journal(folder))
            both = asyncio.gather(ledger.inherit(), ledger.inherit())
            await asyncio.sleep(0)  # both have begun
            held.fails.set()
            await both
            assert (ledger.failures, ledger.written) == (1, 1)
            assert [row.id for row in await rows(direct)] == ["one"]
            await ledger.close(1)
            await held.close()

    asyncio.run(run())


def test_what_may_have_been_summed_is_dropped_and_counted_rather_than_counted_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    now = datetime.now(UTC)
    put = [record(f"{age}", at=now - timedelta(days=age)) for age in (36, 34, 0)]

    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database:
            first = Ledger(database, SOON)
            for one in put:
                first.put(one)
            assert await first.close(10) == 0
            await fold(database, SOON, now)
            journal = Journal(folder)  # as if it had been killed before it could forget them
            for one in put:
                journal.append(one)
            journal.close()
            ledger = Ledger(database, SOON, Journal(folder))
            await ledger.inherit()
            assert (ledger.written, ledger.dropped) == (2, 1)
            (total,) = await sums(database, UsageQuery())
            assert total.requests == 3
            await ledger.close(10)
        assert list(folder.iterdir()) == []

    asyncio.run(run())
    assert any("too old" in text for text in caplog.messages)


def test_rubbish_is_said_in_one_line_and_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    leave(folder, "one", "two", "three")
    (file,) = folder.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"rubbish\n\0\n" + lines[1] + lines[2][:-20])

    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database:
            ledger = Ledger(database, SOON, Journal(folder))
            await ledger.inherit()
            assert [row.id for row in await rows(database)] == ["one", "two"]
            await ledger.close(10)

    asyncio.run(run())
    (said,) = (entry for entry in caplog.records if "no records" in entry.message)
    assert said.__dict__["lines"] == 3


def test_a_settlement_that_was_left_replaces_the_charge_of_its_expired_lease(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "journal"
    leave(folder, "one")

    async def run() -> None:
        async with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database:
            other = Ledger(database, SOON)
            other.put(record("one", Settlement.EXPIRED, prompt_tokens=5000))
            assert await other.close(10) == 0
            ledger = Ledger(database, SOON, Journal(folder))
            await ledger.inherit()
            (row,) = await rows(database)
            assert (row.settlement, row.prompt_tokens) == ("exact", 100)
            await ledger.close(10)

    asyncio.run(run())


def leave(folder: Path, *ids: str) -> None:
    """A journal whose process was killed."""
    journal = Journal(folder)
    for id in ids:
        journal.append(record(id, at=datetime.now(UTC)))
    journal.close()


class Fragile(Database):
    """A database that goes away once so many batches are written."""

    batches = -1

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        if self.batches == 0:
            raise ConnectionError
        self.batches -= 1
        async with super().begin() as connection:
            yield connection


deaths = ["die", "die-after-commit", "die-between-batches"]
actions = st.sampled_from(["put", "put", "put", "end", *deaths, "start", "both"])


@examples(max_examples=40)
@given(steps=st.lists(st.tuples(st.integers(0, 1), actions, st.integers(1, 9)), max_size=20))
def test_no_record_is_lost_and_none_is_there_twice_whoever_dies_and_when(
    steps: list[tuple[int, str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "BATCH", 4)
        asyncio.run(_play(Path(home), steps))


async def _play(home: Path, steps: list[tuple[int, str, int]]) -> None:
    """Two gateways on one folder and one database take `steps`; then both die, and one starts."""
    folder, living, put = home / "journal", dict[int, tuple[Ledger, Journal]](), 0
    now = datetime.now(UTC)

    def start(place: int) -> Ledger:
        if place not in living:
            journal = Journal(folder, lines=5)
            living[place] = Ledger(database, SOON, journal), journal
        return living[place][0]

    def die(place: int) -> None:
        if place in living:
            living.pop(place)[1].close()

    async with opened(f"sqlite:///{home / 'ledger.db'}") as direct:
        database = Fragile(f"sqlite:///{home / 'ledger.db'}")
        for place, action, number in steps:
            ledger = start(place)
            if action == "put":
                for _ in range(number):
                    ledger.put(record(f"{put:04}", at=now, prompt_tokens=put))
                    put += 1
            elif action == "end":
                assert await ledger.close(10) == 0
                del living[place]
            elif action == "die":
                die(place)
            elif action == "die-between-batches":
                database.batches = number % 3
                await ledger.close(0.03)
                database.batches = -1
                del living[place]
            elif action == "die-after-commit":
                shutil.copytree(folder, home / "before")
                assert await ledger.close(10) == 0
                for file in (home / "before").iterdir():
                    if not (folder / file.name).exists():
                        shutil.copy(file, folder)
                shutil.rmtree(home / "before")
                del living[place]
            elif action == "start":
                die(place)
                await start(place).inherit()
            else:
                die(0)
                die(1)
                await asyncio.gather(start(0).inherit(), start(1).inherit())
        die(0)
        die(1)
        last = start(0)
        await last.inherit()
        assert await last.close(10) == 0
        found = [(row.id, row.prompt_tokens) for row in await rows(direct)]
        await database.close()
        assert found == [(f"{number:04}", number) for number in range(put)]
        assert list(folder.iterdir()) == []


# --- a gateway that is killed


@dataclass(frozen=True)
class Killed(Embedded):
    """A gateway on one state folder, whose ledger is in SQLite there or in PostgreSQL."""

    @property
    def folder(self) -> Path:
        """Of its journal."""
        return self.home / "state" / "ledger"

    def kill(self, process: subprocess.Popen[bytes], lines: int) -> None:
        """End the gateway once it has that many lines in its journal."""
        files = self.folder.iterdir
        wait_for(lambda: sum(file.read_bytes().count(b"\n") for file in files()) == lines)
        process.kill()
        process.wait()

    def ids(self) -> list[str]:
        """Of the requests in the ledger."""
        return sorted(line.id for line in self.office.ledger())


@pytest.fixture
def killed(engine: FakeEngine, tmp_path: Path) -> Killed:
    return _killed(engine, tmp_path, Office.at(tmp_path / "state"))


def _killed(engine: FakeEngine, home: Path, office: Office) -> Killed:
    office.add_team(Team("tests", timezone=far_from_midnight()))
    return Killed(home, engine, office, office.add_key("tests")[1])


def ask_for(client: httpx.Client, count: int) -> list[str]:
    """That many requests, by their ids."""
    answers = [client.post(CHAT, json=ask("well", stream=bool(n % 2))) for n in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.headers["x-request-id"] for answer in answers]


def test_every_line_of_a_gateway_that_was_killed_is_in_the_ledger_once(killed: Killed) -> None:
    asked: list[str] = []
    for _ in range(2):
        with killed.gateway(GPTOSS_LEDGER__FLUSH=NEVER) as (process, client):
            assert killed.ids() == sorted(asked)  # by the time that it answers
            assert used(client) == [(len(asked) * TOKENS, 0)] * 6
            new = ask_for(client, 40)
            asked += new
            killed.kill(process, lines=len(new))
            assert killed.ids() == sorted(set(asked) - set(new))
    with killed.gateway(GPTOSS_LEDGER__FLUSH=NEVER) as (process, client):
        assert killed.ids() == sorted(asked)
        assert used(client) == [(len(asked) * TOKENS, 0)] * 6
        assert len(list(killed.folder.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert list(killed.folder.iterdir()) == []
    assert "Traceback" not in (killed.home / "log").read_text()


@pytest.mark.parametrize("flush", [NEVER, "0.02"])
def test_a_kill_under_load_costs_at_most_the_requests_that_were_open(
    killed: Killed, flush: str
) -> None:
    answered: list[str] = []
    with killed.gateway(GPTOSS_LEDGER__FLUSH=flush) as (process, client), load(client, answered):
        wait_for(lambda: len(answered) > 200, 20)
        process.kill()
    with killed.gateway(GPTOSS_LEDGER__FLUSH=NEVER):
        lines = killed.ids()
    assert len(lines) == len(set(lines))
    assert len(set(answered) - set(lines)) <= CLIENTS
    assert len(set(lines) - set(answered)) <= CLIENTS


@contextlib.contextmanager
def load(client: httpx.Client, answered: list[str]) -> Iterator[None]:
    """Clients that ask without a pause, until the gateway is gone."""

    def ask_on() -> None:
        with (
            httpx.Client(base_url=client.base_url, headers=client.headers, timeout=10) as own,
            contextlib.suppress(httpx.TransportError),
        ):
            for number in itertools.count():
                answer = own.post(CHAT, json=ask("well", stream=bool(number % 2)))
                assert answer.status_code == 200
                answered.append(answer.headers["x-request-id"])

    threads = [threading.Thread(target=ask_on) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(10)


def test_a_gateway_that_is_killed_while_the_database_is_away_loses_no_line(
    engine: FakeEngine, tmp_path: Path
) -> None:
    with Postgres() as postgres:
        url = postgres.database()
        settings = Settings(database=DatabaseSettings.model_validate({"url": url}))
        killed = _killed(engine, tmp_path, Office(settings, upgrade=True))
        with killed.gateway(GPTOSS_DATABASE__URL=url, GPTOSS_LEDGER__FLUSH="0.05") as (
            process,
            client,
        ):
            asked = ask_for(client, 5)
            wait_for(lambda: killed.ids() == sorted(asked), 10)
            postgres.kill()
            asked += ask_for(client, 20)
            killed.kill(process, lines=20)
        postgres.start()
        assert len(killed.ids()) == 5
        with killed.gateway(GPTOSS_DATABASE__URL=url):
            assert killed.ids() == sorted(asked)


def test_a_state_folder_that_cannot_be_written_fails_no_request(
    engine: FakeEngine, tmp_path: Path
) -> None:
    with Postgres() as postgres:
        url = postgres.database()
        settings = Settings(database=DatabaseSettings.model_validate({"url": url}))
        killed = _killed(engine, tmp_path, Office(settings, upgrade=True))
        (tmp_path / "state").write_text("a file")
        more = {"GPTOSS_DATABASE__URL": url, "GPTOSS_LEDGER__FLUSH": "0.05"}
        more["GPTOSS_GATEWAY__OPS_PORT"] = ops = str(free_port())
        with killed.gateway(**more) as (_, client):
            asked = ask_for(client, 20)
            page = httpx.get(f"http://127.0.0.1:{ops}/metrics", timeout=10).text
            assert "gptoss_gateway_journal_failed 1.0" in page
            wait_for(lambda: killed.ids() == sorted(asked), 10)
    said = (tmp_path / "log").read_text()
    assert said.count("the journal of the ledger cannot be written") == 1
