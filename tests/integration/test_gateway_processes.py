"""Several gateway processes on one machine: one port, shared counters, one ending."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.integration.fake_engine import FakeEngine
from tests.integration.test_gateway import CHAT, ask
from tests.integration.test_gateway_process import gateway_env
from tests.integration.waiting import wait_for
from tests.office import Office
from tests.process import GPTOSS, free_port, running
from tests.servers.redis import Redis

PROCESSES = 2
LIMIT = 5


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_they_share_a_port_and_the_counters_and_end_together(
    tmp_path: Path, engine: FakeEngine, redis: Redis
) -> None:
    office = Office.at(tmp_path / "state")
    office.add_team(Team("tests", limits=Limits(rpm=LIMIT)))
    _, token = office.add_key("tests")
    ops = free_port(PROCESSES)
    env = gateway_env(
        tmp_path,
        engine.url,
        GPTOSS_GATEWAY__OPS_PORT=str(ops),
        GPTOSS_GATEWAY__UPSTREAMS=f'[{{"model": "well", "url": "{engine.url}"}}]',
        GPTOSS_QUOTA__URL=redis.url,
    )
    url = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__PORT']}{CHAT}"
    headers = {"authorization": f"Bearer {token}"}
    command = [*GPTOSS, "gateway", "--processes", str(PROCESSES)]
    ready = f"http://127.0.0.1:{ops}/readyz"
    with running(command, env, ready=ready, log=tmp_path / "log") as process:
        wait_for(lambda: _is_ready(ops + 1), 20)

        def post() -> int:
            # A connection of its own each: the kernel gives it to one of the processes.
            return httpx.post(url, json=ask("well"), headers=headers, timeout=10).status_code

        statuses = [post() for _ in range(3 * LIMIT)]
        assert statuses.count(200) in (LIMIT, LIMIT + 1)  # one may be refilled meanwhile
        assert set(statuses) == {200, 429}
        pages = [requests(ops + number) for number in range(PROCESSES)]
        assert sum(pages) == len(statuses), "what all pages say adds up"
        assert all(pages), "each has a page of its own"
        first = children(process.pid)
        assert len(first) == PROCESSES
        os.kill(first[0], signal.SIGKILL)
        wait_for(lambda: len(set(children(process.pid)) - {first[0]}) == PROCESSES, 20)
        wait_for(lambda: _is_ready(ops) and _is_ready(ops + 1), 20)
        process.terminate()
        assert process.wait(20) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in first)
    assert "Traceback" not in (tmp_path / "log").read_text()


def requests(port: int) -> float:
    """That one process has answered."""
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    lines = (line for line in page.splitlines() if line.startswith("gptoss_gateway_requests_total"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_without_shared_counters_they_are_refused(tmp_path: Path) -> None:
    env = gateway_env(tmp_path, "http://127.0.0.1:9")
    result = subprocess.run(
        [sys.executable, "-m", "service.cli", "gateway", "--processes", "2"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("gptoss: several gateway processes need counters")
    assert result.stderr.count("\n") == 1


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
