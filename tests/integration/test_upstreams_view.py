"""What an operator sees of the replicas, and what start-up refuses about grace periods."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.tenants.team import Team
from tests.integration.fleet import MODEL, Gateway, Replica, until, upstreams
from tests.integration.load import Load
from tests.office import Office
from tests.process import GPTOSS, environment, free_port
from tests.servers.replica import Mode

TOKEN = "admin-token-of-the-tests-0123456789"
REPLICA = {
    "url",
    "state",
    "share",
    "reason",
    "last_error",
    "ejections",
    "in_flight",
    "slots",
    "tokens_in_flight",
    "engine_running",
    "engine_waiting",
    "kv_usage",
    "report_age",
}


@dataclass(frozen=True)
class View:
    gateway: Gateway
    well: Replica
    dead: Replica
    admin: str
    key: str
    env: dict[str, str]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return run(self.env, *words)


def run(env: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*GPTOSS, *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """A gateway in front of a replica that is well, one that is dead, and a pool without any."""
    home, port = tmp_path_factory.mktemp("view"), free_port()
    office = Office.at(home / "state")
    office.add_team(Team("tests"))
    _, key = office.add_key("tests")
    with contextlib.ExitStack() as stack:
        well = stack.enter_context(Replica(home / "well"))
        well.wait()
        dead = Replica(home / "dead")
        nameless = {"model": "nameless", "url": "dns+http://nothing.invalid.:8000"}
        settings = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(
                [*json.loads(upstreams([well, dead], slots=7)), nameless]
            ),
            "GPTOSS_GATEWAY__MODELS": json.dumps({"public": {"pools": {MODEL: 95, "nameless": 5}}}),
            "GPTOSS_ROUTING__NAMESERVER": f"127.0.0.1:{free_port()}",
            "GPTOSS_ROUTING__INTERVAL": "0.2",
            "GPTOSS_ADMIN__TOKEN": TOKEN,
            "GPTOSS_ADMIN__PORT": str(port),
        }
        gateway = stack.enter_context(Gateway(home, settings))
        gateway.wait()
        until(lambda: gateway.states()[dead.url] == "down")
        until(lambda: bool(gateway.pool("nameless")["discovery_errors"]))
        env = environment(home, {"GPTOSS_GATEWAY__OPS_PORT": gateway.ops.rsplit(":")[-1]})
        yield View(gateway, well, dead, f"http://127.0.0.1:{port}", key, env)


def test_the_operators_port_shows_each_replica(view: View) -> None:
    pool = view.gateway.pool()
    assert pool["works"]
    assert all(replica.keys() == REPLICA for replica in pool["replicas"])
    found = {replica["url"]: replica for replica in pool["replicas"]}
    well, dead = found[view.well.url], found[view.dead.url]
    assert (well["state"], well["reason"], well["slots"]) == ("up", "", 7)
    assert (well["engine_running"], well["engine_waiting"], well["kv_usage"]) == (0, 0, 0.25)
    assert dead["state"] == "down"
    assert "checks in a row failed: cannot connect" in dead["reason"]
    assert dead["engine_running"] is None
    assert view.gateway.picture()["models"]["public"] == {
        "pools": {MODEL: 95, "nameless": 5},
        "fallback": None,
    }


def test_what_is_in_flight_is_seen_and_is_gone_afterwards(view: View) -> None:
    with Load([view.gateway.url], view.key, clients=4, model="public", tokens=30) as load:

        def is_seen() -> bool:
            well = next(one for one in view.gateway.pool()["replicas"] if one["state"] == "up")
            usual = 1000  # tokens of a team's answer
            return bool(well["in_flight"] == 4 and well["tokens_in_flight"] > 4 * usual)

        until(is_seen)
        load.more(4)
    assert not load.failed
    until(lambda: view.gateway.pool()["in_flight"] == 0 == view.gateway.pool()["admitted"])


def test_the_command_prints_a_table(view: View) -> None:
    for words in (("upstreams",), ("upstreams", "--url", view.gateway.ops)):
        result = view.run(*words)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        (well,) = (line for line in lines if view.well.url in line)
        (dead,) = (line for line in lines if view.dead.url in line)
        assert [cell.strip() for cell in well.split("│")[1:8]] == [
            MODEL,
            view.well.url,
            "up",
            "0/7",
            "0",
            "0",
            "0",
        ]
        assert "25%" in well
        assert "down" in dead
        assert "cannot connect" in result.stdout
        assert "nameless: no replica is known" in result.stdout
        assert f"public is served by {MODEL}: 95, nameless: 5" in result.stdout


def test_the_command_prints_json(view: View) -> None:
    result = view.run("upstreams", "--json")
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed.keys() == view.gateway.picture().keys()
    assert {pool["name"] for pool in printed["pools"]} == {MODEL, "nameless"}


def test_without_a_gateway_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = run(environment(tmp_path), "upstreams", "--url", url)
    assert result.returncode == 1
    assert result.stderr.startswith(f"gptoss: no gateway answers at {url} (ConnectError): start")
    assert result.stderr.count("\n") == 1


def test_the_admin_api_shows_them_to_who_has_its_token(view: View) -> None:
    url = f"{view.admin}/v1/upstreams"
    assert httpx.get(url, timeout=10).status_code == 401
    wrong = {"authorization": f"Bearer {view.key}"}
    assert httpx.get(url, headers=wrong, timeout=10).status_code == 401
    answer = httpx.get(url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert answer.status_code == 200
    pools = {pool["name"]: pool for pool in answer.json()["pools"]}
    states = {replica["url"]: replica["state"] for replica in pools[MODEL]["replicas"]}
    assert states == {view.well.url: "up", view.dead.url: "down"}


def test_tenants_do_not_see_them(view: View) -> None:
    headers = {"authorization": f"Bearer {view.key}"}
    for path in ("/upstreams", "/v1/upstreams"):
        answer = httpx.get(view.gateway.url + path, headers=headers, timeout=10)
        assert answer.status_code == 404


def test_an_engine_that_stands_still_is_called_stalled(view: View) -> None:
    view.well.behave(Mode.STALL)
    with Load([view.gateway.url], view.key, clients=1, model="public"):
        until(lambda: view.gateway.states()[view.well.url] == "stalled")
        (well,) = (one for one in view.gateway.pool()["replicas"] if one["state"] == "stalled")
        assert well["reason"].startswith("stalled: no token in ")
        view.well.behave(Mode.WELL)
    until(lambda: view.gateway.states()[view.well.url] == "up")


def test_metrics_count_replicas_lines_and_retries(view: View) -> None:
    with Load([view.gateway.url], view.key, clients=2, model="public") as load:
        load.more(4)
    assert not load.failed
    page = httpx.get(f"{view.gateway.ops}/metrics", timeout=10).text
    names = {family.name for family in text_string_to_metric_families(page)}
    assert names >= {
        f"gptoss_gateway_{name}"
        for name in (
            "replicas",
            "replica_outs",
            "replica_requests_in_flight",
            "replica_tokens_in_flight",
            "queue_waiting",
            "queue_waiting_tokens",
            "queue_oldest_seconds",
            "queue_seconds",
            "queue_refused",
            "retries",
            "retries_refused",
            "fallbacks",
            "engine_tokens",
        )
    }
    metric = view.gateway.metric
    assert metric("gptoss_gateway_replicas", pool=MODEL, state="up") == 1
    assert metric("gptoss_gateway_replicas", pool=MODEL, state="down") == 1
    assert metric("gptoss_gateway_replicas", pool="nameless") == 0
    assert metric("gptoss_gateway_replica_outs_total", pool=MODEL, reason="downs") >= 1
    assert metric("gptoss_gateway_queue_seconds_count", model="public") >= 4
    assert metric("gptoss_gateway_engine_tokens_total", model=MODEL) > 0


def test_grace_derives_all_periods_from_one_value(tmp_path: Path) -> None:
    seconds = 30.0
    result = run(environment(tmp_path, {"GPTOSS_DRAIN": "30"}), "grace", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "notice": 15,
        "drain": seconds,
        "gateway_termination": seconds + 30,
        "engine_pre_stop": 15,
        "engine_shutdown": seconds,
        "engine_termination": seconds + 45,
    }
    lines = run(environment(tmp_path), "grace", "--drain", "60").stdout.splitlines()
    told = {line.rpartition(" ")[0].rstrip(): line.rpartition(" ")[2] for line in lines}
    assert told["gateway: SIGTERM to SIGKILL (terminationGracePeriodSeconds)"] == "90"
    assert told["engine: preStop to SIGKILL (terminationGracePeriodSeconds)"] == "105"


def test_a_gateway_with_too_little_grace_does_not_start(tmp_path: Path) -> None:
    env = environment(tmp_path, {"GPTOSS_DRAIN": "120", "GPTOSS_TERMINATION_GRACE": "134"})
    result = run(env, "gateway")
    assert result.returncode == 1
    assert result.stderr == (
        "gptoss: the gateway needs 135 s to end in good order and GPTOSS_TERMINATION_GRACE says"
        " that it gets 134: raise that (and what it stands for), or lower GPTOSS_DRAIN\n"
    )


def test_an_engine_with_too_little_grace_does_not_start(tmp_path: Path) -> None:
    words = ("engine", "--model", "gpt-oss-20b", "--profile", "h100-80g-x1", "--dry-run")
    env = environment(tmp_path, {"GPTOSS_DRAIN": "120", "GPTOSS_TERMINATION_GRACE": "164"})
    result = run(env, *words)
    assert result.returncode == 1
    assert result.stderr.startswith("gptoss: the engine needs 165 s to end in good order")
    enough = run(env | {"GPTOSS_TERMINATION_GRACE": "165"}, *words)
    assert enough.returncode == 0, enough.stderr
    assert "shutdown-timeout: 120" in enough.stdout
