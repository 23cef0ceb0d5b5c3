"""A peer that runs, and what can be measured of it."""

from dataclasses import replace
from typing import Final

from tests.bench import wire
from tests.bench.accounting import cpu_seconds, memory_bytes
from tests.bench.client import Done, Order
from tests.bench.peers import Peer
from tests.bench.processes import Sender, release
from tests.bench.results import Latency
from tests.bench.running import Running

TOKENS: Final = 100
"""Of each answer. A stream of them takes a second."""
_BUSY: Final = 0.6
"""Of a core, that a peer is given to do while latency is measured."""
_MOST_STREAMS: Final = 250
"""At that time: more than these the upstream and the client could not serve on time themselves."""
_LATENCY_ROUNDS: Final = 4
_LATENCY_TRIES: Final = 2
_LATE_STEPS: Final = 1.5
"""Where tokens are later than that even without a peer, before or after it had its turn, the
machine has other things to do, and what would be measured is those."""
_PHASE_SECONDS: Final = 180


class Subject:
    """A peer between the upstream and the client. What is sent raises `Failed` if it fails."""

    def __init__(self, peer: Peer, running: Running, direct: Running, sender: Sender) -> None:
        self.peer = peer
        self.running = running
        self._direct = direct
        self._sender = sender
        self._busy_streams = 0

    def share(self, load: int, least: int = 1) -> int:
        """So much of a load as this one can bear."""
        return max(round(load * self.peer.share), least)

    def cpu(self) -> float:
        """CPU time that it has taken since it started, µs."""
        return cpu_seconds(self.running.pid) * 1e6

    def memory(self) -> int:
        """Bytes."""
        return memory_bytes(self.running.pid)

    def warm_up(self) -> None:
        """A few requests and streams, which are checked as all others are."""
        self.requests(50)
        self._sender.do(self._order("streams", count=5, tokens=10))

    def requests(self, count: int) -> None:
        """Send so many, of which each is answered in one piece."""
        self._sender.do(self._order("requests", count=count))

    def streams(self, count: int, rounds: int) -> Order:
        """An order for so many streams at a time, each so often."""
        return self._order("streams", count=count, rounds=rounds)

    def run_streams(self, count: int, rounds: int) -> Done:
        """Carry that out."""
        return self._sender.do(self.streams(count, rounds))[0]

    def open(self, streams: int, tokens: int = 5) -> None:
        """Open streams that stand still."""
        self._sender.do(self._order("open", count=streams, tokens=tokens))

    def finish(self, tokens: int = 5) -> int:
        """Let them go on, and see that they end whole. How many did."""
        release(self._direct.port)
        return self._sender.do(self._order("finish", tokens=tokens))[0].answers

    def idle_bytes(self, streams: int) -> float:
        """Memory for each of so many streams that are open and stand still."""
        before = self.memory()
        self.open(streams)
        grown = self.memory() - before
        self.finish()
        return grown / streams

    def latency(self, request: float, chunk: float) -> Latency | None:
        """What it adds where it is busy with streams that cost so much, µs.

        None on a machine that is too busy for the upstream and the client themselves.
        """
        streams = self._streams_when_busy(request, chunk)
        order = self._order("streams", count=streams, rounds=_LATENCY_ROUNDS)
        past = replace(order, port=self._direct.port, exact=True)
        for _ in range(_LATENCY_TRIES):
            before, own, after = (self._sender.do(one)[0] for one in (past, order, past))
            if max(before.itl_p99, after.itl_p99) <= _LATE_STEPS * wire.STEP_SECONDS:
                return _added(streams, own, before, after)
        return None

    def _streams_when_busy(self, request: float, chunk: float) -> int:
        if not self._busy_streams:  # the same in all rounds
            each = (TOKENS * chunk + request) / (TOKENS * wire.STEP_SECONDS) / 1e6
            self._busy_streams = max(min(int(_BUSY / each), _MOST_STREAMS), 1)
        return self._busy_streams

    def _order(self, work: str, count: int = 0, rounds: int = 1, tokens: int = TOKENS) -> Order:
        return Order(
            work,
            self.running.port,
            self.running.key,
            self.peer.exact,
            count,
            rounds=rounds,
            tokens=tokens,
            seconds=_PHASE_SECONDS,
        )


def _added(streams: int, own: Done, before: Done, after: Done) -> Latency:
    """By a peer, to what the upstream took itself, before and after in the middle."""
    return Latency(
        streams,
        (own.ttft_p50 - (before.ttft_p50 + after.ttft_p50) / 2) * 1e3,
        (own.ttft_p99 - (before.ttft_p99 + after.ttft_p99) / 2) * 1e3,
        (own.itl_p99 - (before.itl_p99 + after.itl_p99) / 2) * 1e3,
    )
