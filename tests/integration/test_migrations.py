"""The schema: made once whoever comes at once, and as the code expects it."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from service.database import migrate
from service.database.connect import Database
from service.database.opened import open_database
from service.database.schema import metadata
from service.errors import UserError
from service.settings import DatabaseSettings, Settings
from service.tenants.directory import Directory
from service.tenants.team import Team
from tests.process import free_port
from tests.servers.postgres import Postgres

AT_ONCE = 8


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gptoss.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def settings(url: str) -> Settings:
    return Settings(database=DatabaseSettings(url=SecretStr(url)))


async def upgraded(url: str) -> list[str]:
    database = Database(url)
    try:
        return await migrate.upgrade(database)
    finally:
        await database.close()


def _upgrade(url: str) -> list[str]:
    return asyncio.run(upgraded(url))


def test_the_migrations_make_the_schema_of_the_code(url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async def compare() -> list[object]:
        database = Database(url)
        await migrate.upgrade(database)
        async with database.read() as connection:
            found = await connection.run_sync(differences)
        await database.close()
        return found

    assert asyncio.run(compare()) == []


def test_processes_that_upgrade_at_once_do_it_once(url: str) -> None:
    replicas = multiprocessing.get_context("forkserver")
    replicas.set_forkserver_preload([__name__])  # so that they start within one instant
    with replicas.Pool(AT_ONCE) as pool:
        applied = pool.map_async(_upgrade, [url] * AT_ONCE, chunksize=1).get(60)
    assert sorted(applied) == [[]] * (AT_ONCE - 1) + [["0001"]]


def test_tasks_that_upgrade_at_once_do_it_once(url: str) -> None:
    async def all_at_once() -> list[list[str]]:
        return await asyncio.gather(*(upgraded(url) for _ in range(AT_ONCE)))

    assert sorted(asyncio.run(all_at_once())) == [[]] * (AT_ONCE - 1) + [["0001"]]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_audit_log_is_only_ever_added_to(url: str, statement: str) -> None:
    async def tamper() -> int:
        database = Database(url)
        await migrate.upgrade(database)
        directory = Directory(database)
        await directory.create_team("alice", Team("search"))
        with pytest.raises(DBAPIError, match="append-only"):
            async with database.begin() as connection:
                await connection.execute(text(statement))
        entries = await directory.audit()
        await database.close()
        return [entry.actor for entry in entries].count("alice")

    assert asyncio.run(tamper()) == 1


def test_opening_makes_a_sqlite_database_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "state" / "gptoss.db"

    async def use() -> int:
        async with open_database(settings(f"sqlite:///{path}")) as database:
            return await Directory(database).revision()

    assert asyncio.run(use()) == 0
    assert path.stat().st_mode & 0o077 == 0


def test_opening_a_postgresql_that_is_not_up_to_date_says_what_to_run(postgres: Postgres) -> None:
    url = postgres.database()
    assert "run `gptoss db upgrade`" in refusal(url)
    assert _upgrade(url) == ["0001"]
    assert refusal(url) == ""


def test_a_database_of_a_newer_version_is_used_and_left_alone(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Migrations only add: an older gateway goes on during an upgrade, and after a way back."""
    _upgrade(url)

    async def renumber() -> None:
        database = Database(url)
        async with database.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await database.close()

    asyncio.run(renumber())
    assert refusal(url) == ""
    assert _upgrade(url) == []
    assert "newer gptoss" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        (":{password}@", ":wrong@", "password authentication failed"),
        (":{port}/postgres", ":{port}/nothere", 'database "nothere" does not exist'),
        (":{port}/", ":{free}/", "Connect"),
    ],
)
def test_a_postgresql_that_cannot_be_used_is_one_line_without_its_password(
    postgres: Postgres, wrong: str, right: str, says: str
) -> None:
    values = {"password": postgres.password, "port": postgres.port, "free": free_port()}
    line = refusal(postgres.url.replace(wrong.format(**values), right.format(**values)))
    assert says in line
    assert f"127.0.0.1:{postgres.port}" in line or str(values["free"]) in line
    assert postgres.password not in line
    assert "\n" not in line


def test_a_frozen_postgresql_is_one_line_within_seconds(postgres: Postgres) -> None:
    postgres.freeze()
    try:
        assert "no answer in time" in refusal(postgres.url)
    finally:
        postgres.thaw()


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gptoss.db"
    path.write_text("not a database, whatever its name " * 100)
    line = refusal(f"sqlite:///{path}")
    assert "not a database" in line
    assert str(path) in line
    assert path.read_text().startswith("not a database, whatever")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refusal(f"sqlite:///{tmp_path / 'file' / 'gptoss.db'}")
    assert str(tmp_path / "file") in line


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    """A limit of pages refuses as a full disk does, and needs no root."""
    url = f"sqlite:///{tmp_path / 'gptoss.db'}"

    async def fill() -> None:
        async with open_database(settings(url)) as database:
            directory = Directory(database)
            async with database.begin() as connection:
                await connection.execute(text("PRAGMA max_page_count = 1"))
            for number in range(1000):
                await directory.create_team("alice", Team(f"team-{number}"))

    with pytest.raises(UserError, match="database or disk is full: check the file"):
        asyncio.run(fill())


def refusal(url: str) -> str:
    """What opening the database says; empty where it opens."""

    async def use() -> None:
        async with open_database(settings(url)):
            pass

    try:
        asyncio.run(use())
    except UserError as error:
        return str(error)
    return ""
