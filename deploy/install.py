"""Make `.venv`: the service, and vLLM in the build for this machine's accelerator.

Runs before anything is installed, with whatever `python3` is: so it uses the standard library
alone, and words that an old Python can parse as far as being told that it is too old.

pip brings uv, and uv installs the pinned list, because it takes a tenth of pip's time; it is handed
pip's own configuration, so that a mirror which is set up for pip is used. The list is complete:
nothing is resolved, and so nothing is installed that is not in it.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV_INSTALL = (str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON))
STAMP = VENV / "installed.json"
REQUIREMENTS = ROOT / "deploy" / "requirements"

OLDEST = (3, 11)
# Gigabytes that the installed packages take, and those on their way there.
NEEDED_GB = {"cpu": 5, "cuda": 20, "rocm": 2}
TITLES = {
    "cpu": "vLLM for CPUs",
    "cuda": "vLLM for NVIDIA GPUs",
    "rocm": "the service, beside this machine's vLLM for AMD GPUs",
}
# pip's setting -> uv's variable for the same.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
WAITING_SECONDS = 10


class Refused(Exception):
    """The installation cannot go on; the text says why, and what to do."""


def main() -> int:
    arguments = parse()
    try:
        check_machine()
        install(arguments.engine or engine_for(arguments.profile), arguments.dev)
    except Refused as reason:
        print(f"install   {reason}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"install   {error}: mend that, then run the same command again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninstall   stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=sorted(NEEDED_GB), help="instead of what is found")
    parser.add_argument(
        "--profile", default="", help="the profile that will run; cpu-... needs cpu"
    )
    parser.add_argument("--dev", action="store_true", help="what the tests need, too")
    return parser.parse_args()


def engine_for(profile: str) -> str:
    """Which build of vLLM this machine takes."""
    if profile.startswith("cpu"):
        return "cpu"
    if shutil.which("nvidia-smi"):
        check_driver()  # before gigabytes are installed for it
        return "cuda"
    if Path("/dev/kfd").exists():
        return "rocm"
    return "cpu"


def check_driver() -> None:
    line = ["nvidia-smi", "-L"]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    if result.returncode:
        said = (result.stdout + result.stderr).strip().splitlines()
        raise Refused(
            f"nvidia-smi fails ({said[0] if said else result.returncode}): mend the driver, or run"
            " without the GPU: `make up PROFILE=cpu-dev`"
        )


def check_machine() -> None:
    if sys.version_info < OLDEST:
        raise Refused(
            f"Python {platform.python_version()} is too old: install Python 3.11 or newer and name"
            " it, as in `make up PYTHON=python3.11`"
        )
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Refused(
            f"vLLM is published for x86-64 Linux, and this is {platform.system()} on"
            f" {platform.machine()}: run it there, or in a virtual machine of that kind"
        )


def install(engine: str, dev: bool) -> None:
    started = time.monotonic()
    lists = [engine, "dev"] if dev else [engine]
    wanted, have = digests(engine, lists), installed()
    if wanted.items() <= have.items():
        print(f"install   reused .venv ({TITLES[engine]})", flush=True)
        return
    if have.get("engine", engine) != engine:
        shutil.rmtree(VENV)  # two builds of vLLM in one environment would overwrite each other
        have = {}
    check_disk(engine)
    print(f"install   {TITLES[engine]} and what it needs, into .venv", flush=True)
    make_venv(engine)
    STAMP.unlink(missing_ok=True)
    pip("install", "--quiet", "--requirement", str(REQUIREMENTS / "bootstrap.txt"))
    install_packages(engine, lists)
    STAMP.write_text(json.dumps({**have, **wanted}))
    print(f"install   done in {time.monotonic() - started:.0f} s", flush=True)


def digests(engine: str, lists: list) -> dict:
    """What identifies an installation: the lists that went in, and the project's own metadata."""
    files = {name: REQUIREMENTS / f"{name}.txt" for name in ["bootstrap", *lists]}
    files["project"] = ROOT / "pyproject.toml"
    result = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return {"engine": engine, **result}


def installed() -> dict:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if PYTHON.exists() and isinstance(stamp, dict) else {}


def check_disk(engine: str) -> None:
    free, needed = shutil.disk_usage(ROOT).free / 1e9, NEEDED_GB[engine]
    if free < needed:
        raise Refused(
            f"{ROOT} has {free:.1f} GB free and {needed} GB are needed: make room, or clone onto a"
            " larger disk"
        )


def make_venv(engine: str) -> None:
    if PYTHON.exists():
        return
    # On ROCm the engine is the one that the machine or its container image brings: there is no
    # build of it on the package index.
    options = ["--system-site-packages"] if engine == "rocm" else []
    line = [sys.executable, "-m", "venv", "--clear", *options, str(VENV)]
    if subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise Refused(
            f"`{sys.executable} -m venv` failed: on Debian and Ubuntu install the package"
            " python3-venv, or name another Python, as in `make up PYTHON=python3.12`"
        )


def install_packages(engine: str, lists: list) -> None:
    files = [REQUIREMENTS / f"{name}.txt" for name in lists]
    if engine == "cpu" and not can_find(torch_of(files[0])):
        # Where pip's configuration knows no `+cpu` build of torch, uv knows PyTorch's own index.
        print("install   torch from PyTorch's index of CPU builds", flush=True)
        run_uv("--no-deps", "--torch-backend", "cpu", torch_of(files[0]))
    listed = [argument for file in files for argument in ("--requirement", str(file))]
    run_uv("--no-deps", *listed, "--editable", str(ROOT))


def torch_of(requirements: Path) -> str:
    lines = requirements.read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def can_find(package: str) -> bool:
    """Whether it is installed, or the indexes that are configured have it."""
    line = [*UV_INSTALL, "--dry-run", "--no-deps", package]
    found = subprocess.run(line, env=uv_environment(), stderr=subprocess.DEVNULL, check=False)
    return found.returncode == 0


def run_uv(*arguments: str) -> None:
    """Have uv install, and say now and then that it still does."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*UV_INSTALL, *arguments], env=uv_environment(), stderr=said)
        try:
            while not wait(process, WAITING_SECONDS):
                seconds = time.monotonic() - started
                print(f"install   downloading and unpacking, {seconds:.0f} s", flush=True)
        finally:
            process.kill()  # Ctrl-C has reached it too; this is for any other way out
            process.wait()
        if process.returncode:
            said.seek(0)
            raise Refused(complaint(said.read()))


def wait(process: subprocess.Popen, seconds: float) -> bool:
    """Whether the process ended within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def complaint(said: str) -> str:
    """uv's report as one line that says what to do."""
    if "No space left" in said:
        return "the disk is full: make room, then run the same command again"
    lines = [line.strip(" ├╰─▶│") for line in said.splitlines() if not line.startswith(" +")]
    reason = "; ".join(line for line in lines if line)[:400] or "no reason given"
    return (
        f"packages could not be installed ({reason}): check the network and pip's index"
        " (`pip config list`), then run the same command again"
    )


def uv_environment() -> dict:
    """This environment, with pip's settings said in uv's words where uv has none of its own."""
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ}
    for line in pip("config", "list").splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in UV_VARIABLES:
            values = value.strip("'\"").replace("\\n", " ").split()
            separator = "," if setting == "find-links" else " "
            environment.setdefault(UV_VARIABLES[setting], separator.join(values))
    # As pip does: the best version of all indexes, not whatever the first one has.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


def pip(*arguments: str) -> str:
    line = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise Refused("pip failed, see above: check the network and pip's index, then try again")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
