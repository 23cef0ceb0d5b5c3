"""The probes of the engine's container, as the kubelet runs them: a status, and one line at most.

They are run as commands, in a folder that outlives the engine, as a pod's does.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.engine import probe
from service.routing.standstill import Standstill
from tests.integration.fleet import Replica
from tests.integration.load import Load
from tests.integration.speaking_engine import SpeakingEngine
from tests.process import environment, free_port
from tests.servers.replica import Mode

KEY = "engine-secret-of-the-tests-0123456789"
STALL = 180.0
# Of `live`, over that of a program that can ask over HTTP and does nothing; measured: 1.4 to 1.7.
MOST_COST = 2.5
RUNS = 7


@dataclass
class Pod:
    """An engine, and the folder of its probes."""

    engine: SpeakingEngine
    state: Path

    def probe(self, *words: str, **extra: str) -> tuple[int, str]:
        """Status, and what it said."""
        return run(self.state, *words, f"--port={self.engine.port}", **extra)

    def stands_still_since(self, seconds: float) -> None:
        """As if probes had seen it so for a while: nobody waits for three minutes here."""
        assert self.probe("live") == (0, "")
        (note,) = (self.state / "engine").glob("*.progress")
        process, *numbers, _ = note.read_text().split()
        note.write_text(" ".join([process, *numbers, str(seconds)]))


def run(state: Path | None, *words: str, **extra: str) -> tuple[int, str]:
    """Run a probe: its status, and the line that it said."""
    given = {"VLLM_API_KEY": KEY} | ({"GPTOSS_STATE_DIR": str(state)} if state else {})
    result = subprocess.run(
        [sys.executable, "-m", "service.engine.probe", *words],
        env=environment(Path("/nonexistent"), given | extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == (result.returncode != 0)
    return result.returncode, result.stderr.strip()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    with SpeakingEngine(key=KEY) as engine:
        yield Pod(engine, tmp_path / "state")


# --- started ----------------------------------------------------------------------------------


def test_an_engine_has_started_once_it_answers_streams_and_calls_a_tool(pod: Pod) -> None:
    assert pod.probe("started") == (0, "")
    assert pod.engine.questions == 3


def test_it_is_asked_only_once(pod: Pod) -> None:
    assert [pod.probe("started")[0] for _ in range(3)] == [0, 0, 0]
    assert pod.engine.questions == 3


def test_an_engine_that_is_healthy_and_answers_wrongly_has_not_started(pod: Pod) -> None:
    pod.engine.speaks = False
    status, line = pod.probe("started")
    assert status == 1
    assert line.startswith("self-test: the tool call did not come back well-formed")
    pod.engine.speaks = True
    assert pod.probe("started") == (0, "")


def test_after_a_restart_of_the_engine_it_is_asked_again(pod: Pod) -> None:
    assert pod.probe("started") == (0, "")
    pod.engine.started += 60
    pod.engine.speaks = False
    assert pod.probe("started")[0] == 1


def test_an_engine_that_does_not_say_when_it_started_is_asked_each_time(pod: Pod) -> None:
    pod.engine.started = 0
    assert [pod.probe("started")[0] for _ in range(2)] == [0, 0]
    assert pod.engine.questions == 6


def test_an_engine_that_is_not_healthy_is_asked_nothing(pod: Pod) -> None:
    pod.engine.health = 503
    assert pod.probe("started") == (1, "/health says 503")
    assert pod.engine.asked == ["/health"]


def test_an_engine_that_is_not_there_has_not_started(tmp_path: Path) -> None:
    for what in ("started", "live"):
        status, line = run(tmp_path, what, f"--port={free_port()}")
        assert (status, line) == (1, "/health is not answered: Connection refused")


def test_a_wrong_secret_is_named(pod: Pod) -> None:
    status, line = pod.probe("started", VLLM_API_KEY="another")
    assert status == 1
    assert line == '/v1/models says 401: {"error": "Unauthorized"}: check VLLM_API_KEY'


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_secret_that_is_none_is_one_line(pod: Pod, key: str) -> None:
    assert pod.probe("started", VLLM_API_KEY=key)[0] == 1


def test_where_nothing_can_be_remembered_it_is_asked_each_time(pod: Pod) -> None:
    pod.state.write_text("no folder")
    assert [pod.probe("started")[0] for _ in range(2)] == [0, 0]
    assert pod.engine.questions == 6


# --- live -------------------------------------------------------------------------------------


def test_an_engine_that_hangs_for_too_long_is_not_live(pod: Pod) -> None:
    pod.engine.running, pod.engine.tokens = 3, 100
    pod.stands_still_since(STALL - 60)
    assert pod.probe("live") == (0, "")
    pod.stands_still_since(STALL + 10)
    status, said = pod.probe("live")
    assert status == 1
    silent = re.fullmatch(r"stalled: no token in (\d+) s with 3 running", said)
    assert silent is not None, said
    assert STALL + 10 <= int(silent[1]) < STALL + 60


def test_time_is_added_up_from_probe_to_probe(pod: Pod) -> None:
    pod.engine.running = 1
    began = time.monotonic()
    while pod.probe("live", "--stall=1.5")[0] == 0:
        assert time.monotonic() < began + 30
    assert time.monotonic() > began + 1.5


@pytest.mark.parametrize("change", ["a token", "nothing runs", "a restart", "fewer tokens"])
def test_a_sign_of_life_makes_it_live_again(pod: Pod, change: str) -> None:
    pod.engine.running, pod.engine.tokens = 3, 100
    pod.stands_still_since(STALL + 10)
    assert pod.probe("live")[0] == 1
    match change:
        case "a token":
            pod.engine.tokens += 1
        case "nothing runs":
            pod.engine.running = 0
        case "a restart":
            pod.engine.started += 60
        case _:
            pod.engine.tokens = 1
    assert pod.probe("live") == (0, "")
    pod.engine.running = 3
    assert pod.probe("live") == (0, "")


def test_an_idle_engine_is_live(pod: Pod) -> None:
    pod.stands_still_since(STALL + 10)
    assert pod.probe("live") == (0, "")


@pytest.mark.parametrize("page", ["none", "of another program"])
def test_without_a_page_of_vllms_health_decides(
    pod: Pod, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.engine.metrics = page != "none"
    monkeypatch.setattr(SpeakingEngine, "page", lambda _: "go_threads 7\n")
    assert pod.probe("live") == (0, "")
    pod.engine.health = 503
    assert pod.probe("live") == (1, "/health says 503")


def test_an_engine_that_says_nothing_is_not_live(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        status, line = run(tmp_path, "live", f"--port={port}", "--timeout=0.2")
    assert (status, line) == (1, "/health said nothing for 0.2 s")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\x00",
        b"not what it was",
        b"1700000000.25 x 3 0 999",
        b"1700000000.25 800.0 3",
        b"1700000000.25 800.0 nan 0 999",
        b"0" * 100_000,
    ],
)
def test_a_note_that_is_spoiled_is_replaced(pod: Pod, note: bytes) -> None:
    pod.engine.running, pod.engine.tokens = 3, 100
    pod.stands_still_since(STALL + 10)
    (path,) = (pod.state / "engine").glob("*.progress")
    path.write_bytes(note)
    assert pod.probe("live") == (0, "")
    assert path.read_text().split()[-1] == "0.0"


def test_a_clock_that_went_back_and_a_long_pause_make_no_stall(pod: Pod) -> None:
    pod.engine.running, pod.engine.tokens = 3, 100
    for gap in (1e9, -1e9):
        pod.stands_still_since(80)
        (path,) = (pod.state / "engine").glob("*.progress")
        process, progress, running, at, still = path.read_text().split()
        words = (process, progress, running, float(at) - gap, still)
        path.write_text(" ".join(map(str, words)))
        assert pod.probe("live") == (0, "")


def test_where_nothing_can_be_remembered_a_healthy_engine_is_live(pod: Pod) -> None:
    pod.engine.running, pod.engine.tokens = 3, 100
    pod.stands_still_since(STALL + 10)
    (path,) = (pod.state / "engine").glob("*.progress")
    path.unlink()
    path.mkdir()
    assert pod.probe("live") == (0, "")
    assert [each.name for each in (pod.state / "engine").iterdir()] == [path.name]


def test_without_a_state_folder_notes_are_in_the_temporary_one(pod: Pod, tmp_path: Path) -> None:
    port = f"--port={pod.engine.port}"
    assert run(None, "live", port, TMPDIR=str(tmp_path)) == (0, "")
    assert [path.name for path in tmp_path.glob("probe-*")] == [f"probe-{pod.engine.port}.progress"]


def test_probes_at_once_leave_a_whole_note(tmp_path: Path) -> None:
    notes = probe.Notes(tmp_path / "engine", 8100)
    words = [[str(number)] * 5 for number in range(8)]
    ended = threading.Event()

    def write(own: list[str]) -> None:
        while not ended.is_set():
            assert notes.write("progress", *own)

    threads = [threading.Thread(target=write, args=(own,)) for own in words]
    for thread in threads:
        thread.start()
    seen = [notes.read("progress") for _ in range(2000)]
    ended.set()
    for thread in threads:
        thread.join()
    assert all(note in words or note == [] for note in seen)
    assert [] not in seen[seen.index(next(note for note in seen if note)) :]
    assert [path.name for path in (tmp_path / "engine").iterdir()] == ["probe-8100.progress"]


def test_the_stand_in_of_the_fleet_is_seen_to_stall_and_to_start_anew(tmp_path: Path) -> None:
    """Its page does not say when its process started: its counters tell."""
    with Replica(tmp_path / "log") as replica:
        replica.wait()
        live = ("live", f"--port={replica.address.rpartition(':')[2]}", "--stall=1")
        with Load([replica.url], KEY, clients=2, tokens=10_000, whole=False):
            replica.until_midway()
            for _ in range(10):
                assert run(tmp_path, *live) == (0, "")
            replica.behave(Mode.STALL)
            deadline = time.monotonic() + 30
            while (said := run(tmp_path, *live))[0] == 0:
                assert time.monotonic() < deadline
            assert said[1].startswith("stalled: no token in ")
            replica.kill()
            replica.start()
            assert run(tmp_path, *live) == (0, "")
            replica.kill()  # or its clients would wait for the end of their long answers


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the following arguments are required: what"),
        (("dead",), "invalid choice: 'dead'"),
        (("live", "--port=0"), "'0' is no port"),
        (("live", "--port=99999"), "'99999' is no port"),
        (("live", "--port=http"), "'http' is no port"),
        (("live", "--stall=0"), "'0' is no time"),
        (("live", "--timeout=nan"), "'nan' is no time"),
        (("live", "--stall=inf"), "'inf' is no time"),
        (("live", "--nothing"), "unrecognized arguments: --nothing"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    status, line = run(tmp_path, *words)
    assert status == 2
    assert says in line


def test_live_costs_little_more_than_a_program_that_can_ask(pod: Pod) -> None:
    """CPU time, and a ratio within one run: the machine's speed cancels out."""
    env = environment(Path("/nonexistent"), {"GPTOSS_STATE_DIR": str(pod.state)})
    live = ["-m", "service.engine.probe", "live", f"--port={pod.engine.port}"]
    costs = [
        (cpu_seconds(live, env), cpu_seconds(["-c", "import http.client"], env))
        for _ in range(RUNS)
    ]
    ours, bare = (min(column) for column in zip(*costs, strict=True))
    assert ours / bare < MOST_COST, f"{1000 * ours:.0f} ms, and {1000 * bare:.0f} ms at least"


def cpu_seconds(words: list[str], env: dict[str, str]) -> float:
    """That a Python of its own takes for it, user and system."""
    child = os.posix_spawn(sys.executable, [sys.executable, *words], env)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return used.ru_utime + used.ru_stime


def test_it_needs_the_reading_and_nothing_heavy() -> None:
    code = "import sys, service.engine.probe; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert Standstill.__module__ in loaded
    assert not {"pydantic", "httpx", "typer", "yaml", "asyncio"} & set(loaded)
