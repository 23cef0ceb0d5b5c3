"""Sums of use, and the folding that must not change them, on both databases."""

import asyncio
import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select
from typer.testing import CliRunner

from service.cli import usage as command
from service.database import schema
from service.database.connect import Database
from service.errors import UserError
from service.ledger.record import Settlement, UsageRecord
from service.ledger.retention import fold, run_retention
from service.ledger.usage import SUMS, Dimension, Spent, UsageQuery, spent, usage
from service.settings import LedgerSettings
from tests.records import NOW, opened, record
from tests.servers.postgres import Postgres

TABLES = (schema.usage, schema.usage_hourly, schema.usage_daily)
KEEP = LedgerSettings(keep_records_days=2, keep_hourly_days=4, keep_daily_days=3650)


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


async def write(database: Database, records: Iterable[UsageRecord]) -> None:
    if values := [asdict(one) for one in records]:
        async with database.begin() as connection:
            await connection.execute(insert(schema.usage), values)


async def sizes(database: Database) -> list[int]:
    """How many rows the three tables have."""
    async with database.read() as connection:
        counts = [select(func.count()).select_from(table) for table in TABLES]
        return [(await connection.execute(count)).scalar_one() for count in counts]


# The model: the same sums, over the records themselves.

Sums = dict[tuple[str | None, ...], tuple[float, ...]]


def summed(records: Iterable[UsageRecord], query: UsageQuery) -> Sums:
    sums: dict[tuple[str | None, ...], list[float]] = defaultdict(lambda: [0.0] * len(SUMS))
    for one in records:
        if not asked(one, query):
            continue
        hour = one.at.astimezone(UTC).strftime("%Y-%m-%dT%H:00Z")
        group = tuple(hour if by == "hour" else str(getattr(one, by)) for by in query.by)
        for place, name in enumerate(SUMS):
            sums[group][place] += 1 if name == "requests" else getattr(one, name)
    return {group: tuple(values) for group, values in sums.items()}


def asked(one: UsageRecord, query: UsageQuery) -> bool:
    hour = one.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if isinstance(query.since, datetime):
        begun = hour + timedelta(hours=1) > query.since
    else:
        begun = query.since is None or one.day >= query.since.isoformat()
    if isinstance(query.until, datetime):
        over = hour >= query.until
    else:
        over = query.until is not None and one.day >= query.until.isoformat()
    wanted = all(
        value is None or value == getattr(one, name)
        for name, value in (("team", query.team), ("key", query.key), ("model", query.model))
    )
    return begun and not over and wanted


async def answered(database: Database, query: UsageQuery) -> Sums:
    return {
        tuple(row.group.values()): tuple(getattr(row, name) for name in SUMS)
        for row in await usage(database, query)
    }


ZONES = {
    "search": timezone(timedelta(hours=14)),
    "ads": UTC,
    "maps": timezone(-timedelta(hours=12)),
}
few = st.integers(0, 1000)


def ago(days: int, minutes: int) -> datetime:
    return NOW - timedelta(days=days, minutes=minutes)


@st.composite
def records(draw: st.DrawFn) -> list[UsageRecord]:
    """Few different ones, so that many fall into one sum."""
    made = []
    for number in range(draw(st.integers(0, 40))):
        team = draw(st.sampled_from(sorted(ZONES)))
        at = ago(draw(st.integers(0, 6)), draw(st.integers(0, 90)))
        made.append(
            record(
                f"{number}",
                draw(st.sampled_from([Settlement.EXACT, Settlement.CUT])),
                at=at,
                day=at.astimezone(ZONES[team]).date().isoformat(),
                team=team,
                key=draw(st.sampled_from(["one", "two"])),
                model="gpt-oss-20b" if number % 2 else "gpt-oss-120b",
                prompt_tokens=draw(few),
                completion_tokens=draw(few),
                seconds=draw(few) / 4,
            )
        )
    return made


days = st.integers(0, 7).map(lambda ago: NOW.date() - timedelta(days=ago))
times = st.builds(ago, st.integers(0, 6), st.integers(0, 150))
by_day_or_coarser = st.lists(
    st.sampled_from([one for one in Dimension if one != Dimension.HOUR]), unique=True
).map(tuple)
by_anything = st.lists(st.sampled_from(Dimension), unique=True).map(tuple)
filters = {
    "team": st.none() | st.sampled_from([*sorted(ZONES), "nobody"]),
    "key": st.none() | st.just("one"),
    "model": st.none() | st.just("gpt-oss-20b"),
}
queries_by_day = st.builds(
    UsageQuery, by_day_or_coarser, st.none() | days, st.none() | days, **filters
)
queries_by_hour = st.builds(
    UsageQuery, by_anything, st.none() | days | times, st.none() | days | times, **filters
)
folds = st.lists(st.integers(-7 * 24, 7 * 24).map(lambda hours: NOW + timedelta(hours=hours)))
on_real_servers = examples(max_examples=15, suppress_health_check=list(HealthCheck))


async def check(
    url: str,
    keep: LedgerSettings,
    records: Sequence[UsageRecord],
    queries: Sequence[UsageQuery],
    times: Sequence[datetime],
) -> None:
    async with opened(url) as database:
        async with database.begin() as connection:
            for table in TABLES:
                await connection.execute(delete(table))
        half = len(records) // 2
        await write(database, records[:half])
        for number, now in enumerate([NOW, *times, NOW]):
            if number == 1:  # the others arrive when some have been folded
                await write(database, records[half:])
            known = records if number else records[:half]
            for query in queries:
                assert await answered(database, query) == summed(known, query)
            await fold(database, keep, now, portion=8)


@on_real_servers
@given(records=records(), queries=st.lists(queries_by_day, min_size=1, max_size=4), times=folds)
def test_folding_changes_no_sum_by_days(
    url: str, records: list[UsageRecord], queries: list[UsageQuery], times: list[datetime]
) -> None:
    asyncio.run(check(url, KEEP, records, queries, times[:4]))


@on_real_servers
@given(records=records(), queries=st.lists(queries_by_hour, min_size=1, max_size=4), times=folds)
def test_folding_into_hours_changes_no_sum_by_hours(
    url: str, records: list[UsageRecord], queries: list[UsageQuery], times: list[datetime]
) -> None:
    keep = LedgerSettings(keep_records_days=1, keep_hourly_days=400)
    asyncio.run(check(url, keep, records, queries, times[:4]))


def test_use_moves_from_records_to_hours_to_days_and_is_then_deleted(url: str) -> None:
    async def run() -> None:
        async with opened(url) as database:
            await write(database, [record("a"), record("b"), record("c", team="ads")])
            assert await sizes(database) == [3, 0, 0]
            expected = [[3, 0, 0], [0, 2, 0], [0, 0, 2], [0, 0, 2], [0, 0, 0]]
            for days, tables in zip((2, 2.01, 5.1, 3650, 3651), expected, strict=True):
                await fold(database, KEEP, NOW + timedelta(days=days))
                assert await sizes(database) == tables

    asyncio.run(run())


def test_an_hour_is_unknown_of_use_that_is_kept_by_day(url: str) -> None:
    async def run() -> None:
        async with opened(url) as database:
            await write(database, [record("old", at=NOW - timedelta(days=9)), record("new")])
            await fold(database, KEEP, NOW)
            found = await usage(database, UsageQuery((Dimension.DAY, Dimension.HOUR)))
            assert [row.group for row in found] == [
                {"day": "2026-08-13", "hour": None},
                {"day": "2026-08-22", "hour": "2026-08-22T14:00Z"},
            ]

    asyncio.run(run())


def test_use_that_is_kept_by_day_counts_by_its_day_where_times_are_asked_for(url: str) -> None:
    async def run() -> None:
        async with opened(url) as database:
            for ago in (9, 10, 11):
                await write(database, [record(f"{ago}", at=NOW - timedelta(days=ago))])
            await fold(database, KEEP, NOW)
            midnight = datetime(2026, 8, 12, tzinfo=UTC)
            query = UsageQuery((Dimension.DAY,), midnight, midnight + timedelta(days=1))
            assert [row.group["day"] for row in await usage(database, query)] == ["2026-08-12"]

    asyncio.run(run())


def test_gateways_that_fold_at_once_lose_nothing_and_a_reader_sees_each_record_once(
    url: str,
) -> None:
    async def run() -> None:
        async with opened(url) as database, opened(url) as second, opened(url) as third:
            made = [
                record(f"{number:03}", at=NOW - timedelta(hours=number % 200), prompt_tokens=number)
                for number in range(300)
            ]
            await write(database, made)
            query = UsageQuery()
            expected = summed(made, query)
            every = (database, second, third)
            folding = asyncio.gather(*(fold(one, KEEP, NOW, portion=20) for one in every))
            while not folding.done():
                assert await answered(database, query) == expected
                await asyncio.sleep(0.001)
            await folding
            assert await answered(database, query) == expected
            assert (await sizes(database))[2] > 0

    asyncio.run(run())


def test_retention_runs_again_after_an_error_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    async def run() -> None:
        database = Database(f"sqlite:///{path}")  # without its tables at first
        task = asyncio.create_task(run_retention(database, KEEP, every=0.05))
        await asyncio.sleep(0.2)
        async with opened(f"sqlite:///{path}") as other:
            await write(other, [record("old", at=NOW - timedelta(days=9000))])
            async with asyncio.timeout(10):
                while sum(await sizes(other)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        await database.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("now", "counted"),
    [
        (datetime(2026, 8, 22, tzinfo=UTC), ["2026-08-01", "2026-08-22"]),
        (datetime(2026, 9, 1, 11, tzinfo=UTC), ["2026-08-01", "2026-08-22"]),
        (datetime(2026, 9, 4, tzinfo=UTC), []),
    ],
)
def test_what_was_spent_of_open_budgets_is_told_whatever_was_folded(
    url: str, now: datetime, counted: list[str]
) -> None:
    async def run() -> None:
        async with opened(url) as database:
            for number, day in enumerate((date(2026, 7, 31), date(2026, 8, 1), date(2026, 8, 22))):
                at = datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
                twice = [record(f"{number}-{n}", at=at) for n in range(2)]
                await write(database, twice)
            for keep in (400, 40, 1):
                await fold(database, LedgerSettings(keep_records_days=keep), now)
                assert await spent(database, now) == [
                    Spent("search", "AbCdEfGhIjKl", "gpt-oss-120b", day, 240) for day in counted
                ]

    asyncio.run(run())


# The command.


@pytest.fixture
def app(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> typer.Typer:
    monkeypatch.setenv("GPTOSS_DATABASE__URL", url)
    monkeypatch.setenv("GPTOSS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    program = typer.Typer()
    program.command()(command.usage)

    async def run() -> None:
        async with opened(url) as database:
            now = datetime.now(UTC)
            for number in range(3):
                model = "gpt-oss-20b" if number else "gpt-oss-120b"
                await write(database, [record(f"{number}", at=now, model=model)])
            await write(database, [record("other", at=now, team="ads", prompt_tokens=1_234_567)])

    asyncio.run(run())
    return program


def test_the_table_shows_each_group_and_the_total(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--since", "7d", "--by", "team,model"])
    assert shown.exit_code == 0, shown.output
    assert "1,234,567" in shown.output
    assert "1,234,867" in shown.output.splitlines()[-2]


def test_json_and_csv_hold_the_same_rows(app: typer.Typer) -> None:
    asked = ["--team", "search", "--since", "12h", "--by", "model,team"]
    as_json = CliRunner().invoke(app, [*asked, "--json"])
    as_csv = CliRunner().invoke(app, [*asked, "--csv"])
    rows = json.loads(as_json.stdout)
    assert [(row["model"], row["requests"], row["total_tokens"]) for row in rows] == [
        ("gpt-oss-120b", 1, 120),
        ("gpt-oss-20b", 2, 240),
    ]
    read = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(("form", "stdout"), [([], ""), (["--json"], "[]\n"), (["--csv"], None)])
def test_nothing_used_is_said_in_one_line_and_is_no_error(
    app: typer.Typer, form: list[str], stdout: str | None
) -> None:
    shown = CliRunner().invoke(app, ["--team", "nobody", *form])
    assert shown.exit_code == 0
    assert len(shown.stderr.splitlines()) == 1
    if stdout is None:
        assert len(shown.stdout.splitlines()) == 1
        assert shown.stdout.startswith("team,requests,prompt_tokens")
    else:
        assert shown.stdout == stdout


def test_the_command_refuses_two_forms_at_once(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--json", "--csv"])
    assert isinstance(shown.exception, UserError)
