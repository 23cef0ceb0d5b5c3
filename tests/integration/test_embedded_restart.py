"""A gateway on its embedded stores ends and starts again: what was used stays used."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.integration.fake_engine import COMPLETION, PROMPT, FakeEngine
from tests.integration.test_gateway import CHAT, ask, error_of
from tests.integration.test_gateway_process import gateway_env
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, running

TOKENS = PROMPT + COMPLETION
REQUESTS = 50
CLIENTS = 4


def far_from_midnight() -> str:
    """A time zone in which it is about noon now: no day ends within a test."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


@dataclass(frozen=True)
class Embedded:
    """One state folder, and a team in it."""

    home: Path
    engine: FakeEngine
    office: Office
    token: str

    @contextlib.contextmanager
    def gateway(self, **extra: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
        """A gateway on that folder, and a client of the team."""
        upstreams = [{"model": name, "url": self.engine.url} for name in ("well", "forever")]
        more = {"GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams), "GPTOSS_DRAIN": "0.5"}
        env = gateway_env(self.home, self.engine.url, **(more | extra))
        ready = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__OPS_PORT']}/livez"
        url = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__PORT']}"
        headers = {"authorization": f"Bearer {self.token}"}
        log = self.home / "log"
        with (
            running([*GPTOSS, "gateway"], env, ready=ready, log=log) as process,
            httpx.Client(base_url=url, headers=headers, timeout=10) as client,
        ):
            yield process, client

    def limit(self, limits: Limits) -> None:
        self.office.change_team(Team("tests", limits=limits, timezone=far_from_midnight()))

    def tokens_in_ledger(self) -> int:
        return sum(line.prompt_tokens + line.completion_tokens for line in self.office.ledger())


@pytest.fixture
def embedded(engine: FakeEngine, tmp_path: Path) -> Embedded:
    office = Office.at(tmp_path / "state")
    office.add_team(Team("tests", timezone=far_from_midnight()))
    return Embedded(tmp_path, engine, office, office.add_key("tests")[1])


def used(client: httpx.Client) -> list[tuple[int, int]]:
    """Used and reserved today and this month, of the key, the team and the model."""
    page = client.get("/v1/quota").json()
    places = (page["key"], page["team"], page["models"]["well"])
    windows = [place[name] for place in places for name in ("tokens_per_day", "tokens_per_month")]
    return [(window["used"], window["reserved"]) for window in windows]


def test_a_budget_that_is_used_up_stays_so_over_a_restart(embedded: Embedded) -> None:
    spent = REQUESTS * TOKENS
    with embedded.gateway(GPTOSS_LEDGER__FLUSH="60") as (process, client):
        for number in range(REQUESTS):
            answer = client.post(CHAT, json=ask("well", stream=bool(number % 2)))
            assert answer.status_code == 200
        before = used(client)
        assert before == [(spent, 0)] * 6
        assert embedded.office.ledger() == []  # it is the end that has to write them
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    assert embedded.tokens_in_ledger() == spent
    embedded.limit(Limits(daily_tokens=spent))
    with embedded.gateway() as (_, client):
        assert used(client) == before
        refused = client.post(CHAT, json=ask("well", max_tokens=COMPLETION))
        assert (refused.status_code, error_of(refused)["code"]) == (429, "insufficient_quota")
        assert f"Used {spent}" in error_of(refused)["message"]


def test_after_a_kill_what_was_in_the_ledger_counts_and_nothing_is_held(embedded: Embedded) -> None:
    embedded.limit(Limits(concurrency=1, monthly_tokens=1_000_000))
    with embedded.gateway(GPTOSS_LEDGER__FLUSH="0.05") as (process, client):
        for _ in range(5):
            assert client.post(CHAT, json=ask("well")).status_code == 200
        wait_for(lambda: embedded.tokens_in_ledger() == 5 * TOKENS)
        with client.stream("POST", CHAT, json=ask("forever", stream=True)) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.kill()
            with contextlib.suppress(httpx.TransportError):
                for _ in lines:
                    pass
    with contextlib.closing(sqlite3.connect(embedded.home / "state" / "gptoss.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with embedded.gateway() as (_, client):
        assert used(client) == [(5 * TOKENS, 0)] * 6
        assert client.post(CHAT, json=ask("well")).status_code == 200  # its one slot is free
        assert used(client) == [(6 * TOKENS, 0)] * 6


def test_every_answer_that_a_client_got_before_the_end_is_in_the_ledger(embedded: Embedded) -> None:
    answered: list[str] = []
    with embedded.gateway(GPTOSS_LEDGER__FLUSH="0.2") as (process, client):

        def ask_on(number: int) -> None:
            with (
                httpx.Client(base_url=client.base_url, headers=client.headers) as own,
                contextlib.suppress(httpx.TransportError),  # it has ended
            ):
                while True:
                    answer = own.post(CHAT, json=ask("well", stream=bool(number % 2)))
                    if answer.status_code == 200:
                        answered.append(answer.headers["x-request-id"])

        threads = [threading.Thread(target=ask_on, args=(number,)) for number in range(CLIENTS)]
        with client.stream("POST", CHAT, json=ask("forever", stream=True)) as cut:
            for thread in threads:
                thread.start()
            wait_for(lambda: len(answered) > 100, 30)
            process.send_signal(signal.SIGTERM)
            cut.read()
        for thread in threads:
            thread.join(10)
        assert process.wait(15) == 0
    lines = {line.id: line for line in embedded.office.ledger()}
    assert set(answered) <= lines.keys()
    whole = [line for line in lines.values() if line.outcome == "ok"]
    assert {(line.prompt_tokens, line.completion_tokens) for line in whole} == {
        (PROMPT, COMPLETION)
    }
    ended = lines[cut.headers["x-request-id"]]
    assert (ended.outcome, ended.settlement) == ("gateway_shutdown", "cut")
    assert ended.completion_tokens > 0
    assert "Traceback" not in (embedded.home / "log").read_text()
