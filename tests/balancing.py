"""Which replica gets a request: ways to choose, compared without a network.

`.venv/bin/python -m tests.balancing` runs the gateway's own pools, replicas and balancer in virtual
time against simple engines, writes the plot of service/routing/BALANCING.md and prints its tables.
Six minutes of CPU, on two cores. All but the time of a choice is the same each time.

Four gateways share the engines. Each knows its own requests at once, and those of others from
reports, which it reads as often as the prober does. Who is out, everybody knows in the same way: by
the gateway's own health. So what differs is the choice alone. In the middle one replica in fifty
(one at least) is four times slower for a while, and as many restart.
"""

import contextlib
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
from matplotlib.figure import Figure

from service.routing import balancer as ours
from service.routing.balancer import Balancer
from tests.rivals import POLICIES
from tests.virtual_engine import World
from tests.virtual_traffic import SETTINGS, SIZES, Case, GatewayPool, Result, Run

PLOT = Path(ours.__file__).parent / "balancing.svg"
CORES = 2
# Of what the engines could do if they knew no prompt: what the others can just bear, and what
# affinity makes of the same engines.
LOAD, HIGH_LOAD = 0.85, 1.7
COMPARED = [Case(policy, size, LOAD) for size in sorted(SIZES, reverse=True) for policy in POLICIES]
HIGH = [Case("ours", size, HIGH_LOAD) for size in SIZES]
VARIED = [
    Case(policy, size, load, ((name, value),))
    for policy, size, load, name, values in (
        ("ours", 10, HIGH_LOAD, "BOUND", (1.25, 1.5, 3, 1e6)),
        ("ours", 100, HIGH_LOAD, "BOUND", (1.25, 1.5, 3, 1e6)),
        ("ours", 100, HIGH_LOAD, "SLACK", (1, 8)),
        ("ours", 100, HIGH_LOAD, "NEIGHBOURS", (1, 3)),
        ("ours, no affinity", 100, LOAD, "CHOICES", (1, 2, 8)),
        ("ours, no affinity", 100, LOAD, "HEARSAY", (0, 1)),
    )
    for value in values
]


def main() -> None:
    """Print the tables and write the plot."""
    cases = COMPARED + HIGH + VARIED
    with multiprocessing.Pool(CORES) as workers:
        results = dict(zip(cases, workers.map(_simulate, cases, chunksize=1), strict=True))
    for size in SIZES:
        _print_table(
            f"{size} replicas, load {LOAD}", [results[c] for c in COMPARED if c.replicas == size]
        )
    for case in HIGH:
        _print_table(f"{case.replicas} replicas, load {HIGH_LOAD}", [results[case]])
    for size in (10, 100):
        changed = [results[case] for case in VARIED if case.replicas == size]
        _print_table(f"{size} replicas, other constants", changed)
    _plot([results[case] for case in COMPARED])
    for size in SIZES:
        _print_selection(size)


def _simulate(case: Case) -> Result:
    with contextlib.ExitStack() as stack:
        for name, value in case.constants:
            stack.enter_context(mock.patch.object(ours, name, value))
        return Run(case).run()


def _print_table(title: str, results: Sequence[Result]) -> None:
    head = "| | TTFT p50, s | p95 | p99 | p99.9 | most / mean load | prefix hits |"
    lines = [f"\n{title}", head, "|---|---|---|---|---|---|---|", *(r.row for r in results)]
    sys.stdout.write("\n".join(lines) + "\n")


def _print_selection(size: int) -> None:
    """CPU time of a choice, and of a replica that comes or goes."""
    pool = GatewayPool(World(), Balancer, random.Random(1))
    urls = [f"http://10.0.{n // 250}.{n % 250}:8000" for n in range(size)]
    pool.set_members(urls, lambda url: SETTINGS.queue.slots)
    source = random.Random(1)
    keys = [source.getrandbits(64) for _ in range(20_000)]
    began = time.process_time()
    for key in keys:
        pool.pick(key, 1000)
    by_key = time.process_time()
    for _ in keys:
        pool.pick(None, 1000)
    without = time.process_time()
    pool.set_members(urls[1:], lambda url: SETTINGS.queue.slots)
    changed = time.process_time()
    sys.stdout.write(
        f"{size} replicas: a choice takes {(by_key - began) / len(keys) * 1e6:.1f} µs by key and"
        f" {(without - by_key) / len(keys) * 1e6:.1f} µs without, a change of members"
        f" {(changed - without) * 1e3:.1f} ms\n"
    )


# Of the plot: ours stand out.
STYLES = {
    "ours": ("#0b6e4f", "-", 2.4),
    "ours, no affinity": ("#0b6e4f", "--", 1.4),
    "least request": ("#3a6ea5", "-", 1.4),
    "round robin": ("#c1761a", "-", 1.4),
    "random": ("#8a8a8a", "-", 1.4),
    "least reported": ("#b03a48", "-", 1.4),
}
PARTS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
TICKS = {0.5: "50", 0.9: "90", 0.99: "99", 0.999: "99.9"}


def _plot(results: Sequence[Result]) -> None:
    style: Any = {"svg.hashsalt": "balancing", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10, 4), layout="constrained")
        for axes, size in zip(figure.subplots(1, len(SIZES), sharey=True), SIZES, strict=True):
            for result in (result for result in results if result.case.replicas == size):
                color, line, width = STYLES[result.case.policy]
                axes.plot(
                    [1 / (1 - part) for part in PARTS],
                    [result.percentile(part) for part in PARTS],
                    color=color,
                    linestyle=line,
                    linewidth=width,
                    label=result.case.policy,
                )
            axes.set(xscale="log", yscale="log", title=f"{size:,} replicas", xlabel="percentile")
            axes.set_xticks([1 / (1 - part) for part in TICKS], list(TICKS.values()))
            axes.minorticks_off()
            axes.grid(color="#e4e4e4")
            axes.spines[["top", "right"]].set_visible(False)
            axes.yaxis.set_major_formatter("{x:g}")
        figure.axes[0].set_ylabel("time to first token, s")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()
