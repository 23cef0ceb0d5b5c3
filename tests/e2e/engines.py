"""Real engines that a test kills, stops and starts again, behind a gateway."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from service.tenants.team import Team
from tests import web
from tests.e2e.conftest import ENGINE_KEY, ENGINE_START_SECONDS, MODEL
from tests.e2e.traffic import Load, Place
from tests.integration.fleet import Gateway, Process, until
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, wait_until_ready

DRAIN = 60.0
_PAGE = 4096


class Engine(Process):
    """One vLLM with the tiny model."""

    def __init__(self, weights: Path, home: Path) -> None:
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        # With cards of its own it would leave the processors to the gateway and the stores.
        argv = ["nice", "-n", "10", *GPTOSS, "engine"]
        argv += ["--profile", "cpu-dev", "--weights", str(weights)]
        own = {
            "GPTOSS_STATE_DIR": str(home),
            "GPTOSS_DRAIN": str(DRAIN),
            "VLLM_API_KEY": ENGINE_KEY,
        }
        super().__init__(
            [*argv, "--port", port],
            environment(home, own),
            f"{self.url}/health",
            home / f"engine-{port}.log",
        )

    def wait(self) -> None:
        """Until it is ready."""
        assert self.process is not None
        wait_until_ready(self.process, self._ready, self.log, ENGINE_START_SECONDS)

    @property
    def direct(self) -> Place:
        """It, asked without a gateway; with a part of its prefix cache of its own, as a team."""
        return Place(self.url, ENGINE_KEY, MODEL, {"cache_salt": "nobody's but this test's"})

    @property
    def processes(self) -> dict[int, str]:
        """All of it: vLLM's server and its core, by id, with what the kernel calls them."""
        assert self.process is not None
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(ValueError, OSError):
                if os.getpgid(number := int(folder.name)) == self.process.pid:
                    found[number] = (folder / "comm").read_text().strip()
        return found

    @property
    def core(self) -> list[int]:
        """The process that computes."""
        return [number for number, name in self.processes.items() if "EngineCor" in name]

    @property
    def memory_mib(self) -> float:
        """What of it is in memory, shared pages counted once in each process."""
        pages = 0
        for number in self.processes:
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
        return pages * _PAGE / 2**20

    def signal_all(self, number: signal.Signals) -> None:
        """To all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def metric(self, name: str) -> int:
        """The sum of one of vLLM's counters."""
        text = web.get(f"{self.url}/metrics", timeout=30).text
        return sum(
            int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        )


@contextlib.contextmanager
def stalled(engine: Engine) -> Iterator[None]:
    """Its core stands still in the midst of work, as one whose card hangs; its server answers."""
    until(lambda: _stopped_at_work(engine), 30)
    try:
        yield
    finally:
        signal_core(engine, signal.SIGCONT)


def _stopped_at_work(engine: Engine) -> bool:
    """Whether it could be stopped while requests run in it. What it says then stays so."""
    signal_core(engine, signal.SIGSTOP)
    before: tuple[int, int] | None = None
    while (now := _work(engine)) != before:  # until what it said last is on its page
        before = now
        time.sleep(0.5)
    if now[0]:
        return True
    signal_core(engine, signal.SIGCONT)
    return False


def _work(engine: Engine) -> tuple[int, int]:
    """Requests that run in it, and tokens that it has made."""
    return engine.metric("vllm:num_requests_running"), engine.metric("vllm:generation_tokens_total")


def signal_core(engine: Engine, number: signal.Signals) -> None:
    """To the process that computes."""
    for process in engine.core:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


class Engines:
    """Some engines, the gateway in front of them, and its teams."""

    def __init__(
        self, engines: Sequence[Engine], gateway: Gateway, office: Office, keys: Mapping[str, str]
    ) -> None:
        self.engines = engines
        self.gateway = gateway
        self.office = office
        self.keys = keys
        self.loads: list[Load] = []

    def place(self, pool: str, team: str = "tests") -> Place:
        """A pool of the gateway, asked by a team."""
        return Place(self.gateway.url, self.keys[team], pool)

    def load(self, pool: str, team: str = "tests", **options: Any) -> Load:
        """Clients of a team."""
        load = Load(self.place(pool, team), **options)
        self.loads.append(load)
        return load

    def metric(self, name: str) -> int:
        """The sum of one of vLLM's counters, of all engines."""
        return sum(engine.metric(name) for engine in self.engines)

    def replica(self, engine: Engine, pool: str) -> dict[str, Any]:
        """What the gateway says of an engine."""
        replicas: list[dict[str, Any]] = self.gateway.pool(pool)["replicas"]
        return next(one for one in replicas if one["url"] == engine.url)

    def until(self, engine: Engine, pool: str, *states: str, seconds: float) -> float:
        """Wait until the gateway sees it so. How long that took, s."""
        return until(lambda: self.replica(engine, pool)["state"] in states, seconds)

    def lines(self, requests: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The gateway's log of these, by their ids. A line is written after the answer."""
        wanted, found = set(requests), dict[str, dict[str, Any]]()

        def are_there() -> bool:
            whole, _, _ = self.gateway.log.read_text().rpartition("\n")
            lines = (json.loads(line) for line in whole.splitlines() if line)
            found.update(
                {line["request_id"]: line for line in lines if line["message"] == "request"}
            )
            return wanted <= found.keys()

        until(are_there, 30, "no line of a request")
        return {request: found[request] for request in wanted}

    def is_idle(self) -> bool:
        """Whether nothing is open, waits or is reserved, of any team."""
        return all(self.gateway.is_idle(key) for key in self.keys.values())


@contextlib.contextmanager
def start(
    count: int,
    weights: Path,
    home: Path,
    pools: Mapping[str, Mapping[str, object]],
    teams: Iterable[Team | str],
    settings: Mapping[str, str],
    office: Office | None = None,
) -> Iterator[Engines]:
    """Engines, all started at once. Each is in every pool, with the fields given for it.

    `office` is that of another database than the gateway's own file, which `settings` name.
    """
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(Engine(weights, home)) for _ in range(count)]
        state = home / "gateway" / "state"
        state.mkdir(parents=True)
        office = office or Office.at(state)
        keys = {}
        for team in (Team(one) if isinstance(one, str) else one for one in teams):
            office.add_team(team)
            _, keys[team.name] = office.add_key(team.name)
        for engine in engines:
            engine.wait()
        took = time.monotonic() - began
        own = {
            "GPTOSS_DRAIN": str(DRAIN),
            "GPTOSS_GATEWAY__ENGINE_KEY": ENGINE_KEY,
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(
                [
                    {"model": MODEL, "pool": pool, "url": engine.url, **fields}
                    for pool, fields in pools.items()
                    for engine in engines
                ]
            ),
        }
        gateway = stack.enter_context(Gateway(home / "gateway", own | dict(settings)))
        gateway.wait()
        sizes = ", ".join(f"{engine.memory_mib:.0f}" for engine in engines)
        print(f"{count} engines started together in {took:.0f} s; they have {sizes} MiB")  # noqa: T201
        yield Engines(engines, gateway, office, keys)
