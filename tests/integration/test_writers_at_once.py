"""Writers at the same moment: no change is lost, and several changes are made all or none."""

import asyncio
import contextlib
import os
import pty
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import delete

from service.admin.app import create_app
from service.database import migrate, schema
from service.database.connect import Database
from service.errors import UserError
from service.quota.limits import Limits, Tier
from service.tenants.difference import TeamChange, difference
from service.tenants.directory import Conflict, Directory
from service.tenants.team import Team
from tests.forked import Forked
from tests.integration.fleet import until
from tests.process import GPTOSS, environment
from tests.servers.postgres import Postgres

T = TypeVar("T")
WRITERS, CHANGES = 4, 10
ROUNDS = 5
# A writer that does not wait for another gets this far in less: what it read is then old.
PAUSE = 1.0
PATIENCE = 20.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of either kind, with the schema."""
    with contextlib.ExitStack() as servers:
        if request.param == "sqlite":
            made = f"sqlite:///{tmp_path_factory.mktemp('writers') / 'gptoss.db'}"
        else:
            made = servers.enter_context(Postgres()).database()
        _on(made, lambda directory: migrate.upgrade(directory.database))
        yield made


@pytest.fixture
def url(migrated: str) -> str:
    """A database without a team."""
    _on(migrated, _empty)
    return migrated


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    home = tmp_path_factory.mktemp("forked")
    with Forked(home) as forked:
        forked.run(["--version"], environment(home), "")  # it imports before its first answer
        yield forked


async def _empty(directory: Directory) -> None:
    async with directory.database.begin() as connection:
        await connection.execute(delete(schema.keys))
        await connection.execute(delete(schema.teams))


def _on(url: str, use: Callable[[Directory], Awaitable[T]]) -> T:
    """Use a directory over connections of its own."""

    async def run() -> T:
        database = Database(url)
        try:
            return await use(Directory(database))
        finally:
            await database.close()

    return asyncio.run(run())


def _at_once(
    url: str, works: Sequence[Callable[[Directory], Awaitable[None]]]
) -> list[BaseException | None]:
    """Do all of these, each in a thread with connections of its own; how each failed."""
    start = threading.Barrier(len(works), timeout=PATIENCE)

    def run(work: Callable[[Directory], Awaitable[None]]) -> None:
        async def connected(directory: Directory) -> None:
            await directory.revision()
            start.wait()
            await work(directory)

        _on(url, connected)

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.exception() for done in [pool.submit(run, work) for work in works]]


@contextlib.contextmanager
def _being_changed(url: str, name: str, edit: Callable[[Team], Team]) -> Iterator[None]:
    """Another's change of a team, under way in this block; it is committed at its end."""
    read, write = threading.Event(), threading.Event()

    def slow(team: Team) -> Team:
        read.set()
        assert write.wait(PATIENCE)
        return edit(team)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(_on, url, lambda directory: directory.change_team("eve", name, slow))
        try:
            assert read.wait(PATIENCE)
            yield
        finally:
            write.set()
        done.result()


def _limited(**limits: Any) -> Callable[[Team], Team]:
    return lambda team: replace(team, limits=replace(team.limits, **limits))


def _changing(edit: Callable[[Team], Team], times: int = 1) -> Callable[[Directory], Any]:
    async def change(directory: Directory) -> None:
        for _ in range(times):
            before, after = await directory.change_team("bob", "search", edit)
            assert after == edit(before)

    return change


def _while_another_writes(url: str, work: Callable[[], T], read: Callable[[], bool]) -> T:
    """What comes of `work`, begun while another lets team search have 7 tokens a minute, which is
    written once `work` has `read` what was before."""
    with ThreadPoolExecutor(1) as pool:
        with _being_changed(url, "search", _limited(tpm=7)):
            done: Future[T] = pool.submit(work)
            until(lambda: read() or done.done(), 60)
        return done.result()


def _after_a_pause() -> Callable[[], bool]:
    """Of one that reads as it writes: then it waits, or it comes later. Both end alike."""
    end = time.monotonic() + PAUSE
    return lambda: time.monotonic() > end


def _shell(url: str, home: Path, forked: Forked, words: str, stdin: str = "") -> str:
    """What `gptoss` says, whether it goes well or not."""
    env = environment(home, {"GPTOSS_STATE_DIR": str(home), "GPTOSS_DATABASE__URL": url})
    done = forked.run(words.split(), env, stdin)
    return done.stdout + done.stderr


def _patch(url: str, body: object) -> httpx.Response:
    token = "the-admin-token-of-the-tests-0123456789"

    async def ask(directory: Directory) -> httpx.Response:
        app = create_app(directory, directory.database, SecretStr(token))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://admin",
            headers={"authorization": f"Bearer {token}"},
        ) as client:
            return await client.patch("/v1/teams/search", json=body)

    return _on(url, ask)


def test_a_set_begun_during_another_change_keeps_both(
    url: str, tmp_path: Path, forked: Forked
) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search")))
    said = _while_another_writes(
        url,
        lambda: _shell(url, tmp_path, forked, "team set search --rpm 900"),
        _after_a_pause(),
    )
    assert said == "~ search: rpm none -> 900\n"
    after = _on(url, lambda directory: directory.team("search"))
    assert after.limits == Limits(rpm=900, tpm=7)


def test_a_patch_begun_during_another_change_keeps_both(url: str) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search")))
    answer = _while_another_writes(
        url, lambda: _patch(url, {"limits": {"rpm": 900}}), _after_a_pause()
    )
    assert answer.status_code == 200
    assert (answer.json()["limits"]["rpm"], answer.json()["limits"]["tpm"]) == (900, 7)
    after = _on(url, lambda directory: directory.team("search"))
    assert after.limits == Limits(rpm=900, tpm=7)


def test_two_who_change_different_things_at_once_both_do(url: str) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search")))
    for value in range(1, ROUNDS + 1):
        edits: list[Callable[[Team], Team]] = [
            _limited(rpm=value),
            partial(replace, default_output=value),
        ]
        assert _at_once(url, [_changing(edit) for edit in edits]) == [None, None]
        team = _on(url, lambda directory: directory.team("search"))
        assert (team.limits.rpm, team.default_output) == (value, value)


def test_every_one_of_many_increments_lands_and_is_audited_as_it_was(url: str) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search", limits=Limits(rpm=1))))

    def more(team: Team) -> Team:
        assert team.limits.rpm
        return replace(team, limits=Limits(rpm=team.limits.rpm + 1))

    writers = [_changing(more, CHANGES)] * WRITERS
    assert _at_once(url, writers) == [None] * WRITERS
    entries = _on(url, lambda directory: directory.audit(limit=WRITERS * CHANGES))
    numbers = [entry.change["limits.rpm"] for entry in reversed(entries)]
    assert numbers == [[number, number + 1] for number in range(1, WRITERS * CHANGES + 1)]


def test_an_edit_that_fails_writes_nothing_and_holds_nobody_up(url: str) -> None:
    def refuse(team: Team) -> Team:
        raise UserError("not this")

    async def use(directory: Directory) -> None:
        await directory.create_team("alice", Team("search"))
        before = await directory.revision()
        with pytest.raises(UserError, match="not this"):
            await directory.change_team("bob", "search", refuse)
        assert await directory.revision() == before
        await directory.change_team("carol", "search", _limited(rpm=5))

    _on(url, use)


def test_of_two_files_applied_at_once_one_is_applied_and_the_other_not_at_all(url: str) -> None:
    names = [f"team-{number}" for number in range(5)]

    def applied(rpm: int, names: Sequence[str]) -> Callable[[Directory], Awaitable[None]]:
        wanted = [Team(name, limits=Limits(rpm=rpm)) for name in names]
        changes = difference(wanted, _on(url, Directory.teams), prune=False)
        return lambda directory: directory.apply(f"writer-{rpm}", changes)

    for value in range(1, ROUNDS + 1):
        # In different orders, so that half of one would meet half of the other.
        both = applied(value * 2, names), applied(value * 2 + 1, names[::-1])
        [refused] = [error for error in _at_once(url, both) if error is not None]
        assert isinstance(refused, Conflict)
        [rpm] = {team.limits.rpm for team in _on(url, Directory.teams)}
        entries = _on(url, lambda directory: directory.audit(limit=len(names) + 1))
        assert {entry.actor for entry in entries[: len(names)]} == {f"writer-{rpm}"}
        assert [entry.actor for entry in entries[len(names) :]] != [f"writer-{rpm}"]


def test_a_file_does_not_undo_what_changed_since_it_was_shown(
    url: str, tmp_path: Path, forked: Forked
) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search")))
    file = "teams: [{name: ads}, {name: search, limits: {rpm: 900}}]"
    said = _while_another_writes(
        url,
        lambda: _shell(url, tmp_path, forked, "team apply -f -", stdin=file),
        lambda: "~ search" in forked.said(),
    )
    assert said.endswith(
        "gptoss: someone changed team search meanwhile; nothing was applied: run it again\n"
    )
    assert [team.limits for team in _on(url, Directory.teams)] == [Limits(tpm=7)]
    assert "applied: 2 changed" in _shell(url, tmp_path, forked, "team apply -f -", stdin=file)
    assert [team.limits.rpm for team in _on(url, Directory.teams)] == [None, 900]


def test_a_team_that_changed_while_its_deletion_was_asked_for_is_not_deleted(
    url: str, tmp_path: Path
) -> None:
    _on(url, lambda directory: directory.create_team("alice", Team("search")))
    (tmp_path / "teams.yaml").write_text("teams: [{name: ads}]")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GPTOSS, "team", "apply", "-f", str(tmp_path / "teams.yaml"), "--prune"],
        env=environment(tmp_path, {"GPTOSS_DATABASE__URL": url}),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    try:
        assert process.stdout
        shown = b""
        while b"delete 1 of the teams and revoke 0 keys?" not in shown:
            read = os.read(process.stdout.fileno(), 4096)
            assert read, shown
            shown += read
        _on(url, lambda directory: directory.change_team("eve", "search", _limited(tpm=7)))
        os.write(ours, b"y\n")
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert b"someone changed team search meanwhile; nothing was applied" in out
    assert process.returncode == 1
    assert [team.name for team in _on(url, Directory.teams)] == ["search"]


NEW = Team("new")
OLD = [Team("changed"), Team("gone"), Team("kept")]
GOOD = [
    TeamChange(None, NEW),
    TeamChange(OLD[0], replace(OLD[0], tier=Tier.BATCH)),
    TeamChange(OLD[1], None),
]


@pytest.mark.parametrize(
    ("bad", "refusal"),
    [
        (TeamChange(None, OLD[2]), Conflict),  # exists
        (TeamChange(NEW, None), Conflict),  # did not exist before
        (TeamChange(replace(OLD[2], disabled=True), OLD[2]), Conflict),  # was not so
        (TeamChange(replace(OLD[2], cache_salt="other"), None), Conflict),  # deleted, made again
        (TeamChange(OLD[2], replace(OLD[2], name="other")), Conflict),
        (TeamChange(OLD[2], replace(OLD[2], timezone=object())), Exception),  # type: ignore[arg-type]
    ],
)
def test_where_the_last_change_fails_none_is_made(
    url: str, bad: TeamChange, refusal: type[Exception]
) -> None:
    async def use(directory: Directory) -> None:
        for team in OLD:
            await directory.create_team("alice", team)
        key, _ = await directory.create_key("alice", "gone")
        before = await directory.revision(), await directory.teams(), await directory.audit()
        with pytest.raises(refusal):
            await directory.apply("bob", [*GOOD, bad])
        after = await directory.revision(), await directory.teams(), await directory.audit()
        assert after == before
        assert await directory.keys("gone") == [key]

        await directory.apply("bob", GOOD)
        assert await directory.revision() == before[0] + 1
        assert await directory.teams() == [GOOD[1].after, OLD[2], NEW]
        actions = [(entry.action, entry.subject) for entry in (await directory.audit())[:3]]
        assert actions == [
            ("team.delete", "gone"),
            ("team.change", "changed"),
            ("team.create", "new"),
        ]

    _on(url, use)


TEAMS = st.lists(
    st.builds(
        Team,
        name=st.sampled_from(["ads", "mail", "search", "web"]),
        limits=st.builds(Limits, rpm=st.none() | st.integers(1, 3)),
        tier=st.sampled_from(Tier),
    ),
    unique_by=lambda team: team.name,
    max_size=4,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.tuples(TEAMS, st.booleans()), max_size=4))
def test_whatever_files_are_applied_the_last_one_is_what_is_so(
    url: str, files: list[tuple[list[Team], bool]]
) -> None:
    async def use(directory: Directory) -> None:
        await _empty(directory)
        for wanted, prune in files:
            before, log = await directory.teams(), len(await directory.audit(limit=10_000))
            changes = difference(wanted, before, prune=prune)
            await directory.apply("alice", changes)
            after = await directory.teams()
            assert difference(wanted, after, prune=prune) == []
            kept = {team.name: team for team in before} if not prune else {}
            assert len(after) == len(kept.keys() | {team.name for team in wanted})
            assert len(await directory.audit(limit=10_000)) == log + len(changes)

    _on(url, use)
