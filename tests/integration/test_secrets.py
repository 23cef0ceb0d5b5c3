"""Secrets and what was said: nowhere but where they belong. Weak ones do not even start."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from service.database.connect import Database
from service.database.schema import metadata
from service.errors import UserError
from service.settings import DatabaseSettings, Settings, load
from service.tenants.keys import Key
from service.tenants.team import Team
from tests.integration.conftest import ENGINE_KEY, Gateway
from tests.integration.fake_engine import FakeEngine
from tests.integration.test_gateway import CHAT, ask
from tests.integration.test_gateway_process import gateway_env
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, free_port, running
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

ADMIN_TOKEN = "the-admin-token-of-these-tests-0123456789"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
ENGINES = ("well", "dies", "answers-400", "answers-401", "answers-500")


@dataclass(frozen=True)
class Guarded:
    """A gateway on PostgreSQL and Valkey, with an admin API and every secret there is."""

    url: str
    ops: str
    admin: str
    token: str
    log: Path
    office: Office
    redis: Redis
    postgres: Postgres
    http: httpx.Client

    def post(self, body: object, token: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token}"}
        return self.http.post(self.url + CHAT, json=body, headers=headers)


@pytest.fixture(scope="module")
def guarded(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("guarded")
    with Redis(password=secrets.token_hex(16)) as redis, Postgres() as postgres:
        database = postgres.database()
        office = Office(
            Settings(database=DatabaseSettings.model_validate({"url": database})), upgrade=True
        )
        office.add_team(Team("tests"))
        _, token = office.add_key("tests")
        env = gateway_env(
            home,
            engine.url,
            GPTOSS_GATEWAY__ENGINE_KEY=ENGINE_KEY,
            GPTOSS_ADMIN__TOKEN=ADMIN_TOKEN,
            GPTOSS_ADMIN__PORT=str(free_port()),
            GPTOSS_DATABASE__URL=database,
            GPTOSS_QUOTA__URL=redis.url,
            GPTOSS_LEDGER__FLUSH="0.1",
        )
        url, ops, admin = (
            f"http://127.0.0.1:{env[f'GPTOSS_{name}PORT']}"
            for name in ("GATEWAY__", "GATEWAY__OPS_", "ADMIN__")
        )
        upstreams = [{"model": name, "url": engine.url} for name in ENGINES]
        env["GPTOSS_GATEWAY__UPSTREAMS"] = json.dumps(upstreams)
        log = home / "log"
        with (
            running([*GPTOSS, "gateway"], env, ready=f"{ops}/livez", log=log) as process,
            httpx.Client(timeout=20) as http,
        ):
            yield Guarded(url, ops, admin, token, log, office, redis, postgres, http)
            process.kill()  # its stores are away: it would wait for them


@pytest.fixture(scope="module")
def storeless(guarded: Guarded) -> Guarded:
    """The same gateway, once both of its stores are gone."""
    guarded.postgres.kill()
    guarded.redis.kill()
    return guarded


class Search:
    """Looks for what must be nowhere in what a gateway let out."""

    def __init__(self, guarded: Guarded) -> None:
        self.prompt = secrets.token_hex(16)
        self.wrong = Key.issue("tests")[1]
        self.seen: list[str] = []
        self._guarded = guarded

    def provoke(self) -> set[int]:
        """Ask for everything that can go wrong; the statuses."""
        prompt, post = self.prompt, self._guarded.post
        body = {"messages": [{"role": "user", "content": prompt}], "stop": prompt}
        bad = [{"model": "well", "top_p_" + prompt: 1}, {"messages": prompt}, prompt, [prompt]]
        good = {"model": "well", **body}
        answers = [post({"model": model, **body}) for model in (*ENGINES, "none")]
        answers += [post(document) for document in bad[1:]]
        answers += [post(good, token) for token in (self.wrong, ADMIN_TOKEN, ENGINE_KEY)]
        answers += [
            self._guarded.http.get(self._guarded.admin + path, headers=headers)
            for path in ("/v1/teams", "/v1/audit", "/v1/keys", "/v1/usage", "/v1/none")
            for headers in (ADMIN, {"authorization": f"Bearer {self._guarded.token}"})
        ]
        self.seen += [f"{answer.headers} {answer.text}" for answer in answers]
        # What a client itself said or gets is its own; it must not be anywhere else.
        answers += [post({**good, "stream": stream}) for stream in (True, False)]
        answers.append(post(bad[0]))
        return {answer.status_code for answer in answers}

    def finds_nothing(self) -> None:
        """Look through what was seen, the log and the metrics."""
        guarded = self._guarded
        self.seen += [guarded.log.read_text(), httpx.get(f"{guarded.ops}/metrics").text]
        theirs = [guarded.token, guarded.token.rsplit("_", 1)[1], self.wrong, ADMIN_TOKEN]
        ours = [ENGINE_KEY, guarded.postgres.password, guarded.redis.password]
        for secret in (*theirs, *ours, self.prompt, "hello", "Traceback"):
            assert not [text[:200] for text in self.seen if secret in text], secret


def test_no_secret_and_nothing_of_what_was_said_is_anywhere(guarded: Guarded) -> None:
    """Not in the log, the metrics, an error, the audit or the database."""
    search = Search(guarded)
    assert search.provoke() == {200, 400, 401, 404, 502}
    wait_for(lambda: len(guarded.office.ledger()) >= len(ENGINES) + 2)
    search.seen.append(asyncio.run(all_rows(guarded.office.database_url)))
    assert '"tests"' in search.seen[-1] or "'tests'" in search.seen[-1]
    search.finds_nothing()


def test_a_store_that_is_lost_brings_no_secret_to_light(storeless: Guarded) -> None:
    """What a driver says of its server goes into the log without the password."""
    search = Search(storeless)
    assert search.provoke() == {200, 400, 401, 404, 502, 503}
    for said in ("keys not refreshed", "the ledger cannot be written"):
        wait_for(lambda said=said: said in storeless.log.read_text(), 10)  # type: ignore[misc]
    search.finds_nothing()


def test_cve_2026_42208_no_request_asks_the_database(storeless: Guarded) -> None:
    """Keys are decided in memory: without a database the right ones pass, and no others."""
    assert storeless.post(ask("well"), Key.issue("tests")[1]).status_code == 401
    assert storeless.post(ask("well"), "' OR 1=1 --").status_code == 401
    assert storeless.post(ask("well")).status_code == 200


async def all_rows(url: str) -> str:
    """Everything in a database."""
    database = Database(url)
    try:
        async with database.read() as connection:
            tables = [
                (await connection.execute(select(table))).all() for table in metadata.sorted_tables
            ]
        return repr(tables)
    finally:
        await database.close()


def test_nothing_of_what_was_said_and_no_key_is_in_the_bytes_of_sqlite(
    gateway: Gateway,
) -> None:
    """The ledger says how much, never what; of a key there is the SHA-256."""
    key, token = gateway.office.add_key("tests")
    prompt = secrets.token_hex(16)
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as client:
        wait_for(lambda: client.get("/v1/models").status_code == 200)
        for model in ("well", "dies-midway", "answers-400"):
            client.post(CHAT, json=ask(model, stream=True, stop=prompt))
    wait_for(lambda: sum(line.key == key.id for line in gateway.office.ledger()) == 3)
    path = Path(gateway.office.database_url.removeprefix("sqlite:///"))
    content = b"".join(part.read_bytes() for part in path.parent.glob(f"{path.name}*"))
    assert key.id.encode() in content
    assert key.digest in content
    secret = token.rsplit("_", 1)[1]
    for text in (prompt, "hello", "content", secret, gateway.key.rsplit("_", 1)[1], ENGINE_KEY):
        assert text.encode() not in content


def test_a_weak_secret_is_refused_at_the_start_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of fewer than 32 characters is no secret; it is not repeated either."""
    weak = {"GPTOSS_ADMIN__TOKEN": "hunter2-hunter2"}
    env = gateway_env(tmp_path, "http://127.0.0.1:9", **weak)
    ended = subprocess.run(
        [*GPTOSS, "gateway"], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    said = "setting {}: Value error, {} has 15 characters: use 32 random ones"
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"gptoss: {said.format('admin', 'token')}")
    assert ended.stderr.count("\n") == 1
    assert "hunter2" not in ended.stderr + ended.stdout
    monkeypatch.setenv("GPTOSS_GATEWAY__ENGINE_KEY", "hunter2-hunter2")
    with pytest.raises(UserError) as refusal:
        load()
    assert str(refusal.value).startswith(said.format("gateway", "engine_key"))
    assert "hunter2" not in str(refusal.value)
