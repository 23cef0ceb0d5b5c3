"""A run: all peers on one machine, and in each round every one of them in its turn."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machine import machine
from tests.bench.peers import Peer
from tests.bench.results import BUSY, PeerResult, Results, Round
from tests.bench.site import Say, company
from tests.bench.subject import TOKENS, Subject


@dataclass(frozen=True)
class Plan:
    """How much is measured. Figures are for each peer, less for one that could not bear them."""

    rounds: int = 3
    streams: int = 100
    """At a time, of which each is followed by a second one."""
    requests: int = 2000
    latency: bool = True
    idle_streams: int = 500
    """That memory is measured with; 0 for not at all."""


def run(plan: Plan, peers: Sequence[Peer], home: Path, say: Say) -> tuple[Results, list[str]]:
    """Measure those who are here. The results, and the names of those that failed."""
    with company(peers, home, say) as here:
        results = {one.peer.name: result_of(one.peer) for one in here.present}
        for subject in here.well if plan.idle_streams else ():
            with here.noting(subject.peer):
                idle = subject.idle_bytes(subject.share(plan.idle_streams))
                results[subject.peer.name] = result_of(subject.peer, idle)
        for number in range(plan.rounds):
            for subject in here.well:
                with here.noting(subject.peer):
                    one = round_of(subject, plan)
                    results[subject.peer.name].rounds.append(one)
                    say(f"{subject.peer.name:14} round {number + 1}  {line(one, plan.latency)}")
        measured = [one for name, one in results.items() if name not in here.failed]
        return Results(machine(), measured, here.absent), here.failed


def round_of(subject: Subject, plan: Plan) -> Round:
    """Requests, then streams, then latency."""
    count, streams = subject.share(plan.requests, 50), subject.share(plan.streams)
    before = subject.cpu()
    subject.requests(count)
    request = (_settled(subject) - before) / count
    before = subject.cpu()
    done = subject.run_streams(streams, 2)
    chunk = per_chunk(_settled(subject) - before, 2 * streams, request)
    latency = subject.latency(request, chunk) if plan.latency else None
    return Round(request, chunk, latency, done.merged)


def per_chunk(spent: float, streams: int, request: float) -> float:
    """Of what some streams took, without what each takes as a request, for each token."""
    return (spent - streams * request) / (streams * TOKENS)


def result_of(peer: Peer, idle_bytes: float | None = None) -> PeerResult:
    """Of a peer that nothing else is known of yet."""
    return PeerResult(peer.name, peer.what, peer.version(), [], idle_bytes)


def line(one: Round, latency: bool) -> str:
    """What a round was, for who waits; `latency` is whether it was to be measured."""
    text = f"{one.chunk:7.1f} µs a chunk  {one.request:8.1f} µs a request"
    if one.merged > BUSY:
        text += f"  ({one.merged:.0%} of chunks were late)"
    added = one.latency
    if added is None:
        return f"{text}  latency: the machine is too busy" if latency else text
    return (
        f"{text}  with {added.streams} streams {added.ttft_p50:+.2f} / {added.ttft_p99:+.2f} ms"
        f" TTFT, {added.itl_p99:+.2f} ms ITL"
    )


def _settled(subject: Subject) -> float:
    """What it has taken, µs, with what it had left to do."""
    time.sleep(subject.running.settles)
    return subject.cpu()
