"""`deploy/ray` says what gptoss, Ray, systemd and Kubernetes understand, and one thing everywhere.

Nothing of it is started: the clusters of `tests/e2e/test_fleet.py` are.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from service import settings
from service.cli.main import app
from service.fleet import document
from service.fleet.document import Board, Fleet, Ports
from service.fleet.room import Ask, Node
from service.grace import Grace
from service.profiles.placement import place
from tests.chart import schemas
from tests.chart.render import Object

ROOT: Final = Path(__file__).parents[2]
HERE: Final = ROOT / "deploy" / "ray"
README: Final = (HERE / "README.md").read_text()
UNITS: Final = ("ray-head.service", "ray-node.service", "gptoss-fleet.service")
RAYS_UNITS: Final = UNITS[:2]
# Written in a language of its own each: where options of `ray start` and the variables stand.
HEADS: Final = ("ray-head.service", "cluster.yaml head", "raycluster.yaml head")
NODES: Final = ("ray-node.service", "cluster.yaml worker", "raycluster.yaml worker")

GPTOSS: Any = typer.main.get_command(app)
_RAY = """
import json, sys, yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))
print(json.dumps([name for one in start.params for name in one.opts + one.secondary_opts]))
"""
_OURS = re.compile(r"^RAY_(?!ADDRESS|REDIS|AUTH|HEAD)\w+$")


FILES: Final = sorted(path for path in HERE.iterdir() if path.is_file())


@cache
def fleet() -> Fleet:
    return document.read(HERE / "fleet.yaml")


@cache
def ray_options() -> frozenset[str]:
    """Of `ray start`, those that `--help` hides included. Ray checks cluster.yaml, too."""
    argv = [sys.executable, "-c", _RAY, str(HERE / "cluster.yaml")]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert shown.returncode == 0, shown.stderr
    return frozenset(json.loads(shown.stdout.splitlines()[-1]))


def unit(name: str) -> dict[str, list[str]]:
    """All values of each key, continued lines joined."""
    text = (HERE / name).read_text().replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def cluster() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((HERE / "cluster.yaml").read_text())
    return read


def ray_cluster() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((HERE / "raycluster.yaml").read_text())
    return read


def group(which: str) -> dict[str, Any]:
    spec = ray_cluster()["spec"]
    found: dict[str, Any] = (
        spec["headGroupSpec"] if "head" in which else spec["workerGroupSpecs"][0]
    )
    return found


def container(which: str) -> dict[str, Any]:
    (found,) = group(which)["template"]["spec"]["containers"]
    return dict(found)


def started_with(where: str) -> dict[str, str]:
    """The options of `ray start` there, without their dashes."""
    file, _, which = where.partition(" ")
    match file:
        case "cluster.yaml":
            line = cluster()[f"{which}_start_ray_commands"][-1]
        case "raycluster.yaml":
            return dict(group(which)["rayStartParams"])
        case _:
            (line,) = unit(file)["ExecStart"]
    words = shlex.split(line.partition("ray start")[2])
    options = [word.removeprefix("--").partition("=") for word in words if word.startswith("--")]
    return {name: value for name, _, value in options}


def _ports(where: str) -> dict[str, int]:
    return {name: int(at) for name, at in started_with(where).items() if name.endswith("port")}


def variables(where: str) -> dict[str, str]:
    """What Ray is told by its environment there, beside what is the operator's."""
    file, _, which = where.partition(" ")
    match file:
        case "cluster.yaml":
            pairs = re.findall(r"(\w+)=([^;\s]+);", cluster()[f"{which}_start_ray_commands"][-1])
        case "raycluster.yaml":
            pairs = [(one["name"], one.get("value", "")) for one in container(which)["env"]]
        case _:
            pairs = [tuple(one.split("=", 1)) for one in unit(file)["Environment"]]
    return {name: value for name, value in pairs if _OURS.match(name)}


def test_the_example_is_a_fleet_with_the_defaults_of_ports_and_times() -> None:
    assert fleet().pools.keys() == {"h100"}
    assert (fleet().ports, fleet().board) == (Ports(), Board())
    assert fleet().drain_seconds == Fleet.model_fields["drain_seconds"].default
    assert fleet().notice_seconds == Fleet.model_fields["notice_seconds"].default


def test_what_the_example_has_as_comments_is_one_too() -> None:
    words = r"small|profile|model|autoscaling|nodeSelector|gateways|weights|offline"
    text = (HERE / "fleet.yaml").read_text()
    more = document.parse(re.sub(rf"(?m)^( *)# ( *(?:{words}):)", r"\1\2", text))
    assert more.pools.keys() == {"h100", "small"}
    assert more.pools["small"].autoscaling.enabled
    assert (more.offline, bool(more.gateways), bool(more.weights.folders)) == (True, True, True)


def _spoken() -> Iterator[tuple[str, list[str]]]:
    """Every command of ours, with the file that says it."""
    for path in FILES:
        text = path.read_text().replace("\\\n", " ")
        code = (
            re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", text, re.S) if path.suffix == ".md" else []
        )
        for piece in ["".join(found) for found in code] or [text]:
            for said in re.findall(r"(?m)(?:^|[\s`]|bin/)gptoss ((?:[a-z]+\b|--[a-z]).*)", piece):
                words = re.split(r"[|;&>`'#…]|  ", said)[0].split()
                if words[0] in GPTOSS.commands or piece is not text:
                    yield path.name, words


def test_every_command_is_one_of_gptoss_with_options_that_it_has() -> None:
    spoken = list(_spoken())
    assert {"README.md", "gptoss-fleet.service"} <= {name for name, _ in spoken}
    assert ["fleet", "up", "/etc/gptoss/fleet.yaml"] in [words for _, words in spoken]
    for name, words in spoken:
        command, rest = GPTOSS, words
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{name}: there is no `gptoss … {rest[0]}`"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for one in command.params for option in one.opts + one.secondary_opts}
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= known, f"{name}: {command.name} has no {given - known}"


@pytest.mark.parametrize("where", [*HEADS, *NODES])
def test_every_option_is_one_of_ray_start(where: str) -> None:
    assert started_with(where), where
    assert {f"--{name}" for name in started_with(where)} <= ray_options()


def test_options_that_are_left_to_people_are_of_ray_start() -> None:
    texts = [path.read_text() for path in FILES]
    said = re.findall(r"(?:START_OPTIONS=|ray start )([^`\n]*)", "\n".join(texts))
    words = [word for line in said for word in line.split() if word.startswith("--")]
    names = {word.partition("=")[0].strip("`\"'),;:") for word in words}
    assert {"--labels", "--num-gpus", "--node-ip-address"} <= names <= ray_options()


def test_units_and_launcher_start_ray_alike() -> None:
    for ours, theirs in (
        ("ray-head.service", "cluster.yaml head"),
        ("ray-node.service", "cluster.yaml worker"),
    ):
        # Of the launcher's own; where a service's files go; and what keeps a service in front.
        apart = {"autoscaling-config", "temp-dir", "block", "address"}
        unit_has, launcher_has = started_with(ours), started_with(theirs)
        assert {k: v for k, v in unit_has.items() if k not in apart} == {
            k: v for k, v in launcher_has.items() if k not in apart
        }
        assert "block" in unit_has, "systemd would take a start for an end"


def test_ray_is_told_the_same_everywhere() -> None:
    told = variables("ray-head.service")
    assert told["RAY_worker_niceness"] == "0"
    assert told["RAY_kill_child_processes_on_worker_exit"] == "false"
    assert told["RAY_USAGE_STATS_ENABLED"] == "0"
    assert f"({told['RAY_gcs_rpc_server_reconnect_timeout_s']} s in the units" in README
    for where in (*HEADS, *NODES):
        assert variables(where) == told, where


def test_no_two_things_on_a_node_want_one_port() -> None:
    given = _ports("ray-head.service")
    workers = range(given.pop("min-worker-port"), given.pop("max-worker-port") + 1)
    engines = range(fleet().ports.first, fleet().ports.last + 1)
    taken = [*given.values(), *workers, *engines]
    assert len(set(taken)) == len(taken)
    assert fleet().board.port not in {*given.values(), *workers}


def test_nodes_listen_where_the_head_does() -> None:
    assert _ports("ray-node.service").items() < _ports("ray-head.service").items()


def test_the_table_of_ports_has_each() -> None:
    rows = re.findall(r"(?m)^\| (\d+)(?:\u2013(\d+))? \|", README)
    said = [range(int(first), int(last or first) + 1) for first, last in rows]
    wanted = {
        *_ports("ray-head.service").values(),
        fleet().board.port,
        fleet().ports.first,
        fleet().ports.last,
    }
    assert not [port for port in wanted if not any(port in one for one in said)]


@pytest.mark.parametrize("name", RAYS_UNITS)
def test_a_unit_gives_streams_the_time_that_the_fleet_gives_them(name: str) -> None:
    grace = Grace(fleet().drain_seconds, fleet().notice_seconds)
    assert float(unit(name)["TimeoutStopSec"][0]) == grace.engine_termination
    assert unit(name)["KillMode"] == ["mixed"], "SIGTERM for Ray alone; SIGKILL for what hangs"
    assert unit(name)["Restart"] == ["always"]
    assert unit(name)["EnvironmentFile"][0] == "/etc/gptoss/ray.env"


@pytest.mark.parametrize("name", RAYS_UNITS)
def test_a_unit_waits_for_the_last_engine_after_ray_has_ended(name: str, tmp_path: Path) -> None:
    (line,) = unit(name)["ExecStopPost"]
    *argv, members = shlex.split(line.replace("$$", "$"))
    assert members == "/sys/fs/cgroup/system.slice/%n/cgroup.procs"
    group = tmp_path / "cgroup.procs"
    group.write_text("1\n")  # of an engine, which is there still
    waiting = subprocess.Popen([*argv, str(group)])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        group.write_text(f"{waiting.pid}\n")
        assert waiting.wait(30) == 0
    finally:
        waiting.kill()
        waiting.wait()


def test_the_fleets_unit_begins_what_is_not_there_and_keeps_trying() -> None:
    found = unit("gptoss-fleet.service")
    assert found["Type"] == ["oneshot"]
    assert found["Requires"] == found["After"] == ["ray-head.service"]
    assert found["Restart"] == ["on-failure"], "nodes may come later than the head"
    assert found["TimeoutStartSec"] == ["infinity"], "engines load for minutes"
    command, _, file = found["ExecReload"][0].rpartition(" ")
    start = f"{command} --if-none --no-wait {file}"
    assert found["ExecStart"] == [start], "what was scaled by hand stays, and engines may fail"


def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here: the units were only parsed")
    for name in UNITS:
        text = (
            (HERE / name).read_text().replace("/opt/gptoss/bin/", f"{Path(sys.executable).parent}/")
        )
        (tmp_path / name).write_text(text)
    argv = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    env = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    said = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    about = [line for line in (said.stdout + said.stderr).splitlines() if str(tmp_path) in line]
    assert not [line for line in about if any(name in line for name in UNITS)], said.stderr
    assert said.returncode == 0, said.stderr


def test_the_readme_has_fewer_than_ten_steps() -> None:
    steps = [int(step) for step in re.findall(r"(?m)^(\d+)\. ", README)]
    assert steps == list(range(1, len(steps) + 1))
    assert 5 < len(steps) < 10


def _shell(step: int) -> str:
    """What a step of the README has one paste."""
    text = re.split(rf"(?m)^{step}\. ", README)[1].partition("```sh\n")[2].partition("```")[0]
    return text.replace("sudo ", "")


def test_the_second_step_makes_the_secrets_and_the_seventh_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl here")
    example = dict(_lines((HERE / "ray.env.example").read_text()))
    assert (example["VLLM_API_KEY"], example["RAY_AUTH_TOKEN"]) == ("", ""), "no default secret"
    _bash(_shell(2).replace("/etc/gptoss", str(tmp_path)))
    made = dict(_lines((tmp_path / "ray.env").read_text()))
    assert made.keys() == example.keys()
    assert made["RAY_ADDRESS"] == "10.0.0.5:6379"
    assert min(len(made["VLLM_API_KEY"]), len(made["RAY_AUTH_TOKEN"])) >= settings.MIN_SECRET_LENGTH
    assert made["VLLM_API_KEY"] != made["RAY_AUTH_TOKEN"]
    assert (tmp_path / "ray.env").stat().st_mode & 0o777 == 0o600

    exports = _shell(7).replace("/etc/gptoss", str(tmp_path)).partition("/opt/gptoss")[0]
    for name, value in _lines(_bash(f"{exports}\nenv")):
        if name.startswith("GPTOSS_GATEWAY__"):
            monkeypatch.setenv(name, value)
    gateway = settings.load().gateway
    assert gateway.engine_key.get_secret_value() == made["VLLM_API_KEY"]
    (upstream,) = gateway.upstreams
    ((pool, engines),) = fleet().pools.items()
    assert (upstream.model, upstream.pool) == (engines.model_name, pool)
    assert str(upstream.url) == f"sd+http://10.0.0.5:{fleet().board.port}/pools/{pool}"


def _bash(script: str) -> str:
    argv = ["bash", "-euc", script]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, there, value = line.partition("=")
        if there and not name.startswith("#"):
            yield name, value


def test_one_version_of_ray_everywhere() -> None:
    (pinned,) = re.findall(
        r"(?m)^ray==(\S+)", (ROOT / "deploy" / "requirements" / "dev.txt").read_text()
    )
    texts = "\n".join(path.read_text() for path in FILES)
    said = re.findall(
        r'ray==(\d[\d.]*\d)|RAY_VERSION=(\S+)|rayVersion: "(.+)"|Ray (2[\d.]*\d)', texts
    )
    assert {"".join(one) for one in said} == {pinned}
    assert len(said) >= 5


def test_kubernetes_takes_the_pods_of_the_ray_cluster() -> None:
    """By the definition of RayCluster where the tests have it, and by that of pods always."""
    whole = Object(ray_cluster(), "raycluster.yaml")
    assert (whole.api, whole.kind) == ("ray.io/v1", "RayCluster")
    if whole.group in schemas.custom_groups():
        assert not schemas.errors(whole, schemas.OLDEST)
    for which in ("head", "worker"):
        spec = group(which)["template"]["spec"]
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": which}, "spec": spec}
        assert not schemas.errors(Object(body, "raycluster.yaml"), schemas.OLDEST)
        mounted = {one["name"] for one in container(which)["volumeMounts"]}
        assert mounted == {one["name"] for one in spec["volumes"]}
        secrets = re.findall(r"'secretKeyRef': ({[^}]*})", str(spec))
        assert all("gptoss-ray" in one for one in secrets)


def test_kuberay_takes_the_parameters_of_ray_start() -> None:
    for which in ("head", "worker"):
        given = group(which)["rayStartParams"]
        assert "labels" not in given, "KubeRay refuses them there: they stand beside"
        assert all(isinstance(value, str) for value in given.values())
    assert group("head")["rayStartParams"]["num-cpus"] == "0", "engines need the cards of workers"


def test_the_heads_service_has_the_board() -> None:
    ports = {one["containerPort"] for one in container("head")["ports"]}
    assert ports == {6379, fleet().board.port}
    assert f"sd+http://gptoss-head-svc:{fleet().board.port}/pools/h100" in README


def test_a_pod_of_the_ray_cluster_has_room_for_one_engine() -> None:
    pool = fleet().pools["h100"]
    asked, resources = Ask.of(pool), container("worker")["resources"]
    limits, labels = resources["limits"], group("worker")["labels"]
    node = Node(
        id="",
        name="",
        address="",
        cards=int(limits["nvidia.com/gpu"]),
        free_cards=float(limits["nvidia.com/gpu"]),
        free_cores=float(resources["requests"]["cpu"]),
        free_memory=float(_gib(limits["memory"]) << 30),
        accelerators=frozenset({"H100"}),
        labels=tuple(labels.items()),
    )
    assert node.has_room(asked)
    assert not node.less(asked).has_room(asked), "an engine a pod, so that a pod ends with its own"
    assert _gib(resources["requests"]["memory"]) << 30 >= asked.memory
    (shared,) = [one for one in _volumes("worker") if one["name"] == "shared"]
    assert _gib(shared["emptyDir"]["sizeLimit"]) >= place(pool.card).shared_gib
    product = group("worker")["template"]["spec"]["nodeSelector"]["nvidia.com/gpu.product"]
    assert product in asked.products


def _volumes(which: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = group(which)["template"]["spec"]["volumes"]
    return found


def _gib(quantity: str) -> int:
    assert quantity.endswith("Gi"), quantity
    return int(quantity.removesuffix("Gi"))


def test_a_pod_of_the_ray_cluster_has_the_time_for_its_streams() -> None:
    grace = Grace(fleet().drain_seconds, fleet().notice_seconds)
    spec = group("worker")["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > grace.engine_termination


def test_a_pod_ends_once_ray_and_then_the_engine_have(tmp_path: Path) -> None:
    shell, flag, script = container("worker")["lifecycle"]["preStop"]["exec"]["command"]
    (tmp_path / "ray").write_text(f"#!/bin/sh\necho $1 >{tmp_path}/said\n")
    (tmp_path / "ray").chmod(0o755)
    process = tmp_path / "proc" / "1"
    process.mkdir(parents=True)
    (process / "cmdline").write_bytes(b"/usr/bin/python3\0/usr/local/bin/vllm\0serve\0")
    own = tmp_path / "proc" / "2"  # of the script itself, which is no engine
    own.mkdir()
    (own / "cmdline").write_text(f"{shell}\0{flag}\0{script}\0")
    script = script.replace("/proc/", f"{tmp_path}/proc/")
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    waiting = subprocess.Popen([shell, flag, script], env=env)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        assert (tmp_path / "said").read_text() == "stop\n"
        shutil.rmtree(process)
        assert waiting.wait(30) == 0
    finally:
        waiting.kill()
        waiting.wait()
