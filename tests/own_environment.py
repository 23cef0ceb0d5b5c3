"""An environment of its own, beside `.venv`, for tools that need other releases of what is there.

In `.venv` they would change what is tested. What is pinned is complete: nothing is resolved.
"""

import runpy
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class OwnEnvironment:
    """`.venv/NAME`, with the packages of a list of pins."""

    name: str
    pins: Path
    title: str
    """What is installed, for who waits for it."""

    @property
    def home(self) -> Path:
        """Its folder."""
        return ROOT / ".venv" / self.name

    def program(self, name: str) -> Path:
        """A program in it, installed or not."""
        return self.home / "bin" / name

    @property
    def is_installed(self) -> bool:
        """Whether all that is pinned now was installed."""
        stamp = self.home / "installed.txt"
        return stamp.exists() and stamp.read_text() == self.pins.read_text()

    def install(self) -> int:
        """Install what is pinned, unless it is there. The exit status."""
        if self.is_installed:
            return 0
        sys.stdout.write(f"{self.name}  {self.title}, into .venv/{self.name}\n")
        sys.stdout.flush()
        venv.create(self.home, clear=True)
        if said := self._install():
            sys.stderr.write(f"{self.name}  {said}\n")
            return 1
        (self.home / "installed.txt").write_text(self.pins.read_text())
        return 0

    def _install(self) -> str:
        """By uv, as `make dev` does it, with pip's own configuration. What went wrong, if any."""
        install: dict[str, Any] = runpy.run_path(
            str(ROOT / "deploy" / "install.py"), run_name="install"
        )
        line = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "install", "--quiet", "--no-deps"]
        line += ["--python", str(self.program("python")), "--requirement", str(self.pins)]
        if self._has_torch and not install["can_find"](install["torch_of"](self.pins)):
            line += ["--torch-backend", "cpu"]  # from PyTorch's index
        environment = install["uv_environment"]()
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        return str(install["complaint"](done.stderr)) if done.returncode else ""

    @property
    def _has_torch(self) -> bool:
        return any(line.startswith("torch==") for line in self.pins.read_text().splitlines())
