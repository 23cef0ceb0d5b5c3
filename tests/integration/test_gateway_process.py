"""The gateway's start and end as a process."""

import json
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from service.tenants.team import Team
from tests.integration.fake_engine import FakeEngine
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

CHAT = "/v1/chat/completions"


def gateway_env(home: Path, url: str, **extra: str) -> dict[str, str]:
    ports = {
        "GPTOSS_GATEWAY__PORT": str(free_port()),
        "GPTOSS_GATEWAY__OPS_PORT": str(free_port()),
        "GPTOSS_GATEWAY__UPSTREAMS": json.dumps([{"model": "forever", "url": url}]),
        "GPTOSS_STATE_DIR": str(home / "state"),
    }
    return environment(home, ports | extra)


@pytest.mark.parametrize("port", ["PORT", "OPS_PORT"])
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, port: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = str(holder.getsockname()[1])
        env = gateway_env(tmp_path, "http://127.0.0.1:9", **{f"GPTOSS_GATEWAY__{port}": taken})
        result = subprocess.run(
            [*GPTOSS, "gateway"], env=env, capture_output=True, text=True, timeout=30, check=False
        )
    assert result.returncode == 1
    assert result.stderr == (
        f"gptoss: 127.0.0.1:{taken} is taken: stop what listens there, or set"
        f" GPTOSS_GATEWAY__{port} to another port\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_ends_at_once_and_well(tmp_path: Path, number: int) -> None:
    env = gateway_env(tmp_path, "http://127.0.0.1:9")
    ready = f"http://127.0.0.1:{env['GPTOSS_GATEWAY__OPS_PORT']}/livez"
    with running([*GPTOSS, "gateway"], env, ready=ready, log=tmp_path / "log") as process:
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event(
    tmp_path: Path, engine: FakeEngine
) -> None:
    office = Office.at(tmp_path / "state")
    office.add_team(Team("tests"))
    _, token = office.add_key("tests")
    env = gateway_env(tmp_path, engine.url, GPTOSS_DRAIN="0.5")
    port, ops = env["GPTOSS_GATEWAY__PORT"], env["GPTOSS_GATEWAY__OPS_PORT"]
    client = httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=20)
    ready = f"http://127.0.0.1:{ops}/livez"
    began, received = threading.Event(), bytearray()

    def read() -> None:
        body = {"model": "forever", "stream": True}
        with client.stream("POST", f"http://127.0.0.1:{port}{CHAT}", json=body) as answer:
            for part in answer.iter_bytes():
                received.extend(part)
                began.set()

    with running([*GPTOSS, "gateway"], env, ready=ready, log=tmp_path / "log") as process:
        reader = threading.Thread(target=read)
        reader.start()
        assert began.wait(10)
        process.send_signal(signal.SIGTERM)
        reader.join(20)
        assert process.wait(10) == 0
    last = bytes(received).removesuffix(b"\n\n").split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "gateway_shutdown"
    assert "Traceback" not in (tmp_path / "log").read_text()
