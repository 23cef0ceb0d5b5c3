"""Replicas and gateways as processes that a test kills, stops and starts again."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from tests import web
from tests.exposition import total
from tests.integration.load import Load
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, stop, wait_until_ready
from tests.servers.replica import Mode

MODEL = "tiny"
INTERVAL = 0.2
CHECK_TIMEOUT = 1.4
FAILURES = 3
MAX_EJECTION = 1.2
STALL = 2.4
FIRST_EVENT = 3.2
IDLE = 2.4
RESPONSE = 5.0
DRAIN = 8.0
LEASE = 3.0
RESOLVED_EVERY = 0.3
BUSY = 5.0
"""What a busy machine may add to any time, s."""
# Until the checks of a replica have failed often enough, s.
CHECKED_OUT = FAILURES * (1.1 * INTERVAL + CHECK_TIMEOUT)
# Until a replica that is well again is up, by the docstring of `service.routing.health`, s.
BACK_IN = max(1.2 * MAX_EJECTION, 3 * STALL) + 2 * INTERVAL + 1
# A request that two replicas in a row leave waiting, and a third one answers, s.
LONGEST = 2 * RESPONSE + BUSY

SETTINGS = {
    "GPTOSS_DRAIN": str(DRAIN),
    "GPTOSS_ROUTING__HEALTH__INTERVAL": str(INTERVAL),
    "GPTOSS_ROUTING__HEALTH__TIMEOUT": str(CHECK_TIMEOUT),
    "GPTOSS_ROUTING__HEALTH__FAILURES": str(FAILURES),
    "GPTOSS_ROUTING__HEALTH__EJECTION": "0.5",
    "GPTOSS_ROUTING__HEALTH__MAX_EJECTION": str(MAX_EJECTION),
    "GPTOSS_ROUTING__HEALTH__SLOW_START": "1",
    "GPTOSS_ROUTING__HEALTH__STALL": str(STALL),
    "GPTOSS_GATEWAY__CONNECT_TIMEOUT": "1",
    "GPTOSS_GATEWAY__FIRST_EVENT_TIMEOUT": str(FIRST_EVENT),
    "GPTOSS_GATEWAY__IDLE_TIMEOUT": str(IDLE),
    "GPTOSS_GATEWAY__RESPONSE_TIMEOUT": str(RESPONSE),
    "GPTOSS_GATEWAY__TOTAL_TIMEOUT": "20",
}


class Process:
    """A process that is started more than once, with the same arguments; killed at exit."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], ready: str, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._argv = argv
        self._env = env
        self._ready = ready

    @property
    def environment(self) -> dict[str, str]:
        """What it sees, for a command that is to see the same."""
        return dict(self._env)

    def launch(self) -> Self:
        """Start it."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._argv,
                env=dict(self._env),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def wait(self) -> None:
        """Until it is ready."""
        assert self.process is not None
        wait_until_ready(self.process, self._ready, self.log, 120)

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.launch().wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, seconds: float = DRAIN + 10) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        return self.process.wait(seconds)

    def terminate(self) -> int:
        """End it in order. Returns its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)
        self.ended()

    def __enter__(self) -> Self:
        return self.launch()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            stop(self.process)


class Replica(Process):
    """A `tests.servers.replica`."""

    def __init__(
        self, log: Path, *, host: str = "127.0.0.1", port: int = 0, pace: float = 0.03
    ) -> None:
        port = port or free_port()
        self.address = f"{host}:{port}"
        self.url = f"http://{self.address}"
        argv = [sys.executable, "-m", "tests.servers.replica", str(port)]
        argv += [f"--host={host}", f"--pace={pace}", f"--drain={DRAIN}"]
        super().__init__(argv, environment(log.parent), f"{self.url}/health", log)

    def behave(self, mode: Mode) -> None:
        """From now on."""
        httpx.put(f"{self.url}/mode", json={"mode": mode}, timeout=10).raise_for_status()

    @property
    def requests(self) -> int:
        """That it was sent since it started."""
        found: int = web.get(f"{self.url}/seen", timeout=10).json()["requests"]
        return found

    @property
    def open(self) -> int:
        """Requests that it works on."""
        found: int = web.get(f"{self.url}/seen", timeout=10).json()["open"]
        return found

    def until_midway(self, streams: int = 2) -> None:
        """Wait until some of its streams have begun and not ended."""
        until(lambda: web.get(f"{self.url}/seen", timeout=10).json()["midway"] >= streams)


class Gateway(Process):
    """A `gptoss gateway`. `home` is its own; `settings` are beside `SETTINGS`."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        port, ops = free_port(), free_port()
        self.url, self.ops = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops}"
        own = {
            "GPTOSS_GATEWAY__PORT": str(port),
            "GPTOSS_GATEWAY__OPS_PORT": str(ops),
            "GPTOSS_STATE_DIR": str(home / "state"),
        }
        env = environment(home, SETTINGS | own | dict(settings))
        super().__init__([*GPTOSS, "gateway"], env, f"{self.ops}/readyz", home / "log")

    def picture(self) -> dict[str, Any]:
        """What it says of its upstreams."""
        found: dict[str, Any] = web.get(f"{self.ops}/upstreams", timeout=10).json()
        return found

    def pool(self, name: str = MODEL) -> dict[str, Any]:
        """What it says of one pool."""
        (found,) = (pool for pool in self.picture()["pools"] if pool["name"] == name)
        return dict(found)

    def states(self, name: str = MODEL) -> dict[str, str]:
        """Of each replica of a pool, by its URL."""
        return {replica["url"]: replica["state"] for replica in self.pool(name)["replicas"]}

    def is_ready(self) -> bool:
        """Whether it takes requests."""
        try:
            return web.get(f"{self.ops}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series."""
        page = web.get(f"{self.ops}/metrics", timeout=10).text
        return total(page, name, **labels)

    def quota(self, key: str) -> dict[str, Any]:
        """What it says of a key's team."""
        headers = {"authorization": f"Bearer {key}"}
        answer = web.get(f"{self.url}/v1/quota", headers=headers, timeout=10)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()["team"]
        return found

    def is_idle(self, key: str) -> bool:
        """Whether it has nothing open: no request, no turn, no reservation."""
        pools, quota = self.picture()["pools"], self.quota(key)
        counts = [pool[name] for pool in pools for name in ("in_flight", "admitted", "waiting")] + [
            replica[name]
            for pool in pools
            for replica in pool["replicas"]
            for name in ("in_flight", "tokens_in_flight")
        ]
        counts += [quota["tokens_per_day"]["reserved"], quota["concurrent_requests"]["used"]]
        return not any(counts)


class Fleet:
    """Replicas, the gateways in front of them, and the key of a team that may ask them."""

    def __init__(
        self, replicas: Sequence[Replica], gateways: Sequence[Gateway], office: Office, key: str
    ) -> None:
        self.replicas = replicas
        self.gateways = gateways
        self.office = office
        self.key = key

    def load(self, **options: Any) -> Load:
        """Clients of all gateways."""
        return Load([gateway.url for gateway in self.gateways], self.key, **options)

    def until_avoided(self, replica: Replica, *states: str) -> float:
        """Wait until no gateway sends anything to a replica. How long that took, s."""
        return self._until(
            lambda state: state in (states or ("ejected", "down", "stalled")), replica
        )

    def until_back(self, replica: Replica) -> float:
        """Wait until all gateways send it requests. How long that took, s."""
        return self._until(lambda state: state == "up", replica)

    def until_idle(self) -> None:
        """Wait until nothing is counted any more that has ended."""
        for gateway in self.gateways:
            until(lambda gateway=gateway: gateway.is_idle(self.key))  # type: ignore[misc]

    def _until(self, meant: Callable[[str], bool], replica: Replica) -> float:
        began = time.monotonic()
        # Each by itself: one that is out at one gateway may be on trial already at another.
        left = list(self.gateways)

        def seen() -> bool:
            left[:] = [one for one in left if not meant(one.states().get(replica.url, "down"))]
            return not left

        until(seen)
        return time.monotonic() - began


def upstreams(replicas: Iterable[Replica], **fields: object) -> str:
    """The setting, as JSON."""
    return json.dumps([{"model": MODEL, "url": one.url, **fields} for one in replicas])


def until(condition: Callable[[], bool], seconds: float = 60, otherwise: str = "not yet") -> float:
    """Wait for it; fail with `otherwise` if it does not come. How long that took, s."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"{otherwise}, after {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began
