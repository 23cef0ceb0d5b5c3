"""What the check runs: all peers under load at the same time.

A machine that others use, too, is faster and slower from second to second, by a half. Peers that
take turns of seconds then differ by luck. Here they take turns of some milliseconds with requests
and stream side by side, so that whatever happens to one happens to all: figures by themselves mean
less than those of a run in turns, and ratios more.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.machine import machine
from tests.bench.measure import Plan, line, per_chunk, result_of
from tests.bench.peers import Peer
from tests.bench.processes import Failed
from tests.bench.results import Results, Round
from tests.bench.site import Company, Say, company
from tests.bench.subject import Subject

TURN: Final = 10
"""Requests to one peer before it is the next one's turn."""
_STREAM_ROUNDS: Final = 3


def run_together(plan: Plan, peers: Sequence[Peer], home: Path, say: Say) -> Results:
    """Measure those who are here. `plan.streams` is of all together. Raises `Failed`."""
    with company(peers, home, say) as here:
        results = {one.peer.name: result_of(one.peer) for one in here.present}
        for number in range(plan.rounds):
            for name, one in _round(here, plan).items():
                results[name].rounds.append(one)
                say(f"{name:14} round {number + 1}  {line(one, latency=False)}")
        return Results(machine(), list(results.values()), here.absent)


def _round(here: Company, plan: Plan) -> dict[str, Round]:
    if here.failed:
        raise Failed("nothing is said of the cost, since a peer failed: see above")
    subjects = here.present
    before = _cpu(subjects)
    for _ in range(plan.requests // TURN):
        for subject in subjects:
            subject.requests(TURN)
    after_requests = _settled(subjects)
    each = max(plan.streams // len(subjects), 1)
    done = here.sender.do(*(subject.streams(each, _STREAM_ROUNDS) for subject in subjects))
    after_streams = _settled(subjects)
    rounds = {}
    for subject, start, middle, end, streams in zip(
        subjects, before, after_requests, after_streams, done, strict=True
    ):
        request = (middle - start) / (plan.requests // TURN * TURN)
        chunk = per_chunk(end - middle, each * _STREAM_ROUNDS, request)
        rounds[subject.peer.name] = Round(request, chunk, merged=streams.merged)
    return rounds


def _settled(subjects: Sequence[Subject]) -> list[float]:
    """What each has taken, with what it had left to do."""
    time.sleep(max(subject.running.settles for subject in subjects))
    return _cpu(subjects)


def _cpu(subjects: Sequence[Subject]) -> list[float]:
    return [subject.cpu() for subject in subjects]
