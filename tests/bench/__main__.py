"""`python -m tests.bench`: what the gateway costs, beside others, in one run.

CPU time per chunk and per request by the kernel's own books, the latency that is added, and the
memory of an open stream. Peers that are installed are measured in turns; who is not is named.
"""

import argparse
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import endurance, verdict
from tests.bench.measure import Plan, run
from tests.bench.peers import PEERS, Peer
from tests.bench.processes import Failed
from tests.bench.results import Results
from tests.bench.table import put_into, table
from tests.bench.together import TURN, run_together
from tests.bench.verdict import GPTOSS, NGINX, SPLICE, Record

RECORD: Final = Path(__file__).with_name("record.json")
_CHECKED: Final = (NGINX, SPLICE, GPTOSS)
_CHECK_ROUNDS, _CHECK_REQUESTS = 4, 1000
_GREW, _CANNOT = 1, 2


def main() -> int:
    """The exit status: 0, 1 if the cost grew, 2 if it could not be measured."""
    options = _options()
    _allow_many_files()
    _end_in_order()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return _run(options, Path(folder))
        except (Failed, verdict.Unfit, OSError) as reason:
            _say(str(reason))
            return _CANNOT


def _run(options: argparse.Namespace, home: Path) -> int:
    chosen = _chosen(options)
    if options.idle_streams or options.soak:
        for peer in chosen if options.peers else _chosen_by_name([GPTOSS]):
            (home / peer.name).mkdir()
            _endure(options, peer, home / peer.name)
        return 0
    if options.check or options.record:
        return _check(options, chosen, home)
    results, failures = run(_plan(options), chosen, home, _say)
    _write(options, results)
    if options.into and not failures:
        put_into(options.into, results)
    return _CANNOT if failures else 0


def _endure(options: argparse.Namespace, peer: Peer, home: Path) -> None:
    if options.idle_streams:
        endurance.hold(peer, options.idle_streams, _new(home, "idle"), _say)
    if options.soak:
        plan = Plan(streams=options.streams, requests=options.requests, latency=False)
        endurance.soak(peer, options.soak, plan, _new(home, "soak"), _say)


def _check(options: argparse.Namespace, peers: Sequence[Peer], home: Path) -> int:
    """Compare with the record, and measure once more before saying that the cost grew."""
    results = _measured(options, peers, _new(home, "first"))
    if options.record:
        Record.of(results).write(RECORD)
        times = [f"{one.times:.2f} x {one.peer} per {one.unit}" for one in verdict.ratios(results)]
        _say(f"recorded: {', '.join(times)}")
        _write(options, results)
        return 0
    record = Record.read(RECORD)
    compared = verdict.compare(results, record)
    if verdict.dearer(compared):
        _say(f"{verdict.sentence(compared)}; measuring once more")
        results = results.with_rounds_of(_measured(options, peers, _new(home, "again")))
        compared = verdict.compare(results, record)
    _write(options, results)
    if results.machine != record.machine:
        _say(f"here:     {results.machine}\nbench     recorded: {record.machine}")
    _say(verdict.sentence(compared))
    return _GREW if verdict.dearer(compared) else 0


def _measured(options: argparse.Namespace, peers: Sequence[Peer], home: Path) -> Results:
    plan = Plan(options.rounds, options.streams, options.requests, latency=False, idle_streams=0)
    return run_together(plan, peers, home, _say)


def _write(options: argparse.Namespace, results: Results) -> None:
    if options.json:
        options.json.write_text(results.to_json())
    if options.table:
        sys.stdout.write(table(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--peers", default="", help="their names, with commas between: without it all of them")
    add("--rounds", type=int, default=0, help="in each, every peer has its turn")
    add("--streams", type=int, default=100, help="at a time")
    add("--requests", type=int, default=0, help="in each round")
    add("--no-latency", action="store_true", help="leave out what takes longest")
    add("--json", type=Path, help="write all that was measured to this file")
    add("--table", action="store_true", help="print it as a table in Markdown")
    add("--into", type=Path, help="put the table onto this page")
    add("--check", action="store_true", help="fail where the cost grew against record.json")
    add("--record", action="store_true", help="write record.json, from a run as that of --check")
    add("--idle-streams", type=int, default=0, help="hold so many open in the gateway")
    add("--soak", type=float, default=0, help="keep the gateway busy for so many seconds")
    options = parser.parse_args()
    short = options.check or options.record
    least = TURN if short else 1
    options.rounds = options.rounds or (_CHECK_ROUNDS if short else Plan.rounds)
    options.requests = options.requests or (_CHECK_REQUESTS if short else Plan.requests)
    for name, fewest in (("rounds", 1), ("streams", 1), ("requests", least)):
        if getattr(options, name) < fewest:
            parser.error(f"--{name} has to be {fewest} or more")
    known = [peer.name for peer in PEERS]
    if unknown := [name for name in _names(options) if name not in known]:
        parser.error(f"no peer is called {unknown[0]}: there are {', '.join(known)}")
    return options


def _names(options: argparse.Namespace) -> list[str]:
    return [name for name in options.peers.split(",") if name]


def _chosen(options: argparse.Namespace) -> list[Peer]:
    if names := _names(options):
        return _chosen_by_name(names)
    return _chosen_by_name(_CHECKED) if options.check or options.record else list(PEERS)


def _chosen_by_name(names: Sequence[str]) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in names]


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(options.rounds, options.streams, options.requests, not options.no_latency)


def _allow_many_files() -> None:
    """For all that is started from here: each of a thousand streams takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_in_order() -> None:
    """By SIGTERM and SIGINT, also where a shell has this ignore it: else all that runs stays."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))


def _new(home: Path, name: str) -> Path:
    folder = home / name
    folder.mkdir()
    return folder


def _say(line: str) -> None:
    sys.stdout.write(f"bench     {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
