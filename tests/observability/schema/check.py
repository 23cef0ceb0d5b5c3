"""Checks dashboards against the types of Grafana's npm package `@grafana/schema`.

python -m tests.observability.schema.check      checks those of the repository
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
DASHBOARDS: Final = FOLDER.parents[2] / "deploy" / "observability" / "dashboards"


def install(folder: Path) -> None:
    """The types and the compiler, in the versions of package.json, and nothing else.

    Not in the work tree: a lock file would hold addresses of whatever registry it was made from.
    """
    for path in FOLDER.iterdir():
        if path.suffix in (".ts", ".json"):
            shutil.copy(path, folder)
    command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    _run([*command, "--loglevel=error"], folder)


def check(folder: Path, dashboards: Mapping[str, str]) -> str:
    """What the compiler says against these, by name; empty if nothing. Installed before."""
    text = ["import type { File } from './types';"]
    # As source text, not as an imported file: there every word would be any text to the compiler.
    text += [f"export const {name}: File = {json};" for name, json in dashboards.items()]
    (folder / "dashboards.ts").write_text("\n".join(text))
    done = subprocess.run(
        ["node_modules/.bin/tsc", "-p", "."],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout if done.returncode else ""


def committed() -> dict[str, str]:
    """The repository's, by name."""
    return {path.stem: path.read_text() for path in sorted(DASHBOARDS.glob("*.json"))}


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        said = check(Path(folder), committed())
    sys.stderr.write(said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
