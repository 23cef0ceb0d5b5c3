"""What is said: results on standard output, progress on standard error."""

import sys


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def note(line: str) -> None:
    """What is going on."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def human(count: int) -> str:
    """Bytes in powers of 1000. As `gptoss weights` writes them, which is not there in a bundle."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
