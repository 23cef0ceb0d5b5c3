"""A real gateway process in front of an engine that fails on command."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service.tenants.team import Team
from tests.integration.fake_engine import BEHAVIOURS, Call, FakeEngine
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

ENGINE_KEY = "engine-secret-of-the-tests-0123456789"
IDLE_TIMEOUT = 2.5
MAX_BODY = 8 << 20


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and what a test needs to talk to it."""

    url: str
    ops: str
    key: str
    office: Office
    log: Path

    def client(self, **options: object) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as fake:
        yield fake


@pytest.fixture
def new_call(engine: FakeEngine) -> Callable[[], Call]:
    """The one call that the engine got since the test began."""
    before = len(engine.calls)

    def get() -> Call:
        wait_for(lambda: len(engine.calls) > before)
        (call,) = engine.calls[before:]
        return call

    return get


@pytest.fixture(scope="session")
def gateway(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("gateway")
    office = Office.at(home / "state")
    office.add_team(Team("tests"))
    _, token = office.add_key("tests")
    port, ops_port = free_port(), free_port()
    upstreams = [{"model": name, "url": engine.url} for name in BEHAVIOURS]
    deaf = socket.create_server(("127.0.0.1", 0))  # takes connections and never reads from them
    deaf_url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
    upstreams.append({"model": "deaf", "url": deaf_url})
    upstreams.append({"model": "nowhere", "url": f"http://127.0.0.1:{free_port()}"})
    env = environment(
        home,
        {
            "GPTOSS_STATE_DIR": str(home / "state"),
            "GPTOSS_GATEWAY__PORT": str(port),
            "GPTOSS_GATEWAY__OPS_PORT": str(ops_port),
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams),
            "GPTOSS_GATEWAY__ENGINE_KEY": ENGINE_KEY,
            # What a request meets is what is tested here, not what checks find before it.
            "GPTOSS_ROUTING__HEALTH__FAILURES": "1000000",
            "GPTOSS_GATEWAY__FIRST_EVENT_TIMEOUT": str(IDLE_TIMEOUT),
            "GPTOSS_GATEWAY__IDLE_TIMEOUT": str(IDLE_TIMEOUT),
            "GPTOSS_GATEWAY__RESPONSE_TIMEOUT": str(IDLE_TIMEOUT),
            "GPTOSS_GATEWAY__CLIENT_TIMEOUT": str(IDLE_TIMEOUT),
            "GPTOSS_GATEWAY__BODY_TIMEOUT": "3",
            "GPTOSS_GATEWAY__MAX_BODY_BYTES": str(MAX_BODY),
        },
    )
    url, ops, log = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}", home / "log"
    with deaf, running([*GPTOSS, "gateway"], env, ready=f"{ops}/livez", log=log):
        yield Gateway(url, ops, token, office, log)
