"""`python -m service.engine.tiny CACHE_DIR`: build the tiny model and print where it is."""

import sys
from pathlib import Path

from service.engine.tiny import ensure
from service.errors import UserError


def _show(fraction: float, note: str) -> None:
    sys.stderr.write(f"\r{fraction:4.0%} {note:<40}")
    sys.stderr.flush()


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m service.engine.tiny CACHE_DIR\n")
        return 2
    try:
        folder = ensure(Path(sys.argv[1]), _show)
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stderr.write("\n")
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
