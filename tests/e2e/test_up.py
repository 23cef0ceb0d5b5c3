"""`gptoss up`, what `make up` runs: from nothing to a self-tested endpoint, and back to nothing."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import settings
from tests.process import GPTOSS, environment, free_port

READY_SECONDS = 480


class Up:
    """A running `gptoss up`, whose output is read as it comes."""

    def __init__(self, state: Path, port: int) -> None:
        self.mark = f"mark-{os.getpid()}-{port}"
        env = environment(
            state,
            {
                "GPTOSS_STATE_DIR": str(state),
                "GPTOSS_CACHE_DIR": str(settings.load().cache_dir),
                "TEST_MARK": self.mark,
            },
        )
        self.process = subprocess.Popen(
            [*GPTOSS, "up", "--profile", "cpu-dev", "--port", str(port)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C stops" in line:
                self._ready.set()
        self._ready.set()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(READY_SECONDS), self.output
        assert self.process.poll() is None, self.output

    def wait(self) -> int:
        status = self.process.wait(120)
        self._reader.join(10)
        return status

    def processes(self) -> list[int]:
        """Every process with this run's mark in its environment: itself and all it started."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (
                    folder.name.isdigit()
                    and self.mark.encode() in (folder / "environ").read_bytes()
                ):
                    found.append(int(folder.name))
        return found

    def wait_until_gone(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, f"left running: {left}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def up(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    run = Up(tmp_path_factory.mktemp("up"), free_port(2))
    try:
        run.wait_until_ready()
        yield run
    finally:
        for process in run.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        run.wait()


def test_each_step_is_shown_with_its_time(up: Up) -> None:
    for step in (
        r"^profile   gpt-oss-tiny on the CPU",
        r"^model     reused ",
        r"^engine    answers in [\d.]+ s$",
        r"^gateway   answers in [\d.]+ s$",
        r"^self-test chat completion: well-formed, [\d.]+ s$",
        r"^self-test streamed completion: well-formed, [\d.]+ s$",
        r"^self-test tool call: well-formed, [\d.]+ s$",
        r"^ready     http://127\.0\.0\.1:\d+/v1 serves gpt-oss-tiny",
    ):
        assert re.search(step, up.output, re.MULTILINE), up.output


def test_the_curl_line_works_when_pasted(up: Up) -> None:
    (line,) = (line for line in up.output.splitlines() if line.startswith("curl "))
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=300, check=False
    )
    assert '"finish_reason":"stop"' in result.stdout, result


def test_the_python_snippet_works_when_pasted(up: Up) -> None:
    lines = up.output.splitlines()
    snippet = lines[lines.index("from openai import OpenAI") :][:5]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(snippet)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "gpt-oss" in result.stdout, result


def test_a_second_one_on_the_same_port_is_one_line(up: Up) -> None:
    port = re.search(r"ready +http://127\.0\.0\.1:(\d+)", up.output)
    assert port
    result = subprocess.run(
        [*GPTOSS, "up", "--profile", "cpu-dev", "--port", port[1]],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1
    assert f"127.0.0.1:{port[1]} is taken" in result.stderr
    assert result.stderr.count("\n") == 1


def test_ctrl_c_ends_everything_and_well(up: Up) -> None:
    """The last test of this engine. It gets the signal alone, as from `make`."""
    assert len(up.processes()) >= 4  # itself, the gateway, vLLM's server and its core
    up.process.send_signal(signal.SIGINT)
    assert up.wait() == 0
    assert up.output.endswith("stopped   nothing is left running\n")
    up.wait_until_gone(10)


def test_a_killed_one_leaves_nothing_behind(weights: Path, tmp_path: Path) -> None:
    run = Up(tmp_path, free_port(2))
    try:
        run.wait_until_ready()
        run.process.kill()
        run.wait()
        run.wait_until_gone()
    finally:
        for process in run.processes():
            os.kill(process, signal.SIGKILL)


def test_an_engine_that_dies_is_reported_and_ends_the_rest(weights: Path, tmp_path: Path) -> None:
    run = Up(tmp_path, free_port(2))
    try:
        run.wait_until_ready()
        names = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in run.processes()}
        (server,) = (p for p, name in names.items() if b"api_server" in name)
        os.kill(server, signal.SIGKILL)
        assert run.wait() == 1
        assert "gptoss: the engine ended with status -9" in run.output
        run.wait_until_gone()
    finally:
        for process in run.processes():
            os.kill(process, signal.SIGKILL)


def test_ctrl_c_while_the_engine_starts_ends_everything(weights: Path, tmp_path: Path) -> None:
    run = Up(tmp_path, free_port(2))
    deadline = time.monotonic() + 300
    while "engine    vLLM starts" not in run.output:
        assert time.monotonic() < deadline, run.output
        time.sleep(0.05)
    run.process.send_signal(signal.SIGINT)
    # To a shell both are 130. Python ends itself by the signal where that came within generated
    # code, such as a dataclass that is being imported, although it was caught.
    assert run.wait() in (130, -signal.SIGINT)
    assert "stopped   nothing is left running" in run.output
    run.wait_until_gone()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "h1000"], "h1000"),
        (["--model", "gpt-5"], "gpt-5"),
        (["--model", "gpt-oss-120b", "--profile", "l4"], "does not fit"),
        (["--model", "gpt-oss-20b"], "needs a GPU"),
        (["--profile", "h100-80g"], "no GPU was found"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    port = free_port(2)
    env = environment(tmp_path, {"GPTOSS_STATE_DIR": str(tmp_path), "PATH": "/nowhere"})
    result = subprocess.run(
        [*GPTOSS, "up", "--port", str(port), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")
