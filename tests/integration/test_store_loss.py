"""A cluster's stores are killed, frozen and slowed under load: what clients of a gateway notice.

The bound that README states: while the quota store is away, each of N gateways admits at most its
share of a limit, rounded up, beside what the store had admitted.
"""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.quota.limits import Limits
from service.settings import DatabaseSettings, Settings
from service.tenants.team import Team
from tests.exposition import total
from tests.integration.fake_engine import COMPLETION, PROMPT, FakeEngine
from tests.integration.test_gateway import CHAT, ask
from tests.integration.test_gateway_process import gateway_env
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, running
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

CLIENTS = 6
LAG = "0.025"
TOKENS = PROMPT + COMPLETION


@dataclass(frozen=True)
class Cluster:
    """Two gateways on one Valkey or Redis and one PostgreSQL."""

    redis: Redis
    postgres: Postgres
    office: Office
    urls: tuple[str, str]
    ops: tuple[str, str]

    def client(self, token: str, gateway: int = 0) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.urls[gateway], headers=headers, timeout=10)

    def metric(self, name: str, gateway: int = 0, **labels: str) -> float:
        return total(self._page(gateway), name, **labels)

    def counted(self, histogram: str, le: str, gateway: int) -> tuple[float, float]:
        """How often something was observed, and how often it was above `le`, at one moment."""
        page = self._page(gateway)
        all_of_them = total(page, f"{histogram}_count")
        return all_of_them, all_of_them - total(page, f"{histogram}_bucket", le=le)

    def _page(self, gateway: int) -> str:
        return httpx.get(f"{self.ops[gateway]}/metrics", timeout=10).text

    def is_degraded(self, gateway: int = 0) -> bool:
        return self.metric("gptoss_gateway_quota_mode", gateway, mode="degraded") == 1

    def team(self, name: str, limits: Limits) -> str:
        """A team whose key works on both gateways."""
        self.office.add_team(Team(name, limits=limits))
        _, token = self.office.add_key(name)
        for gateway in (0, 1):
            with self.client(token, gateway) as client:
                wait_for(lambda: client.get("/v1/models").status_code == 200)
        return token


@pytest.fixture(scope="module")
def cluster(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(appendonly=True))
        postgres = stack.enter_context(Postgres())
        database = postgres.database()
        office = Office(
            Settings(database=DatabaseSettings.model_validate({"url": database})), upgrade=True
        )
        places = [
            _gateway(stack, home / str(number), engine, database, redis.url) for number in range(2)
        ]
        (one, one_ops, _), (two, two_ops, _) = places
        yield Cluster(redis, postgres, office, (one, two), (one_ops, two_ops))


def _gateway(
    stack: contextlib.ExitStack, home: Path, engine: FakeEngine, database: str, quota: str
) -> tuple[str, str, subprocess.Popen[bytes]]:
    home.mkdir()
    env = gateway_env(
        home,
        engine.url,
        GPTOSS_GATEWAY__UPSTREAMS=json.dumps(
            [{"model": name, "url": engine.url} for name in ("well", "forever")]
        ),
        GPTOSS_DATABASE__URL=database,
        GPTOSS_DATABASE__SNAPSHOT_MAX_AGE="3",
        GPTOSS_QUOTA__URL=quota,
        GPTOSS_QUOTA__LEASE="3",
        GPTOSS_LEDGER__FLUSH="0.2",
    )
    url, ops = (
        f"http://127.0.0.1:{env[f'GPTOSS_GATEWAY__{name}']}" for name in ("PORT", "OPS_PORT")
    )
    process = stack.enter_context(
        running([*GPTOSS, "gateway"], env, ready=f"{ops}/livez", log=home / "log")
    )
    return url, ops, process


@contextlib.contextmanager
def load(cluster: Cluster, token: str, seen: list[httpx.Response]) -> Iterator[None]:
    """Clients of both gateways that ask without a pause, for as long as the block lasts."""
    stop = threading.Event()

    def ask_on(number: int) -> None:
        with cluster.client(token, number % 2) as client:
            while not stop.is_set():
                seen.append(client.post(CHAT, json=ask("well", stream=bool(number % 3))))

    threads = [threading.Thread(target=ask_on, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def slowed(redis: Redis, stop: threading.Event) -> None:
    """A server that answers, but late: it stands still for most of the time."""
    while not stop.is_set():
        redis.freeze()
        time.sleep(0.3)
        redis.thaw()
        time.sleep(0.01)


def kill(cluster: Cluster) -> Callable[[], None]:
    cluster.redis.kill()
    return cluster.redis.start


def freeze(cluster: Cluster) -> Callable[[], None]:
    cluster.redis.freeze()
    return cluster.redis.thaw


def slow(cluster: Cluster) -> Callable[[], None]:
    stop = threading.Event()
    thread = threading.Thread(target=slowed, args=(cluster.redis, stop))
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    return end


def degraded(answers: list[httpx.Response]) -> list[httpx.Response]:
    return [answer for answer in answers if "x-gptoss-quota" in answer.headers]


@pytest.mark.parametrize("fault", [kill, freeze, slow], ids=["killed", "frozen", "slow"])
def test_a_quota_store_that_is_lost_fails_no_request_and_loses_no_token(
    cluster: Cluster, fault: Callable[[Cluster], Callable[[], None]]
) -> None:
    name = f"loses-{fault.__name__}"
    token = cluster.team(name, Limits(rpm=1_000_000, daily_tokens=10**9, concurrency=100))
    answers: list[httpx.Response] = []
    with load(cluster, token, answers):
        wait_for(lambda: len(answers) > 20)
        mend = fault(cluster)
        before = len(answers)
        # They go on being answered, by the gateways' own counters.
        wait_for(lambda: len(degraded(answers[before:])) > 50, 20)
        mend()
        wait_for(lambda: not cluster.is_degraded(0) and not cluster.is_degraded(1), 20)
        after = len(answers)
        wait_for(lambda: len(answers) > after + 50, 20)
    assert {answer.status_code for answer in answers} == {200}
    # In the end every token is in the shared counters and in the ledger, once.
    expected = TOKENS * len(answers)
    with cluster.client(token) as client:

        def day() -> dict[str, int]:
            found: dict[str, int] = client.get("/v1/quota").json()["team"]["tokens_per_day"]
            return found

        wait_for(lambda: day()["used"] == expected, 10)
        assert day()["reserved"] == 0
    wait_for(lambda: ledger_tokens(cluster, name) == expected, 10)


def ledger_tokens(cluster: Cluster, team: str) -> int:
    return sum(
        record.prompt_tokens + record.completion_tokens
        for record in cluster.office.ledger()
        if record.team == team
    )


def test_no_request_waits_long_for_a_store(cluster: Cluster) -> None:
    """By the gateways' own clocks, over all faults above. What a busy machine adds to the 50 ms is
    seen in their loops, too: whoever asks while one stands still is late by that."""
    for gateway in (0, 1):
        asked, late = cluster.counted("gptoss_gateway_quota_store_seconds", "0.075", gateway)
        assert asked > 100
        _, still = cluster.counted("gptoss_gateway_loop_lag_seconds", LAG, gateway)
        assert late <= 0.02 * asked + CLIENTS * still


def test_over_admission_while_the_store_is_away_stays_within_the_stated_bound(
    cluster: Cluster,
) -> None:
    limit = 41
    token = cluster.team("bounded", Limits(daily_tokens=limit * TOKENS))
    small = {"max_tokens": COMPLETION}
    answers: list[httpx.Response] = []
    with cluster.client(token, 0) as one, cluster.client(token, 1) as two:
        # Both know how many tokens a request takes, and that there are two gateways.
        for client in (one, two):
            wait_for(lambda: cluster.metric("gptoss_gateway_gateways", 0) == 2)
            client.post(CHAT, json=ask("well", **small))
        cluster.redis.kill()
        try:
            answers += [
                client.post(CHAT, json=ask("well", **small))
                for _ in range(2 * limit)
                for client in (one, two)
            ]
        finally:
            cluster.redis.start()
        wait_for(lambda: not cluster.is_degraded(0) and not cluster.is_degraded(1), 20)
        admitted = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(admitted) + len(refused) == len(answers)
        assert limit // 2 <= len(admitted) <= limit + 1
        # The shared counters know of all of it: what is over the limit is a debt.
        expected = TOKENS * (2 + len(admitted))

        def used() -> int:
            return int(one.get("/v1/quota").json()["team"]["tokens_per_day"]["used"])

        wait_for(lambda: used() == expected, 10, lambda: (used(), expected))


def test_a_gateway_that_is_killed_gives_its_slots_back_by_itself(
    cluster: Cluster, engine: FakeEngine, tmp_path: Path
) -> None:
    token = cluster.team("crash", Limits(concurrency=1))
    database = cluster.office.database_url
    with contextlib.ExitStack() as stack:
        url, _, process = _gateway(stack, tmp_path / "third", engine, database, cluster.redis.url)
        headers = {"authorization": f"Bearer {token}"}
        body = ask("forever", stream=True)
        with (
            cluster.client(token) as other,
            httpx.stream("POST", url + CHAT, json=body, headers=headers, timeout=10) as stream,
        ):
            lines = stream.iter_lines()  # kept: an iterator that is dropped ends the stream
            next(lines)
            wait_for(lambda: other.post(CHAT, json=ask("well")).status_code == 429)
            # The lease is kept alive for longer than it lasts by itself.
            time.sleep(4)
            wait_for(lambda: other.post(CHAT, json=ask("well")).status_code == 429)
            process.kill()
            wait_for(lambda: other.post(CHAT, json=ask("well")).status_code == 200, 15)
    wait_for(lambda: ("crash", "expired") in settlements(cluster))


def settlements(cluster: Cluster) -> set[tuple[str, str]]:
    return {(record.team, str(record.settlement)) for record in cluster.office.ledger()}


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_database_that_is_lost_costs_no_request_and_no_line_of_the_ledger(
    cluster: Cluster, fault: str
) -> None:
    name = f"ledger-{fault}"
    token = cluster.team(name, Limits(rpm=1_000_000))
    answers: list[httpx.Response] = []
    with load(cluster, token, answers):
        wait_for(lambda: len(answers) > 20)
        getattr(cluster.postgres, fault)()
        try:
            # A snapshot that is too old turns readiness red, and requests go on all the same.
            wait_for(lambda: httpx.get(f"{cluster.ops[0]}/readyz").status_code == 503, 20)
            before = len(answers)
            wait_for(lambda: len(answers) > before + 50, 20)
        finally:
            cluster.postgres.start() if fault == "kill" else cluster.postgres.thaw()
        wait_for(lambda: httpx.get(f"{cluster.ops[0]}/readyz").status_code == 200, 20)
    assert {answer.status_code for answer in answers} == {200}
    wait_for(lambda: ledger_tokens(cluster, name) == TOKENS * len(answers), 30)
