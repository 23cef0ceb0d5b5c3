"""The real engine: vLLM with the tiny gpt-oss, by `gptoss engine`, behind `gptoss gateway`."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI

from service import settings
from service.engine import tiny
from service.tenants.team import Team
from tests import web
from tests.exposition import total
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

MODEL, TEAM = "gpt-oss-tiny", "tests"
ENGINE_KEY = "engine-secret-of-the-tests-0123456789"
ENGINE_START_SECONDS = 480


@dataclass(frozen=True)
class Stack:
    """A gateway in front of one engine."""

    base_url: str
    ops_url: str
    engine_url: str
    key: str
    engine: subprocess.Popen[bytes]
    gateway_log: Path
    office: Office

    @property
    def openai(self) -> OpenAI:
        """OpenAI's own client. It does not retry: a test wants to see each failure."""
        return OpenAI(base_url=self.base_url, api_key=self.key, max_retries=0, timeout=120)

    def engine_metric(self, name: str, **labels: str) -> float:
        """The sum of one of vLLM's own metrics."""
        text = web.get(f"{self.engine_url}/metrics", timeout=10).text
        return total(text, name, **labels)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The tiny model, trained once on a machine and kept where `make up` keeps it."""
    return tiny.ensure(settings.load().cache_dir)


@contextlib.contextmanager
def start(weights: Path, home: Path, **settings: str) -> Iterator[Stack]:
    """An engine and a gateway, with settings such as `GATEWAY__IDLE_TIMEOUT` of the latter."""
    office = Office.at(home)
    office.add_team(Team(TEAM))
    _, token = office.add_key(TEAM)
    engine, port, ops = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    own = {"GPTOSS_STATE_DIR": str(home), "VLLM_API_KEY": ENGINE_KEY}
    addresses = {
        "GATEWAY__PORT": port.rpartition(":")[2],
        "GATEWAY__OPS_PORT": ops.rpartition(":")[2],
        "GATEWAY__UPSTREAMS": json.dumps([{"model": MODEL, "url": engine}]),
        "GATEWAY__ENGINE_KEY": ENGINE_KEY,
    }
    named = {f"GPTOSS_{name}": value for name, value in (addresses | settings).items()}
    engine_argv = [
        *(*GPTOSS, "engine", "--profile", "cpu-dev", "--weights", str(weights)),
        *("--port", engine.rpartition(":")[2]),
    ]
    with (
        running(
            engine_argv,
            environment(home, own),
            ready=f"{engine}/health",
            log=home / "engine.log",
            seconds=ENGINE_START_SECONDS,
        ) as process,
        running(
            [*GPTOSS, "gateway"],
            environment(home, own | named),
            ready=f"{ops}/readyz",
            log=home / "gateway.log",
        ),
    ):
        yield Stack(f"{port}/v1", ops, engine, token, process, home / "gateway.log", office)


@pytest.fixture(scope="session")
def stack(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with start(weights, tmp_path_factory.mktemp("stack")) as running_stack:
        yield running_stack
