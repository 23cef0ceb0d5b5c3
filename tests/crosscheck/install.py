"""`python -m tests.crosscheck.install`: GuideLLM, in an environment of its own.

It needs other releases of what the service uses: in `.venv` it would change what is tested.
"""

import runpy
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
HOME: Final = ROOT / ".venv" / "crosscheck"
GUIDELLM: Final = HOME / "bin" / "guidellm"
_PINS: Final = Path(__file__).with_name("requirements.txt")
_STAMP: Final = HOME / "installed.txt"


def main() -> int:
    """Install what is pinned, unless it is there. The exit status."""
    if _STAMP.exists() and _STAMP.read_text() == _PINS.read_text() and GUIDELLM.exists():
        return 0
    sys.stdout.write("crosscheck  GuideLLM and what it needs (1.2 GB), into .venv/crosscheck\n")
    sys.stdout.flush()
    venv.create(HOME, clear=True)
    if said := _install():
        sys.stderr.write(f"crosscheck  {said}\n")
        return 1
    _STAMP.write_text(_PINS.read_text())
    return 0


def _install() -> str:
    """By uv, as `make dev` does it, with pip's own configuration. What went wrong, if anything."""
    install: dict[str, Any] = runpy.run_path(
        str(ROOT / "deploy" / "install.py"), run_name="install"
    )
    line = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "install", "--quiet", "--no-deps"]
    line += ["--python", str(HOME / "bin" / "python"), "--requirement", str(_PINS)]
    if not install["can_find"](install["torch_of"](_PINS)):
        line += ["--torch-backend", "cpu"]  # from PyTorch's index
    environment = install["uv_environment"]()
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    return str(install["complaint"](done.stderr)) if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
