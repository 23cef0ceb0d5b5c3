"""A fleet on a Ray cluster of several nodes, with real engines, and a gateway that follows it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from service.tenants.team import Team
from tests import web
from tests.e2e.conftest import ENGINE_KEY, MODEL
from tests.e2e.traffic import Load, Place
from tests.integration.fleet import Gateway, until
from tests.office import Office
from tests.process import GPTOSS, free_port
from tests.servers.ray_cluster import RayCluster
from tests.servers.redis import Redis

POOL, TEAM = "main", "tests"
DRAIN, NOTICE = 60.0, 3.0
ENGINE_CPUS = 2
"""Of the profile: a node with as many takes one engine."""
START_SECONDS = 480.0
_COMMAND_SECONDS = 900.0

_GATEWAY = {
    "GPTOSS_DRAIN": str(DRAIN),
    "GPTOSS_GATEWAY__ENGINE_KEY": ENGINE_KEY,
    "GPTOSS_GATEWAY__CONNECT_TIMEOUT": "5",
    "GPTOSS_GATEWAY__FIRST_EVENT_TIMEOUT": "60",
    "GPTOSS_GATEWAY__IDLE_TIMEOUT": "60",
    "GPTOSS_GATEWAY__RESPONSE_TIMEOUT": "90",
    "GPTOSS_GATEWAY__TOTAL_TIMEOUT": "110",
    "GPTOSS_ROUTING__INTERVAL": "0.3",
    "GPTOSS_ROUTING__HEALTH__INTERVAL": "0.5",
    "GPTOSS_ROUTING__HEALTH__TIMEOUT": "5",
    "GPTOSS_ROUTING__HEALTH__SLOW_START": "2",
}


class RayFleet:
    """The cluster, the file, the gateway, and the commands."""

    def __init__(
        self, cluster: RayCluster, home: Path, weights: Path, gateway: Gateway, key: str, board: int
    ) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self._home = home
        self._place = Place(gateway.url, key, MODEL)
        self._board = board
        self.file = home / "fleet.yaml"
        self._document: dict[str, Any] = {
            "drainSeconds": int(DRAIN),
            "noticeSeconds": int(NOTICE),
            "engine": {"pools": {POOL: {"profile": "cpu-dev"}}},
            "weights": {"folders": {MODEL: str(weights)}},
            "gateways": [gateway.ops],
            "board": {"host": "127.0.0.1", "port": board},
        }

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`gptoss fleet …`, on the head."""
        return subprocess.run(
            [*GPTOSS, "fleet", *words],
            env=self.cluster.environment(self._home),
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

    def done(self, *words: str) -> str:
        """What a command prints that works."""
        result = self.command(*words)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def document(self, **fields: Any) -> Path:
        """The file, with other fields of the pool."""
        self._document["engine"]["pools"][POOL].update(fields)
        self.file.write_text(yaml.safe_dump(self._document))
        return self.file

    def up(self, *options: str, **fields: Any) -> str:
        """With other fields of the pool."""
        return self.done("up", str(self.document(**fields)), *options)

    def status(self) -> dict[str, Any]:
        """All of it."""
        found: dict[str, Any] = json.loads(self.done("status", "--json"))
        return found

    def ready(self) -> dict[str, dict[str, Any]]:
        """The engines that are ready, by name."""
        return {one["name"]: one for one in self.status()["engines"] if one["phase"] == "ready"}

    def until_ready(
        self, number: int, beside: Mapping[str, Mapping[str, Any]] = {}
    ) -> dict[str, Any]:
        """Wait until so many engines are ready, and nothing else is there; others than `beside`.

        Gateways are never told that there is none meanwhile.
        """
        found: dict[str, Any] = {}

        def are_there() -> bool:
            # A command takes more of the processors than an engine that starts: the page is asked
            # first, and not all the time.
            time.sleep(2)
            listed = self.listed()
            assert listed
            if len(listed) != number:
                return False
            engines = self.status()["engines"]
            found.clear()
            found.update({one["name"]: one for one in engines if one["phase"] == "ready"})
            return len(found) == number == len(engines) and not beside.keys() & found.keys()

        until(are_there, START_SECONDS, f"not {number} engines")
        return found

    def is_known(self) -> bool:
        """Whether the keeper says where engines are."""
        with contextlib.suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{self._board}/pools/{POOL}"
            return web.get(url, timeout=10).status_code == 200
        return False

    def listed(self) -> set[str]:
        """Where gateways are told to send requests."""
        page = web.get(f"http://127.0.0.1:{self._board}/pools/{POOL}", timeout=10)
        page.raise_for_status()
        return {f"http://{target}" for group in page.json() for target in group["targets"]}

    def followed(self) -> set[str]:
        """Where the gateway does."""
        states = self.gateway.states(POOL)
        return {url for url, state in states.items() if state == "up"}

    def until_followed(self, engines: Mapping[str, Mapping[str, Any]]) -> None:
        """Wait until the gateway uses these, and no other."""
        urls = {one["url"] for one in engines.values()}
        until(lambda: self.followed() == urls, 60, f"the gateway does not use {urls}")

    def load(self, **options: Any) -> Load:
        """Clients of the gateway."""
        return Load(self._place, **options)


def is_left(process: int) -> bool:
    """Whether anything of an engine runs still, by the number of its first process."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(ValueError, OSError):
            if os.getpgid(int(folder.name)) == process:
                return True
    return False


def kill(process: int) -> None:
    """All of an engine, as the kernel does that is out of memory."""
    os.killpg(os.getpgid(process), signal.SIGKILL)


@contextlib.contextmanager
def start(home: Path, weights: Path, nodes: Mapping[str, int]) -> Iterator[RayFleet]:
    """A fault-tolerant head, nodes with so many CPUs, and a gateway; no fleet yet."""
    board = free_port()
    # Engines leave the processors to the gateway, the stores and Ray, as they would with cards.
    settings = {"VLLM_API_KEY": ENGINE_KEY, "RAY_worker_niceness": "10"}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(appendonly=True))
        cluster = stack.enter_context(RayCluster(settings, redis.address))
        for name, cpus in nodes.items():
            cluster.add(name, cpus=cpus)
        state = home / "gateway" / "state"
        state.mkdir(parents=True)
        office = Office.at(state)
        office.add_team(Team(TEAM))
        _, key = office.add_key(TEAM)
        url = f"sd+http://127.0.0.1:{board}/pools/{POOL}"
        upstreams = [{"model": MODEL, "pool": POOL, "url": url}]
        models = {MODEL: {"pools": {POOL: 1}}}
        own = {
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams),
            "GPTOSS_GATEWAY__MODELS": json.dumps(models),
        }
        gateway = stack.enter_context(Gateway(home / "gateway", _GATEWAY | own))
        yield RayFleet(cluster, home, weights, gateway, key, board)
