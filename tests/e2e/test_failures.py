"""A real vLLM that hangs, and one that is killed, as a client behind the gateway sees it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import web
from tests.e2e.conftest import MODEL, Stack, start
from tests.integration.fleet import until

IDLE_TIMEOUT = 3
# Two checks in a row that are not answered, and the time between them, s.
CHECKS = {"INTERVAL": "0.5", "TIMEOUT": "2", "FAILURES": "2"}
CHECKED_OUT = 2 * (0.55 + 2)
BUSY = 10


@pytest.fixture(scope="module")
def stack(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An engine of this module's own: it does not survive."""
    home = tmp_path_factory.mktemp("failures")
    checks = {f"ROUTING__HEALTH__{name}": value for name, value in CHECKS.items()}
    with start(weights, home, GATEWAY__IDLE_TIMEOUT=str(IDLE_TIMEOUT), **checks) as running_stack:
        yield running_stack


class Reader(threading.Thread):
    """Reads one long stream to whatever its end is."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.began = threading.Event()
        self.events: list[str] = []
        self._url = f"{stack.base_url}/chat/completions"
        self._headers = {"authorization": f"Bearer {stack.key}"}
        self.start()

    def run(self) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Count to 100000."}],
            "max_tokens": 15_000,
            "stream": True,
        }
        with httpx.stream(
            "POST", self._url, json=body, headers=self._headers, timeout=60
        ) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.events.append(line.removeprefix("data: "))
                    self.began.set()

    def error(self) -> str:
        """The code of the error event that the stream ended with."""
        self.join(60)
        assert not self.is_alive(), "the stream hangs"
        code: str = json.loads(self.events[-1])["error"]["code"]
        return code


def engine_processes(stack: Stack) -> list[int]:
    """The engine's processes: vLLM's server and its core."""
    group = os.getpgid(stack.engine.pid)
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [number for number in numbers if _group(number) == group]


def _group(process: int) -> int:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return -1


def is_ready(stack: Stack) -> bool:
    return web.get(f"{stack.ops_url}/readyz", timeout=10).status_code == 200


def is_refused(stack: Stack) -> bool:
    """Whether a request is told that there is no engine."""
    answer = httpx.post(
        f"{stack.base_url}/chat/completions",
        json={"model": MODEL, "messages": []},
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=30,
    )
    assert answer.json()["error"]["code"] == "engine_unavailable"
    return answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


def test_a_hanging_engine_ends_the_stream_with_an_error_event(stack: Stack) -> None:
    reader = Reader(stack)
    assert reader.began.wait(30)
    processes = engine_processes(stack)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert reader.error() == "engine_timeout"
        assert time.monotonic() - began < 1.25 * IDLE_TIMEOUT + BUSY
        until(lambda: not is_ready(stack), CHECKED_OUT + BUSY)
        assert is_refused(stack)
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    until(lambda: is_ready(stack), BUSY)


def test_a_killed_engine_ends_the_stream_with_an_error_event_and_then_is_unavailable(
    stack: Stack,
) -> None:
    reader = Reader(stack)
    assert reader.began.wait(30)
    for process in engine_processes(stack):
        os.kill(process, signal.SIGKILL)
    assert reader.error() == "engine_disconnected"
    assert is_refused(stack)
    assert "Traceback" not in stack.gateway_log.read_text()
