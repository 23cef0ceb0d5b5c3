"""Programs that copy images, found on PATH."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.airgap.fault import Fault

ADVICE = "install skopeo (`apt-get install skopeo`, `dnf install skopeo`)"


class Failed(Exception):
    """A program ended with an error; the text is the last it said."""


def found(name: str) -> bool:
    """Whether it can be run; docker only if its daemon answers, too."""
    if shutil.which(name) is None:
        return False
    return name != "docker" or succeeds("docker", "version", "--format", "{{.Server.Version}}")


def first(*names: str) -> str:
    """The first that there is."""
    for name in names:
        if found(name):
            return name
    raise Fault(f"there is no {', no '.join(names)} that runs: {ADVICE}")


def succeeds(*line: str) -> bool:
    """Whether it ends well."""
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def output(*line: str) -> str:
    """What it prints. Raises Failed."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return _judged(done, line).strip()


def run(
    line: Sequence[str], *, cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> None:
    """Run it, its progress on our standard error. Raises Failed."""
    env = {**os.environ, **(more or {})}
    done = subprocess.run(
        line, stdout=2, stderr=subprocess.PIPE, text=True, cwd=cwd, env=env, check=False
    )
    _judged(done, line)


def _judged(done: "subprocess.CompletedProcess[str]", line: Sequence[str]) -> str:
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        words = said[-1].rpartition("msg=")[2].strip().strip('"')
        raise Failed(f"{line[0]}: {words}")
    return done.stdout or ""
