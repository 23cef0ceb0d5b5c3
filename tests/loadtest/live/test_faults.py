"""Faults of real processes, with all that they have started, and of pods, by what is asked of
`kubectl`.

That is a program of the test's own, which notes how it was called: what the real one does needs a
cluster, and there is one in tests/cluster only.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import UserError
from loadtest.faults import timeline
from loadtest.faults.pods import Pods
from loadtest.faults.process_tree import all_processes, descendants
from loadtest.faults.processes import LocalProcess
from loadtest.faults.timeline import Timeline
from loadtest.scenario.document import Scenario
from loadtest.scenario.faults import Fault, KubectlTarget, ProcessTarget

# A server with a child and a grandchild, as an engine has. It says when all are there, and ends
# them when it is asked to end; told to be stubborn, it does not. Each notes when it stood still.
SERVER = """
import os, signal, subprocess, sys, time
depth, *marks = sys.argv[1:]
def leave(*_):
    if child: child.terminate(); child.wait()
    note("left")
    sys.exit(0)
def note(what):
    with open(os.environ["LOG"], "a") as log:
        log.write("%s %s\\n" % (what, depth))
child = None
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in marks else leave)
if int(depth):
    child = subprocess.Popen([sys.executable, __file__, str(int(depth) - 1), *marks])
else:
    print("there", flush=True)
before = time.monotonic()
while True:
    time.sleep(0.05)
    now = time.monotonic()
    if now - before > 0.45:
        note("stood")
    before = now
"""
STATES = {"stopped": "T", "running": "SRD"}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def fault(do: str, **values: Any) -> Fault:
    return Fault.model_validate({"at": 0, "do": do, "target": "engine", **values})


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Server:
    """A process with two below it."""

    def __init__(self, folder: Path, *marks: str) -> None:
        self.script = folder / f"engine-{os.getpid()}-{folder.name}.py"
        self.script.write_text(SERVER)
        self.log = folder / "log"
        self.log.touch()
        self.pid_file = folder / "pid"
        self.command = [sys.executable, str(self.script), "2", *marks]
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, "LOG": str(self.log)},
            cwd=folder,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"there\n"
        self.pid_file.write_text(f"{self.process.pid}\n")

    def target(self, restart: bool = False, patience: float = 20) -> LocalProcess:
        """By its command line."""
        target = ProcessTarget(
            kind="process", command=self.script.name, restart=self.command if restart else []
        )
        return LocalProcess("engine", target, patience)

    @property
    def pids(self) -> list[int]:
        """It and those below it, parents first."""
        processes = all_processes()
        found = [one for one in processes.values() if self.script.name in one.command]
        return sorted((one.pid for one in found), key=lambda pid: -len(descendants(pid, processes)))

    def are(self, state: str) -> bool:
        """Whether all three are so."""
        found = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][1] for pid in self.pids]
        return len(found) == 3 and all(one in STATES[state] for one in found)

    @property
    def notes(self) -> set[str]:
        """What they have noted."""
        return {*self.log.read_text().splitlines()}

    def close(self) -> None:
        """All of it ends."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*marks: str) -> Server:
        made.append(Server(tmp_path, *marks))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_stopped_process_and_all_below_it_stand_still_and_go_on(
    servers: Callable[..., Server], cancelled: bool
) -> None:
    server = servers()

    async def work() -> None:
        assert server.are("running")
        lasts = 60 if cancelled else 0.5
        making = asyncio.create_task(server.target().make(fault("stop", lasts=lasts)))
        if cancelled:
            await until(lambda: server.are("stopped"))
            making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await until(lambda: server.are("running"))
        if not cancelled:
            await until(lambda: {"stood 0", "stood 1", "stood 2"} <= server.notes)

    run(work())


def test_of_two_stops_the_later_end_lets_it_go_on(servers: Callable[..., Server]) -> None:
    server = servers()

    async def work() -> None:
        target = server.target()
        long = asyncio.create_task(target.make(fault("stop", lasts=60)))
        await until(lambda: server.are("stopped"))
        await target.make(fault("stop", lasts=0.05))
        await asyncio.sleep(0.1)
        assert server.are("stopped")
        long.cancel()
        await until(lambda: server.are("running"))

    run(work())


def test_a_killed_process_is_gone_with_all_below_it(servers: Callable[..., Server]) -> None:
    server = servers()

    async def work() -> None:
        assert len(server.pids) == 3
        await server.target().make(fault("kill", lasts=60))
        assert server.pids == []

    run(work())
    assert server.process.wait() == -signal.SIGKILL
    assert not any(note.startswith("left") for note in server.notes)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_killed_process_is_started_again_as_it_was(
    servers: Callable[..., Server], cancelled: bool
) -> None:
    server = servers()

    async def work() -> None:
        target = server.target(restart=True)
        before = server.pids
        lasts = 60 if cancelled else 0.3
        making = asyncio.create_task(target.make(fault("kill", lasts=lasts)))
        if cancelled:
            await until(lambda: server.pids == [])
            making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await until(lambda: len(server.pids) == 3)
        after = server.pids
        assert not {*before} & {*after}
        process = Path(f"/proc/{after[0]}")
        assert (process / "cwd").readlink() == server.script.parent
        assert f"LOG={server.log}".encode() in (process / "environ").read_bytes().split(b"\0")
        # It can be killed once more, and is found by its number too.
        await target.make(fault("kill", lasts=0))
        await until(lambda: len(server.pids) == 3)
        assert after != server.pids

    run(work())


def test_a_restart_lets_a_process_end_in_order(servers: Callable[..., Server]) -> None:
    server = servers()

    async def work() -> None:
        before = server.pids
        await server.target(restart=True).make(fault("restart"))
        # All three had said good-bye before it was started again.
        assert server.notes >= {"left 0", "left 1", "left 2"}
        await until(lambda: len(server.pids) == 3)
        assert not {*before} & {*server.pids}

    run(work())


def test_one_that_does_not_end_is_killed_and_that_is_said(servers: Callable[..., Server]) -> None:
    server = servers("stubborn")

    async def work() -> None:
        before = server.pids
        target = server.target(restart=True, patience=0.3)
        with pytest.raises(UserError, match=r"still ran 0\.3 s after SIGTERM, and was killed"):
            await target.make(fault("restart"))
        await until(lambda: len(server.pids) == 3)
        assert not {*before} & {*server.pids}

    run(work())


def test_a_process_is_found_by_the_file_with_its_number(servers: Callable[..., Server]) -> None:
    server = servers()
    named = ProcessTarget(kind="process", pid_file=server.pid_file, restart=server.command)
    target = LocalProcess("engine", named)

    async def work() -> None:
        await target.check(fault("kill"))
        # The file is not written anew: it is the one that was started here all the same.
        await target.make(fault("kill", lasts=0))
        await until(lambda: len(server.pids) == 3)
        await target.check(fault("kill"))
        await target.make(fault("kill", lasts=0))
        await until(lambda: len(server.pids) == 3)
        # Another load test has only the file.
        with pytest.raises(UserError, match=f"there is no process {server.process.pid}, which"):
            await LocalProcess("engine", named).check(fault("kill"))

    run(work())


def checked(target: ProcessTarget, do: str = "kill") -> str:
    """What is said before the run."""

    async def check() -> str:
        with pytest.raises(UserError) as raised:
            await LocalProcess("engine", target).check(fault(do))
        return str(raised.value)

    said = asyncio.run(check())
    assert "\n" not in said
    return said


def test_what_cannot_be_found_is_said_before_the_run(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("no number\n")
    said = checked(ProcessTarget(kind="process", pid_file=odd))
    assert "holds no number of a process" in said
    said = checked(ProcessTarget(kind="process", pid_file=tmp_path / "gone"))
    assert said.endswith("No such file or directory")
    own = tmp_path / "own"
    own.write_text(str(os.getpid()))
    assert "is the load test itself" in checked(ProcessTarget(kind="process", pid_file=own))
    own.write_text("1")
    # Process 1 is an ancestor of all: it is never touched.
    assert "is the load test itself" in checked(ProcessTarget(kind="process", pid_file=own))


def test_the_load_test_itself_and_what_started_it_do_not_count() -> None:
    check = (
        "import asyncio, sys\n"
        "from loadtest.errors import UserError\n"
        "from loadtest.faults.processes import LocalProcess\n"
        "from loadtest.scenario.faults import Fault, ProcessTarget\n"
        "target = ProcessTarget(kind='process', command=sys.argv[1])\n"
        "fault = Fault(at=0, do='kill', target='x')\n"
        "try:\n"
        "    asyncio.run(LocalProcess('x', target).check(fault))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    # A shell has the words in its command too, as one that starts a load test with such an option.
    words = f"words of {os.getpid()} alone"
    shell = ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", check, words]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"fault target x: no process has {words!r} in its command\n"


def test_several_that_match_are_named(servers: Callable[..., Server]) -> None:
    server = servers()
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", server.script.name]
    )
    try:
        said = checked(ProcessTarget(kind="process", command=server.script.name))
    finally:
        other.kill()
        other.wait()
    assert "4 processes have 'engine-" in said
    assert f"{other.pid} " in said and f"{server.process.pid} " in said


def test_those_of_one_tree_are_one(servers: Callable[..., Server]) -> None:
    # All three have the words in their command: the first has started the others.
    asyncio.run(servers().target().check(fault("kill")))


def test_a_restart_needs_a_command_that_exists(servers: Callable[..., Server]) -> None:
    name = servers().script.name
    said = checked(ProcessTarget(kind="process", command=name), do="restart")
    assert said == "to restart engine, give its command: `restart: [...]`"
    said = checked(ProcessTarget(kind="process", command=name, restart=["no-such-program"]))
    assert said.endswith("there is no program no-such-program")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes of another user")
def test_a_process_of_another_user_is_not_touched() -> None:
    seconds = f"60.{os.getpid()}"
    other = subprocess.Popen(["sleep", seconds], user=65534)
    try:
        # Its own words show once it has become another program.
        deadline = time.monotonic() + 10
        while seconds not in Path(f"/proc/{other.pid}/cmdline").read_text():
            assert time.monotonic() < deadline
        said = checked(ProcessTarget(kind="process", command=f"sleep {seconds}"))
        assert "belongs to another user, and is not touched" in said
    finally:
        other.kill()
        other.wait()


def test_a_run_that_is_cancelled_lets_what_it_stopped_go_on(
    servers: Callable[..., Server],
) -> None:
    server = servers()
    scenario = Scenario.model_validate(
        {
            "name": "t",
            "teams": {"a": {"arrivals": {"kind": "constant", "rate": 1}}},
            "fault_targets": {"engine": {"kind": "process", "command": server.script.name}},
            "faults": [{"at": 0, "do": "stop", "target": "engine", "lasts": 60}],
        }
    )

    async def play() -> None:
        began = time.monotonic()
        async with Timeline(scenario, lambda: time.monotonic() - began) as line:
            line.begin()
            await asyncio.sleep(60)

    async def work() -> None:
        await timeline.check(scenario)
        playing = asyncio.create_task(play())
        await until(lambda: server.are("stopped"))
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await until(lambda: server.are("running"))

    run(work())


KUBECTL = """\
#!{python}
import json, os, sys, time
words = sys.argv[1:]
with open({calls!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
answer = json.load(open({answers!r})).get(words[2], {{}})
time.sleep(answer.get("seconds", 0))
sys.stdout.write(answer.get("out", ""))
sys.stderr.write(answer.get("errors", ""))
sys.exit(answer.get("status", 0))
"""


class Kubectl:
    """A `kubectl` that answers what it is told to, by its verb."""

    def __init__(self, folder: Path) -> None:
        self._calls, self._answers = folder / "calls", folder / "answers"
        self._calls.touch()
        self.answers(get={"out": "engine-0 vllm sidecar\nengine-1 vllm sidecar\n"})
        program = folder / "kubectl"
        program.write_text(
            KUBECTL.format(
                python=sys.executable, calls=str(self._calls), answers=str(self._answers)
            )
        )
        program.chmod(0o755)

    def answers(self, **verbs: dict[str, Any]) -> None:
        """From now on."""
        self._answers.write_text(json.dumps(verbs))

    @property
    def calls(self) -> list[list[str]]:
        """The words of each, without those of its script."""
        lines = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [[word.split("\n")[0] for word in words] for words in lines]

    @property
    def last_script(self) -> str:
        """What the last one was to run."""
        words: list[str] = json.loads(self._calls.read_text().splitlines()[-1])
        return words[-1]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Kubectl(tmp_path)


def pods(container: str = "", timeout: float = 20) -> Pods:
    target = KubectlTarget(
        kind="kubectl", namespace="llm", selector="app=engine", container=container
    )
    return Pods("engine", target, timeout)


NAMESPACE = ["-n", "llm"]


def test_pods_are_killed_at_once(kubectl: Kubectl) -> None:
    asyncio.run(pods().make(fault("kill")))
    assert kubectl.calls[0][:6] == [*NAMESPACE, "get", "pods", "-l", "app=engine"]
    assert kubectl.calls[1:] == [
        [
            *[*NAMESPACE, "delete", "pod", "engine-0", "engine-1"],
            *["--wait=false", "--grace-period=0", "--force"],
        ]
    ]


def test_pods_are_restarted_with_their_grace_period(kubectl: Kubectl) -> None:
    asyncio.run(pods().make(fault("restart")))
    deleted = [*NAMESPACE, "delete", "pod", "engine-0", "engine-1", "--wait=false"]
    assert kubectl.calls[1:] == [deleted]


def within(pod: str) -> list[str]:
    return [*NAMESPACE, "exec", pod, "-c", "vllm", "--", "sh", "-c", "n=0"]


@pytest.mark.parametrize("cancelled", [False, True])
def test_containers_are_stopped_and_go_on(kubectl: Kubectl, cancelled: bool) -> None:
    async def work() -> None:
        lasts = 60 if cancelled else 0.1
        making = asyncio.create_task(pods("vllm").make(fault("stop", lasts=lasts)))
        await until(lambda: len(kubectl.calls) >= 3)
        if cancelled:
            making.cancel()
        await asyncio.gather(making, return_exceptions=True)

    run(work())
    assert kubectl.calls[1:] == [within(pod) for pod in ["engine-0", "engine-1"] * 2]
    assert "kill -CONT $p" in kubectl.last_script


def test_pods_go_on_whoever_loses_patience_meanwhile(kubectl: Kubectl) -> None:
    """Each cancellation ends the `kubectl` that is under way, which is then run once more."""

    async def work() -> None:
        making = asyncio.create_task(pods("vllm").make(fault("stop", lasts=60)))
        await until(lambda: len(kubectl.calls) >= 3)
        kubectl.answers(exec={"seconds": 5})
        making.cancel()
        await until(lambda: len(kubectl.calls) >= 4)
        kubectl.answers()
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        assert making.cancelled()

    run(work())
    again = ["engine-0", "engine-0", "engine-1"]
    assert kubectl.calls[3:] == [within(pod) for pod in again]


def test_all_are_let_go_on_also_where_one_could_not_be_stopped(kubectl: Kubectl) -> None:
    kubectl.answers(
        get={"out": "engine-0 vllm\nengine-1 vllm\n"},
        exec={"status": 3, "errors": "command terminated with exit code 3\n"},
    )
    with pytest.raises(UserError, match="process 1, which is immune to them: give it an init"):
        asyncio.run(pods("vllm").make(fault("stop")))
    assert kubectl.calls[1:] == [within(pod) for pod in ("engine-0", "engine-0", "engine-1")]


def test_what_kubectl_says_is_one_line(kubectl: Kubectl) -> None:
    said = "W1 a warning\nError from server (Forbidden): pods is forbidden\n\n"
    kubectl.answers(get={"status": 1, "errors": said})
    with pytest.raises(UserError) as raised:
        asyncio.run(pods().check(fault("kill")))
    assert str(raised.value) == "kubectl get: Error from server (Forbidden): pods is forbidden"


def test_a_kubectl_that_hangs_is_given_up(kubectl: Kubectl) -> None:
    kubectl.answers(get={"seconds": 60})
    began = time.monotonic()
    with pytest.raises(UserError, match=r"kubectl get took more than 0\.5 s"):
        asyncio.run(pods(timeout=0.5).check(fault("kill")))
    assert time.monotonic() - began < 30


def test_pods_that_are_not_there_are_told_before_the_run(kubectl: Kubectl) -> None:
    asyncio.run(pods("vllm").check(fault("stop")))
    with pytest.raises(UserError, match="pod engine-0 has no container other, but vllm, sidecar"):
        asyncio.run(pods("other").check(fault("stop")))
    kubectl.answers(get={"out": "\n"})
    with pytest.raises(UserError, match="no pod of app=engine in llm runs"):
        asyncio.run(pods().check(fault("kill")))


def test_a_machine_without_kubectl_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="needs kubectl, which is not on the PATH"):
        asyncio.run(pods().check(fault("kill")))


def test_the_script_stops_what_runs_beside_process_1_of_a_container(kubectl: Kubectl) -> None:
    # A namespace of processes is what a container is, as far as signals go.
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces can be made here")
    asyncio.run(pods("vllm").make(fault("stop", lasts=0)))
    go_on = kubectl.last_script
    stop = go_on.replace("CONT", "STOP")
    # Run as a child of process 1, as `kubectl exec` does within the container. A signal is sent
    # before it has done what it does.
    inside = """
        sleep 60 & child=$!
        state() { sed 's/.*) //; s/ .*//' /proc/$child/stat; }
        kill -STOP 1; kill -KILL 1
        sh -c "$STOP"; while [ "$(state)" != T ]; do sleep 0.05; done; state
        sh -c "$CONT"; while [ "$(state)" = T ]; do sleep 0.05; done; echo on
        kill -KILL $child; wait $child
        sh -c "$STOP"; echo $?
    """
    done = subprocess.run(
        [*namespace, "sh", "-c", inside],
        env={**os.environ, "STOP": stop, "CONT": go_on},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    # Process 1 itself is still there, and says so.
    assert done.stdout.split() == ["T", "on", "3"]
