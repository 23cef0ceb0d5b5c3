"""`gptoss-loadtest` as a person uses it: what it prints, leaves, and ends with."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from loadtest.cli.said import STATUS
from loadtest.folder import Folder
from loadtest.outcome import Outcome
from loadtest.summary import Verdict
from tests.loadtest.live.golden import Golden, Script, Seen, answer, golden, refusal, whole
from tests.loadtest.live.test_probe import models

COMMAND: Final = (sys.executable, "-m", "loadtest")
KEY: Final = "key-of-the-tests"
FILES: Final = {"records.jsonl", "summary.json", "report.html", "scenario.yaml", "run.json"}
TEAM: Final = {"arrivals": {"kind": "constant", "rate": 40}, "workloads": [{"output": 8}]}


def plainly(seen: Seen) -> Script:
    """A server that answers."""
    if seen.path == "/v1/models":
        return models("m")
    return answer(3) if seen.body.get("stream") else whole(3)


@contextlib.contextmanager
def serving(choose: Callable[[Seen], Script] = plainly) -> Iterator[Golden]:
    """A server in a thread of its own, while the test waits for the command."""
    ready: threading.Event = threading.Event()
    box: list[tuple[Golden, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        over = asyncio.Event()
        async with golden(choose) as server:
            box.append((server, asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    server, loop, over = box[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)


def scenario(path: Path, **changes: Any) -> str:
    document = {
        "name": "small",
        "duration": 2.0,
        "drain": 30,
        "workers": 1,
        # A twentieth of the first is the lag that is believed: nothing here is to hang on that.
        "slo": {"ttft": 100, "percent": 80},
        "trust": {"lag_p99": 5, "cpu_percent": 100, "rate_percent": 50, "loop_lag_p99": 5},
        "teams": {"a": TEAM},
    }
    path.write_text(yaml.safe_dump(document | changes))
    return str(path)


def ran(*line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *line],
        cwd=cwd,
        env=own(environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def own(more: dict[str, str]) -> dict[str, str]:
    root = str(Path(__file__).parents[3])
    return {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": root, "COLUMNS": "200", **more}


def test_a_run_prints_its_verdict_and_leaves_its_folder(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml")
    with serving() as server:
        done = ran("run", source, "--url", server.url, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout and "report: run/report.html" in done.stdout
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    folder = Folder(tmp_path / "run")
    summary = folder.summary()
    assert summary.verdict is Verdict.PASSED and summary.model == "m"
    assert len(folder.records()) == summary.overall.planned == 80
    keys = {seen.headers.get("authorization") for seen in server.seen}
    assert keys == {f"Bearer {KEY}"}
    assert KEY not in "".join(path.read_text() for path in folder.path.iterdir())


def test_a_folder_is_named_for_scenario_and_time_where_none_is_given(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml")
    with serving() as server:
        assert ran("run", source, "--url", server.url, cwd=tmp_path).returncode == 0
    (folder,) = (tmp_path / "loadtest-results").iterdir()
    assert folder.name.startswith("small-2")


def failing(seen: Seen) -> Script:
    return plainly(seen) if seen.path == "/v1/models" else refusal(500, "engine_error")


@pytest.mark.parametrize(
    ("verdict", "choose", "changes"),
    [
        (Verdict.FAILED, failing, {}),
        (Verdict.UNRESOLVED, plainly, {"slo": {"ttft": 100, "percent": 99.9}}),
        (Verdict.INVALID, plainly, {"trust": {"lag_p99": 0.0000001}}),
    ],
)
def test_the_status_is_that_of_the_verdict(
    tmp_path: Path, verdict: Verdict, choose: Callable[[Seen], Script], changes: dict[str, Any]
) -> None:
    source = scenario(tmp_path / "small.yaml", **changes)
    with serving(choose) as server:
        done = ran("run", source, "--url", server.url, "--out", "run", cwd=tmp_path)
    assert done.returncode == STATUS[verdict]
    assert verdict.upper() in done.stdout
    assert len(set(STATUS.values())) == len(STATUS)


def test_results_are_made_anew_from_records(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml")
    with serving() as server:
        ran("run", source, "--url", server.url, "--out", "run", cwd=tmp_path)
    before = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "report.html").unlink()
    done = ran("report", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == before
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


def test_ctrl_c_ends_it_early_and_keeps_what_ran(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml", duration=600)
    with serving() as server:
        process = subprocess.Popen(
            [*COMMAND, "run", source, "--url", server.url, "--out", "run"],
            cwd=tmp_path,
            env=own({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            deadline = time.monotonic() + 60
            while len(server.seen) < 40:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in error
    assert "(interrupted)" in out
    summary = Folder(tmp_path / "run").summary()
    assert summary.interrupted and summary.overall.outcomes[Outcome.OK] >= 30
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_run_that_was_killed_has_a_report_of_what_it_had(tmp_path: Path) -> None:
    """As by the system, where memory is short."""
    source = scenario(tmp_path / "small.yaml", duration=600)
    with serving() as server, started(tmp_path, "run", source, "--url", server.url) as process:
        records, state = (tmp_path / "run" / name for name in ("records.jsonl", "state.json"))
        until(lambda: records.is_file() and len(records.read_text().splitlines()) >= 40, process)
        until(state.is_file, process)
        process.kill()
        process.communicate()
    done = ran("report", "run", cwd=tmp_path)
    assert "Traceback" not in done.stderr and "(interrupted)" in done.stdout
    summary = Folder(tmp_path / "run").summary()
    assert summary.interrupted and summary.overall.outcomes[Outcome.OK] >= 30
    # It knows how its own processes did until then, and says what it does not know.
    trusted = summary.trusted
    assert (trusted.workers, trusted.cpu_percent > 0) == (1, True)
    assert "note: the load test was killed" in done.stdout
    assert not [reason for reason in trusted.reasons if "killed" in reason]


def test_a_run_whose_progress_nobody_reads_goes_on_to_its_end(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml")
    with serving() as server, started(tmp_path, "run", source, "--url", server.url) as process:
        assert process.stderr is not None and process.stdout is not None
        process.stderr.close()
        said = process.stdout.read()
        assert process.wait(60) == 0
    assert "PASSED" in said
    assert len(Folder(tmp_path / "run").records()) == 80


def test_the_process_that_carries_a_proxy_is_measured_too(tmp_path: Path) -> None:
    with serving() as server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        upstream = server.url.removeprefix("http://")
        proxy = {"kind": "proxy", "listen": f"127.0.0.1:{port}", "upstream": upstream}
        source = scenario(tmp_path / "small.yaml", fault_targets={"line": proxy})
        url = f"http://127.0.0.1:{port}"
        done = ran("run", source, "--url", url, "--out", "run", cwd=tmp_path)
    assert done.returncode in STATUS.values(), done.stderr  # how it went is not asked here
    workers = Folder(tmp_path / "run").circumstances().data.workers
    assert [one.worker for one in workers] == [0, -1]
    assert workers[1].sent == 0 and workers[1].cpu_percent > 0 and workers[1].loop_lags


def test_denied_clients_that_keep_their_connections_do_not_get_in(tmp_path: Path) -> None:
    with serving() as server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            door = f"127.0.0.1:{free.getsockname()[1]}"
        upstream = server.url.removeprefix("http://")
        source = scenario(
            tmp_path / "small.yaml",
            fault_targets={"line": {"kind": "proxy", "listen": door, "upstream": upstream}},
            # To the run's end.
            faults=[{"at": 1, "do": "deny", "target": "line", "lasts": 60}],
        )
        done = ran("run", source, "--url", f"http://{door}", "--out", "run", cwd=tmp_path)
    folder = Folder(tmp_path / "run")
    (deny,) = folder.summary().faults
    assert not deny.error, done.stderr
    begun = [(record.began or 0.0, record) for record in folder.records()]
    before = [record for at, record in begun if at < deny.at]
    since = [record for at, record in begun if at > deny.at]
    assert len(before) > 20 and sum(record.good for record in before) > 20
    assert len(since) > 20 and {record.outcome for record in since} == {Outcome.CONNECT}
    assert deny.lost >= len(since)
    assert f"connect {folder.summary().overall.outcomes['connect']} (econnrefused" in done.stdout


def test_ctrl_c_ends_a_selfcheck(tmp_path: Path) -> None:
    with started(tmp_path, "selfcheck", "--seconds", "60", out=False) as process:
        until(lambda: len(below(process.pid)) >= 2, process)
        everyone = below(process.pid)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    assert not [pid for pid in everyone if Path(f"/proc/{pid}").exists()]


def below(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in children.read_text().split()]


def until(met: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


@contextlib.contextmanager
def started(folder: Path, *line: str, out: bool = True) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *line, *(["--out", "run"] if out else [])],
        cwd=folder,
        env=own({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_two_runs_are_compared_and_the_worse_one_fails_the_gate(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml")

    with serving() as server:
        for name in ("a", "b"):
            ran("run", source, "--url", server.url, "--out", name, cwd=tmp_path)
    same = ran("compare", "a", "b", cwd=tmp_path)
    assert same.returncode == 0 and "80 requests of each" in same.stdout
    with serving(failing) as server:
        ran("run", source, "--url", server.url, "--out", "worse", cwd=tmp_path)
    worse = ran("compare", "a", "worse", "--gate", cwd=tmp_path)
    assert worse.returncode == 3
    assert "GATE: FAILED: " in worse.stdout
    assert ran("compare", "a", "worse", cwd=tmp_path).returncode == 0


def test_runs_of_a_load_test_that_was_too_slow_are_not_compared(tmp_path: Path) -> None:
    source = scenario(tmp_path / "small.yaml", trust={"lag_p99": 0.0000001})
    with serving() as server:
        ran("run", source, "--url", server.url, "--out", "run", cwd=tmp_path)
    done = ran("compare", "run", "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "run is INVALID" in done.stderr
    gated = ran("compare", "run", "run", "--gate", cwd=tmp_path)
    assert gated.returncode == 4
    assert gated.stdout.startswith("GATE: UNRESOLVED: run is INVALID")


def test_a_limit_is_found_where_the_server_has_one(tmp_path: Path) -> None:
    """It takes one request in 50 ms: of 50 a second it takes 40 %."""
    taken = [0.0]

    def limited(seen: Seen) -> Script:
        if seen.path == "/v1/models":
            return models("m")
        if seen.at < taken[-1] + 0.05:
            return refusal(503, "overloaded")
        taken.append(seen.at)
        return plainly(seen)

    source = scenario(tmp_path / "small.yaml", slo={"ttft": 100, "percent": 40})
    options = ["--low", "10", "--high", "160", "--each", "2", "--longest", "1"]
    options += ["--resolution", "0.5"]
    with serving(limited) as server:
        done = ran(
            "find-limit", source, "--url", server.url, *options, "--out", "f.json", cwd=tmp_path
        )
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["passed"] and found["failed"], done.stdout + done.stderr
    assert 10 <= found["passed"] < found["failed"] <= 160
    assert f"highest rate that keeps it: {found['passed']:g} requests/s" in done.stdout
    # That it is for want of room, and not for a quota, is to be seen.
    refused = [
        one["trial"]["teams"]["a"]["outcomes"].get("capacity_503") for one in found["trials"]
    ]
    assert refused[-1] and f"capacity_503 {refused[-1]}" in done.stdout


WRONG: Final = {
    "no such scenario": (["run", "nope"], "nope is no file and no ready-made scenario"),
    "nobody there": (["run", "smoke", "--url", "http://127.0.0.1:9"], "cannot be reached"),
    "a word that is none": (["run", "smoke", "--set", "targt.url=x"], "did you mean target?"),
    "no value": (["run", "smoke", "--set", "seed"], "write KEY=VALUE"),
    "no key": (["run", "noisy-neighbour"], "the key of team quiet is to be in QUIET_KEY"),
    "no folder": (["report", "nowhere"], "nowhere is no folder of a run"),
    "nothing to compare": (["compare", "x", "y"], "x is no folder of a run"),
    "no such one": (["scenarios", "smok"], "smok is no ready-made scenario"),
    "no rate": (["find-limit", "batch-overnight"], "the limit of a rate needs arrivals"),
    "several teams": (
        ["find-limit", "noisy-neighbour", "--axis", "clients"],
        "this scenario has several",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, what: str) -> None:
    line, said = WRONG[what]
    done = ran(*line, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("gptoss-loadtest: ") and said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.json*")), "nothing is left behind"


def test_what_a_run_cannot_say_is_told_before_it(tmp_path: Path) -> None:
    target = ["--url", "http://127.0.0.1:9"]
    done = ran("run", "smoke", *target, "--set", "slo.percent=100", cwd=tmp_path)
    doubt, error = done.stderr.splitlines()
    assert doubt.startswith("note: team main: 100% can never be shown")
    assert "cannot be reached" in error


def test_a_key_that_is_refused_names_the_variable_that_it_came_from(tmp_path: Path) -> None:
    changes = ["--set", "teams.main.key_env=CHAT_KEY"]
    with serving(lambda _: refusal(401, "invalid_api_key")) as server:
        line = ["run", "smoke", "--url", server.url + "/v1", *changes]
        done = ran(*line, cwd=tmp_path, CHAT_KEY="bad")
    assert done.returncode == 1
    assert "refused the key of team main (401): is what CHAT_KEY holds a key" in done.stderr
    assert done.stderr.count("\n") == 1 and "bad" not in done.stderr


def test_a_folder_that_has_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    done = ran("run", "smoke", "--out", "full", cwd=tmp_path)
    assert done.returncode == 1 and "is not empty" in done.stderr


def test_ready_made_scenarios_are_listed_and_printed(tmp_path: Path) -> None:
    listed = ran("scenarios", cwd=tmp_path).stdout
    assert "noisy-neighbour" in listed and "mlperf-server" in listed
    printed = ran("scenarios", "chat", cwd=tmp_path).stdout
    assert yaml.safe_load(printed)["name"] == "chat"
    assert json.loads(ran("schema", cwd=tmp_path).stdout)["title"] == "Scenario"
