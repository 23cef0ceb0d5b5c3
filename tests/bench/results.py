"""What was measured: values that can be written down and read again."""

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

BUSY: Final = 0.05
"""More late tokens than these, and figures of chunks are of a busy machine."""


@dataclass(frozen=True)
class Latency:
    """What a peer adds to the upstream's own times, ms, with so many streams open."""

    streams: int
    ttft_p50: float
    ttft_p99: float
    itl_p99: float


@dataclass(frozen=True)
class Round:
    """What one peer took in one round, CPU time in µs."""

    request: float
    """For an answer in one piece."""
    chunk: float
    """For a token of a stream, without what a request takes anyway."""
    latency: Latency | None = None
    merged: float = 0.0
    """Share of tokens that reached the client with another one of their stream, since they were
    late: on a busy machine many are, and take less CPU time than they do where all is on time."""


@dataclass(frozen=True)
class Spread:
    """Of some values: the one in the middle, and the two at the ends."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def percent(self) -> float:
        """How far the ends are from each other, of the middle."""
        return (self.most - self.least) / self.median * 100 if self.median else 0.0


@dataclass(frozen=True)
class PeerResult:
    """All rounds of one peer."""

    name: str
    what: str
    version: str
    rounds: list[Round]
    idle_bytes: float | None = None
    """Memory for one stream that is open and stands still."""

    @property
    def request(self) -> Spread:
        """CPU time for a request, µs."""
        return Spread.of([one.request for one in self.rounds])

    @property
    def chunk(self) -> Spread:
        """CPU time for a chunk, µs."""
        return Spread.of([one.chunk for one in self.rounds])

    @property
    def merged(self) -> float:
        """Share of tokens that were late, in the middle of the rounds."""
        return statistics.median(one.merged for one in self.rounds)

    @property
    def latency(self) -> Latency | None:
        """The median of each figure over the rounds in which it was measured."""
        measured = [one.latency for one in self.rounds if one.latency]
        if not measured:
            return None
        return Latency(
            round(statistics.median(one.streams for one in measured)),
            statistics.median(one.ttft_p50 for one in measured),
            statistics.median(one.ttft_p99 for one in measured),
            statistics.median(one.itl_p99 for one in measured),
        )


@dataclass(frozen=True)
class Results:
    """A whole run on one machine. `absent` says of who is not in it why, by name."""

    machine: str
    peers: list[PeerResult]
    absent: dict[str, str]

    def peer(self, name: str) -> PeerResult | None:
        """That peer, if it was measured."""
        return next((one for one in self.peers if one.name == name), None)

    def with_rounds_of(self, other: "Results") -> "Results":
        """This run, and the rounds of another with the same peers."""
        peers = []
        for one in self.peers:
            again = other.peer(one.name)
            rounds = [*one.rounds, *(again.rounds if again else [])]
            peers.append(PeerResult(one.name, one.what, one.version, rounds, one.idle_bytes))
        return Results(self.machine, peers, self.absent)

    def to_json(self) -> str:
        """For a file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file that `to_json` filled."""
        document = json.loads(path.read_text())
        peers = [_peer(one) for one in document["peers"]]
        return cls(document["machine"], peers, document["absent"])


def _peer(document: dict[str, Any]) -> PeerResult:
    rounds = [
        Round(**{**one, "latency": one["latency"] and Latency(**one["latency"])})
        for one in document["rounds"]
    ]
    return PeerResult(**{**document, "rounds": rounds})
