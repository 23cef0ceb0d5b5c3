"""Whether the gateway has become dearer than it was when its cost was last written down.

Microseconds say little: machines differ, and one machine differs from hour to hour. What is judged
is how many times as much the gateway takes as nginx and as the raw splice beside it, in the same
round. Of the rounds the median is taken, and dearer is what has grown against both: what else a
machine does meets one of the three alone now and then.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from tests.bench.results import BUSY, PeerResult, Results

GPTOSS: Final = "gptoss"
NGINX: Final = "nginx"
SPLICE: Final = "splice"
ALLOWED: Final = 0.15
"""Growth of a ratio that is still taken for noise."""
UNITS: Final = ("chunk", "request")


@dataclass(frozen=True)
class Ratio:
    """How many times as much the gateway takes as a peer, for a chunk or a request."""

    unit: str
    peer: str
    times: float


class Unfit(Exception):
    """A run from which nothing follows; one line says why."""


@dataclass(frozen=True)
class Record:
    """What the gateway's cost was, on some machine."""

    machine: str
    ratios: tuple[Ratio, ...]
    merged: float | None = None
    """Share of chunks that came late in that run; None where it was not written down."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file."""
        document = json.loads(path.read_text())
        return cls(
            document["machine"],
            tuple(Ratio(**one) for one in document["ratios"]),
            document.get("merged"),
        )

    @classmethod
    def of(cls, results: Results) -> Self:
        """Of a run. Raises `Unfit` for one that says nothing for later ones."""
        for name in (GPTOSS, NGINX, SPLICE):
            if results.peer(name) is None:
                why = results.absent.get(name, "it was not asked for")
                raise Unfit(f"nothing is recorded: {name} was not measured: {why}")
        for name in (NGINX, SPLICE):
            if not _on_time(results, name):
                raise Unfit(
                    "nothing is recorded: the machine is too busy: try again when it is not"
                )
        return cls(results.machine, ratios(results), max(one.merged for one in results.peers))

    def write(self, path: Path) -> None:
        """Into a file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Compared:
    """A ratio of this run beside the recorded one."""

    unit: str
    peer: str
    now: float
    then: float

    @property
    def growth(self) -> float:
        """0.2 is a fifth more than it was."""
        return self.now / self.then - 1

    @property
    def grew(self) -> bool:
        """Whether it grew more than is allowed."""
        return self.growth > ALLOWED

    @property
    def shrank(self) -> bool:
        """Whether it is so much less that it should be recorded, lest it be lost unseen."""
        return self.growth < -ALLOWED

    def __str__(self) -> str:
        return (
            f"{self.now:.2f} x {self.peer} per {self.unit}, recorded {self.then:.2f}"
            f" ({self.growth:+.0%})"
        )


def ratios(results: Results) -> tuple[Ratio, ...]:
    """The gateway's, to each of the two who were measured beside it."""
    ours = results.peer(GPTOSS)
    found = []
    for name in (NGINX, SPLICE):
        peer = results.peer(name)
        if ours and peer:
            found += [Ratio(unit, name, _times(ours, peer, unit)) for unit in UNITS]
    return tuple(found)


def compare(results: Results, record: Record) -> list[Compared]:
    """Each ratio that is known then. Raises `Unfit` where one was not measured now."""
    if not record.ratios:
        raise Unfit("nothing to compare with: `make bench-record` writes down the cost of now")
    for name in sorted({one.peer for one in record.ratios} | {GPTOSS}):
        if results.peer(name) is None:
            why = results.absent.get(name, "it was not asked for")
            raise Unfit(f"nothing is compared: {name} was not measured: {why}")
    then = {(one.unit, one.peer): one.times for one in record.ratios}
    return [
        Compared(one.unit, one.peer, one.times, then[one.unit, one.peer])
        for one in ratios(results)
        if (one.unit, one.peer) in then
    ]


def dearer(compared: Sequence[Compared]) -> list[Compared]:
    """The ratios of what grew more than is allowed, whomever it is held against."""
    steady = {one.unit for one in compared if not one.grew}
    return [one for one in compared if one.unit not in steady]


def sentence(compared: Sequence[Compared]) -> str:
    """One line: what grew, and what to do; or that nothing did."""
    if grown := dearer(compared):
        return (
            f"the gateway has become dearer: {'; '.join(map(str, grown))}; allowed is"
            f" {ALLOWED:+.0%}: make it cheaper again, or write the new cost down with"
            " `make bench-record` and say why"
        )
    said = "; ".join(map(str, compared))
    if any(one.shrank for one in compared):
        return f"the gateway has become cheaper: {said}: keep that with `make bench-record`"
    return f"the gateway costs what it did: {said}"


def _on_time(results: Results, name: str) -> bool:
    """Whether there is a round in which chunks came on time, of the gateway and of a peer."""
    ours, peer = results.peer(GPTOSS), results.peer(name)
    assert ours is not None
    assert peer is not None
    pairs = zip(ours.rounds, peer.rounds, strict=True)
    return any(max(a.merged, b.merged) <= BUSY for a, b in pairs)


def _times(ours: PeerResult, peer: PeerResult, unit: str) -> float:
    pairs = list(zip(ours.rounds, peer.rounds, strict=True))
    if unit == "chunk":
        # Chunks that come late together are cheaper, and for nginx more so than for who reads them.
        pairs = [(a, b) for a, b in pairs if max(a.merged, b.merged) <= BUSY] or pairs
    return statistics.median(float(getattr(a, unit)) / float(getattr(b, unit)) for a, b in pairs)
