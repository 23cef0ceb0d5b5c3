"""The compose file keeps its promises: read as data, and by docker and promtool where they are."""

import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.grace import Grace
from service.profiles import find
from service.profiles.placement import place
from tests.images.cache import ROOT

HERE = ROOT / "deploy" / "compose"
FILE = HERE / "compose.yaml"
PUBLISHED = {"gateway": "8000", "grafana": "3000"}
ONE_SHOT = {"migrate"}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(:?[-?][^}]*)?\}")
_FAKE_DOCKER = """#!/bin/sh
echo "$GPTOSS_VERSION $*" >>"$CALLS"
"""

COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each service."""
    return SERVICES[request.param]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder elsewhere, and a docker that only notes how it was called."""
    shutil.copytree(HERE, tmp_path / "deploy" / "compose", ignore=shutil.ignore_patterns(".env"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(_FAKE_DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "deploy" / "compose"


def _up(folder: Path) -> dict[str, str]:
    subprocess.run([folder / "up"], check=True, capture_output=True)
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def _has_compose() -> bool:
    if not shutil.which("docker"):
        return False
    line = ["docker", "compose", "version"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def _version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def test_pins_every_image(service: dict[str, Any]) -> None:
    image = service["image"].replace("${GPTOSS_VERSION:-", "").replace("}", "")
    name, _, tag = image.partition(":")
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag)
    if name.startswith("gptoss-"):
        assert tag == _version()
        assert service["pull_policy"] == "never"


def test_restricts_every_service(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & service.keys()
    # Ours are not root by their images.
    user = service.get("user", "10001" if service["image"].startswith("gptoss-") else "0")
    assert user.partition(":")[0] not in ("0", "root")


def test_watches_all_that_stays(service: dict[str, Any]) -> None:
    name = next(name for name, each in SERVICES.items() if each is service)
    assert ("healthcheck" in service) != (name in ONE_SHOT)
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


def test_publishes_two_ports_on_loopback() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert published.keys() == PUBLISHED.keys()
    for name, (port,) in published.items():
        address, _, inside = _VARIABLE.sub(lambda found: found[2][2:], port).rpartition(":")
        assert address.startswith("127.0.0.1:")
        assert inside == PUBLISHED[name]


def test_keeps_the_stores_apart() -> None:
    assert COMPOSE["networks"]["stores"]["internal"] is True
    for name in ("postgres", "valkey", "migrate"):
        assert SERVICES[name]["networks"] == ["stores"]
    assert "stores" not in SERVICES["engine"]["networks"]


def test_waits_as_long_as_the_drain_needs() -> None:
    for name in ("gateway", "engine"):
        variables = SERVICES[name]["environment"]
        needed: float = getattr(Grace(float(variables["GPTOSS_DRAIN"])), f"{name}_termination")
        assert SERVICES[name]["stop_grace_period"] == f"{needed:g}s"
        assert variables["GPTOSS_TERMINATION_GRACE"] == f"{needed:g}"


def test_gives_the_engine_what_its_profile_asks() -> None:
    placement = place(find("h100-80g-x1"))
    engine = SERVICES["engine"]
    (device,) = engine["deploy"]["resources"]["reservations"]["devices"]
    assert engine["shm_size"] == f"${{GPTOSS_SHM:-{placement.shared_gib}gb}}"
    assert device["count"] == f"${{GPTOSS_GPUS:-{placement.cards}}}"
    assert device["capabilities"] == ["gpu"]


def test_migrates_before_the_gateway_starts() -> None:
    wanted = {"condition": "service_completed_successfully"}
    assert SERVICES["gateway"]["depends_on"]["migrate"] == wanted
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]


def test_every_volume_is_declared_and_every_file_there() -> None:
    used = [volume.split(":") for each in SERVICES.values() for volume in each.get("volumes", ())]
    named = {source for source, *_ in used if not source.startswith(".")}
    assert named == COMPOSE["volumes"].keys()
    for source, _, *mode in used:
        if source.startswith("."):
            assert mode == ["ro"]
        if source.startswith("./"):
            assert (HERE / source).is_file()


def test_up_makes_every_secret_once(copy: Path) -> None:
    first = _up(copy)
    assert stat.S_IMODE((copy / ".env").stat().st_mode) == 0o600
    required = {name for name, rest in _VARIABLE.findall(FILE.read_text()) if rest[:2] == ":?"}
    assert required == first.keys() - {"MODEL"}
    secrets = [first[name] for name in required]
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in secrets)
    assert len(set(secrets)) == len(secrets)
    assert _up(copy) == first
    calls = (copy.parents[1] / "calls").read_text().splitlines()
    assert calls[-1] == f"{_version()} compose up --detach --wait"


def test_every_other_variable_has_a_default() -> None:
    for name, rest in _VARIABLE.findall(FILE.read_text()):
        assert rest.startswith((":-", ":?")), name


def test_scrapes_the_gateway_and_the_engine() -> None:
    config = yaml.safe_load((HERE / "prometheus.yml").read_text())
    jobs = {each["job_name"]: each["static_configs"][0] for each in config["scrape_configs"]}
    assert jobs["gateway"]["targets"] == ["gateway:8001"]
    assert jobs["engine"]["targets"] == ["engine:8100"]


def test_promtool_accepts_the_configuration() -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool: `apt-get install prometheus`")
    line = ["promtool", "check", "config", str(HERE / "prometheus.yml")]
    subprocess.run(line, check=True, capture_output=True)


def test_docker_accepts_the_file(tmp_path: Path) -> None:
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no docker with the compose plugin")
    values = "ENGINE_KEY POSTGRES_PASSWORD VALKEY_PASSWORD GRAFANA_PASSWORD".split()
    environment = tmp_path / "env"
    environment.write_text("".join(f"{name}=x\n" for name in values))
    line = [
        "docker",
        "compose",
        "--env-file",
        str(environment),
        "-f",
        str(FILE),
        "config",
        "--quiet",
    ]
    subprocess.run(line, check=True, capture_output=True)
