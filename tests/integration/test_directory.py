"""Teams and keys in the database: as a plain dictionary would hold them, and audited."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from service.database import migrate, schema
from service.database.connect import Database
from service.errors import UserError
from service.quota.limits import UNLIMITED, Effort, Limits, Tier
from service.tenants.directory import Conflict, Directory, NotFound
from service.tenants.keys import Key
from service.tenants.snapshot import Snapshot
from service.tenants.team import Team
from tests.servers.postgres import Postgres

FULL = Limits(
    rpm=600,
    tpm=2_000_000,
    concurrency=64,
    daily_tokens=200_000_000,
    monthly_tokens=10**15,
    max_context=131_072,
    max_output=4096,
    models=("gpt-oss-120b",),
    efforts=(Effort.LOW, Effort.HIGH),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of either kind, with the schema."""
    if request.param == "sqlite":
        file: Path = tmp_path_factory.mktemp("directory") / "gptoss.db"
        made = f"sqlite:///{file}"
        _migrate(made)
        yield made
    else:
        with Postgres() as server:
            made = server.database()
            _migrate(made)
            yield made


def _migrate(url: str) -> None:
    async def upgrade() -> None:
        database = Database(url)
        await migrate.upgrade(database)
        await database.close()

    asyncio.run(upgrade())


def on_empty(url: str, use: Callable[[Directory], Awaitable[None]]) -> None:
    """Use a directory that holds no team."""

    async def run() -> None:
        database = Database(url)
        async with database.begin() as connection:
            await connection.execute(delete(schema.keys))
            await connection.execute(delete(schema.teams))
        try:
            await use(Directory(database))
        finally:
            await database.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "team",
    [
        Team("plain"),
        Team(
            "all-set",
            tier=Tier.INTERACTIVE,
            timezone="Europe/Berlin",
            limits=FULL,
            model_limits={"gpt-oss-120b": Limits(tpm=1000), "gpt-oss-20b": FULL},
            default_output=64,
            isolate_cache=False,
            disabled=True,
        ),
    ],
)
def test_a_team_comes_back_as_it_went_in(url: str, team: Team) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", team)
        assert await directory.team(team.name) == team
        assert await directory.teams() == [team]

    on_empty(url, use)


def test_a_key_comes_back_as_it_went_in(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        expires = datetime.now(UTC) + timedelta(days=90)
        key, token = await directory.create_key(
            "alice", "search", label="ci", expires=expires, limits=FULL
        )
        assert await directory.keys("search") == [key]
        assert key.opens_with(token)

    on_empty(url, use)


def test_limits_that_are_not_set_are_not_stored(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search", limits=Limits(rpm=1)))
        await directory.create_key("alice", "search")
        async with directory.database.read() as connection:
            assert await connection.scalar(select(schema.teams.c.limits)) == {"rpm": 1}
            assert await connection.scalar(select(schema.keys.c.limits)) == {}

    on_empty(url, use)


def test_a_change_that_changes_nothing_writes_nothing(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search", limits=FULL))
        before = await directory.revision(), await directory.audit()
        await directory.change_team("bob", "search", lambda _: Team("search", limits=FULL))
        assert (await directory.revision(), await directory.audit()) == before

    on_empty(url, use)


def test_a_change_keeps_the_cache_salt(url: str) -> None:
    async def use(directory: Directory) -> None:
        team = Team("search")
        await directory.create_team("alice", team)
        await directory.change_team("alice", "search", lambda _: Team("search", default_output=5))
        assert await directory.team("search") == replace(team, default_output=5)

    on_empty(url, use)


def test_the_audit_log_says_who_did_what_to_whom(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search", limits=Limits(rpm=60)))
        await directory.change_team(
            "bob", "search", lambda team: replace(team, limits=Limits(rpm=600))
        )
        old, _ = await directory.create_key("carol", "search")
        new, _ = await directory.rotate_key("dave", old.id)
        await directory.revoke_key("erin", new.id)
        await directory.delete_team("frank", "search")
        entries = (await directory.audit(limit=7))[::-1]
        assert [(entry.actor, entry.action, entry.subject) for entry in entries] == [
            ("alice", "team.create", "search"),
            ("bob", "team.change", "search"),
            ("carol", "key.create", old.id),
            ("dave", "key.create", new.id),
            ("dave", "key.rotate", old.id),
            ("erin", "key.revoke", new.id),
            ("frank", "team.delete", "search"),
        ]
        assert entries[1].change == {"limits.rpm": [60, 600]}
        assert entries[4].change["replaced_by"] == [None, new.id]

    on_empty(url, use)


def test_no_secret_is_in_the_audit_log_or_beside_a_digest(url: str) -> None:
    async def use(directory: Directory) -> None:
        team = Team("search")
        await directory.create_team("alice", team)
        first, token = await directory.create_key("alice", "search")
        second, other = await directory.rotate_key("alice", first.id)
        await directory.delete_team("alice", "search")
        log = json.dumps([dict(entry.change) for entry in await directory.audit(limit=4)])
        digests = [first.digest.hex(), second.digest.hex(), str(first.digest), str(second.digest)]
        for secret in (token.rsplit("_")[2], other.rsplit("_")[2], team.cache_salt, *digests):
            assert secret not in log
        async with directory.database.read() as connection:
            rows = str((await connection.execute(select(schema.keys))).all())
        assert token.rsplit("_")[2] not in rows

    on_empty(url, use)


def test_a_rotated_key_opens_for_its_grace_and_not_longer(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        old, _ = await directory.create_key("alice", "search", label="ci", limits=FULL)
        new, _ = await directory.rotate_key("alice", old.id, grace=timedelta(hours=1))
        assert (new.team, new.label, new.limits, new.expires) == ("search", "ci", FULL, None)
        (left,) = [key for key in await directory.keys() if key.id == old.id]
        now = datetime.now(UTC)
        assert left.is_active(now)
        assert not left.is_active(now + timedelta(hours=1))

    on_empty(url, use)


def test_a_grace_does_not_lengthen_a_key(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        expires = datetime.now(UTC) + timedelta(minutes=5)
        old, _ = await directory.create_key("alice", "search", expires=expires)
        await directory.rotate_key("alice", old.id, grace=timedelta(hours=1))
        assert {key.expires for key in await directory.keys()} == {expires}

    on_empty(url, use)


def test_revoking_twice_keeps_the_first_moment(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        key, _ = await directory.create_key("alice", "search")
        first = await directory.revoke_key("alice", key.id)
        assert await directory.revoke_key("alice", key.id) == first
        assert await directory.keys() == [first]

    on_empty(url, use)


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (lambda directory: directory.create_team("a", Team("search")), Conflict),
        (lambda directory: directory.change_team("a", "no", lambda team: team), NotFound),
        (
            lambda directory: directory.change_team("a", "search", lambda _: Team("other")),
            UserError,
        ),
        (lambda directory: directory.delete_team("a", "no"), NotFound),
        (lambda directory: directory.team("no"), NotFound),
        (lambda directory: directory.keys("no"), NotFound),
        (lambda directory: directory.create_key("a", "no"), NotFound),
        (lambda directory: directory.create_key("a", "search", label="x" * 101), UserError),
        (lambda directory: directory.create_key("a", "search", label="\0"), UserError),
        (
            lambda directory: directory.create_key("a", "search", expires=datetime.now(UTC)),
            UserError,
        ),
        (lambda directory: directory.revoke_key("a", "nothere"), NotFound),
        (lambda directory: directory.rotate_key("a", "nothere"), NotFound),
    ],
)
def test_what_cannot_be_done_says_so_and_writes_nothing(
    url: str, ask: Callable[[Directory], Awaitable[Any]], refusal: type[UserError]
) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        before = await directory.revision(), await directory.audit()
        with pytest.raises(refusal):
            await ask(directory)
        assert (await directory.revision(), await directory.audit()) == before

    on_empty(url, use)


def test_changes_at_once_are_all_made_and_numbered_apart(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        before = await directory.revision()
        await asyncio.gather(*(directory.create_key("alice", "search") for _ in range(20)))
        assert await directory.revision() == before + 20
        assert len(await directory.keys("search")) == 20

    on_empty(url, use)


def test_a_reader_who_saw_a_revision_has_missed_nothing_below_it(url: str) -> None:
    """Changes commit in the order of their numbers, however many are made at once."""

    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        followed, tokens = Snapshot(), []
        followed.apply(await directory.changes(0))

        async def write() -> None:
            for _ in range(10):
                _, token = await directory.create_key("alice", "search")
                tokens.append(token)

        writers = asyncio.gather(*(write() for _ in range(4)))
        while not writers.done():
            followed.apply(await directory.changes(followed.revision))
        await writers
        followed.apply(await directory.changes(followed.revision))
        assert len(tokens) == 40
        assert all(followed.authenticate(token) for token in tokens)

    on_empty(url, use)


def test_a_database_restored_from_a_backup_is_read_as_a_whole(url: str) -> None:
    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        ahead = await directory.changes(await directory.revision() + 1)
        assert ahead.complete
        assert [team.name for team in ahead.teams] == ["search"]

    on_empty(url, use)


NAMES = st.sampled_from(["ads", "search", "mail"])
LIMITS = st.sampled_from([UNLIMITED, Limits(rpm=1), FULL])
STEPS = st.one_of(
    st.tuples(st.just("create_team"), NAMES, LIMITS),
    st.tuples(st.just("change_team"), NAMES, LIMITS),
    st.tuples(st.just("delete_team"), NAMES, LIMITS),
    st.tuples(st.just("create_key"), NAMES, LIMITS),
    st.tuples(st.just("rotate_key"), st.integers(0, 20), st.just(UNLIMITED)),
    st.tuples(st.just("lend_key"), st.integers(0, 20), st.just(UNLIMITED)),
    st.tuples(st.just("revoke_key"), st.integers(0, 20), st.just(UNLIMITED)),
    st.tuples(st.just("refresh"), st.just(""), st.just(UNLIMITED)),
)


@dataclass
class Model:
    """What the directory should hold, in plain dictionaries."""

    teams: dict[str, Team] = field(default_factory=dict)
    issued: list[tuple[Key, str]] = field(default_factory=list)
    opening: set[str] = field(default_factory=set)

    async def step(self, directory: Directory, what: str, which: Any, limits: Limits) -> None:
        if what.endswith("_team"):
            await self._team(directory, what, which, limits)
        elif what == "create_key":
            await self._expect(which in self.teams, directory.create_key("m", which, limits=limits))
        elif self.issued:
            old, _ = self.issued[which % len(self.issued)]
            if what == "revoke_key":
                await directory.revoke_key("m", old.id)
                self.opening.discard(old.id)
                return
            grace = timedelta(hours=1 if what == "lend_key" else 0)
            active = old.id in self.opening
            await self._expect(active, directory.rotate_key("m", old.id, grace=grace))
            if not grace:
                self.opening.discard(old.id)

    async def _team(self, directory: Directory, what: str, name: str, limits: Limits) -> None:
        team, known = Team(name, limits=limits), name in self.teams
        if what == "create_team":
            if await _done(directory.create_team("m", team), not known):
                self.teams[name] = team
        elif what == "change_team":
            if await _done(directory.change_team("m", name, lambda _: team), known):
                self.teams[name] = replace(self.teams[name], limits=limits)
        elif await _done(directory.delete_team("m", name), known):
            del self.teams[name]
            self.opening -= {key.id for key, _ in self.issued if key.team == name}

    async def _expect(self, possible: bool, asked: Awaitable[tuple[Key, str]]) -> None:
        try:
            key, token = await asked
        except (NotFound, Conflict):
            assert not possible
            return
        assert possible
        self.issued.append((key, token))
        self.opening.add(key.id)

    def check(self, snapshot: Snapshot) -> None:
        assert snapshot.teams == self.teams
        assert len(snapshot) == len(self.opening)
        for key, token in self.issued:
            principal = snapshot.authenticate(token)
            assert (principal is not None) is (key.id in self.opening)
            if principal is not None:
                assert principal.team == self.teams[key.team]
                assert principal.limits == key.limits


async def _done(asked: Awaitable[object], possible: bool) -> bool:
    try:
        await asked
    except (NotFound, Conflict):
        assert not possible
        return False
    assert possible
    return True


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_after_any_changes_the_followed_snapshot_is_the_fresh_one(
    url: str, steps: list[tuple[str, Any, Limits]]
) -> None:
    async def use(directory: Directory) -> None:
        model, followed, fresh = Model(), Snapshot(), Snapshot()
        followed.apply(await directory.changes(0))
        for what, which, limits in steps:
            if what == "refresh":
                followed.apply(await directory.changes(followed.revision))
                model.check(followed)
            else:
                await model.step(directory, what, which, limits)
        followed.apply(await directory.changes(followed.revision))
        fresh.apply(await directory.changes(0))
        model.check(followed)
        model.check(fresh)
        assert {team.name for team in await directory.teams()} == model.teams.keys()
        assert {key.id for key in await directory.keys()} == {key.id for key, _ in model.issued}

    on_empty(url, use)
