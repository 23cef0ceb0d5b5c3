"""Many streams at once, and many minutes: memory, and that all end whole."""

import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.measure import Plan, round_of
from tests.bench.peers import Peer
from tests.bench.site import Say, site

_MINUTE: Final = 60.0
_SLOPE_POINTS: Final = 7
# The gateway keeps so much of what it may open for checks, stores and idle connections.
_SPARE_FILES: Final = 0.15


def most_streams() -> int:
    """How many streams a process can relay here, which takes two descriptors each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(hard * (1 - _SPARE_FILES)) // 2


def hold(peer: Peer, wanted: int, home: Path, say: Say) -> None:
    """Hold so many idle streams open in one process, and let them end. Raises `Failed`."""
    streams = min(wanted, most_streams())
    if streams < wanted:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        say(
            f"{wanted:,} streams are not possible: a process may open {hard:,} files here"
            f" (`ulimit -Hn`), a stream takes two: going on with {streams:,}"
        )
    with site(home) as place, place.started(peer) as subject:
        before, began = subject.memory(), time.monotonic()
        subject.open(streams)
        grown = subject.memory() - before
        say(
            f"{streams:,} streams open after {time.monotonic() - began:.0f} s:"
            f" {grown / streams / 1000:.1f} kB each, {(before + grown) / 1e6:.0f} MB in all"
        )
        whole = subject.finish()
        say(f"{whole:,} of {streams:,} ended whole")


def soak(peer: Peer, seconds: float, plan: Plan, home: Path, say: Say) -> None:
    """Keep a peer busy for so long, and say each minute what memory it has. Raises `Failed`."""
    with site(home) as place, place.started(peer) as subject:
        began = time.monotonic()
        seen: list[tuple[float, float]] = []
        while (now := time.monotonic() - began) < seconds:
            until = min(now + _MINUTE, seconds)
            while time.monotonic() - began < until:
                round_of(subject, plan)
            at, memory = time.monotonic() - began, subject.memory()
            seen.append((at, memory))
            say(f"{at / _MINUTE:6.1f} min  {memory / 1e6:8.2f} MB")
        # What it learns and keeps at the start is no leak.
        later = seen[len(seen) // 4 :]
        if len(later) < _SLOPE_POINTS:
            say("too short for a slope: ten minutes are the least, `--soak 600`")
        else:
            an_hour = slope(later) * 3600 / 1e3
            say(f"slope of the last {len(later)} minutes: {an_hour:+,.0f} kB an hour")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much the second grows with the first, by least squares; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    at, middle = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - at) ** 2 for x, _ in points)
    return float(sum((x - at) * (y - middle) for x, y in points) / spread)
