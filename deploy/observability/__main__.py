"""Make dashboards and rules anew (`make dashboards`); `--check` only says what is old."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.observability import metrics_page, pages, rules

ROOT = Path(__file__).parents[2]


def outputs() -> Mapping[Path, str]:
    """Every file that is made, from the repository's root, with what it should hold."""
    return {**pages.outputs(), **rules.outputs(), **metrics_page.outputs()}


def old(root: Path = ROOT) -> list[Path]:
    """Which of them are not what they should be, and dashboards that no page makes any more."""
    made = outputs()
    changed = [path for path, text in made.items() if _text(root / path) != text]
    folders = {path.parent for path in pages.outputs()}
    left = [path.relative_to(root) for one in folders for path in (root / one).glob("*.json")]
    return sorted([*changed, *(path for path in left if path not in made)])


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def write(root: Path = ROOT) -> list[Path]:
    """Bring the old ones up to date; returns them."""
    made, changed = outputs(), old(root)
    for path in changed:
        if path in made:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(made[path])
        else:
            (root / path).unlink()
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.observability", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is old")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    arguments = parser.parse_args()
    if not arguments.check:
        for path in write(arguments.root):
            print(f"made {path}")
        return 0
    changed = old(arguments.root)
    for path in changed:
        print(f"{path} is not what `make dashboards` makes")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
