"""Reserves the nodes of a real Ray cluster for two pools, as a keeper does: for a test.

python -m tests.servers.reserve NODES LARGE SMALL
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence

from service.fleet import cluster, room
from service.fleet.document import Pool
from service.fleet.room import Ask, Node

_PATIENCE_SECONDS = 240.0


async def main(number: int, large: int, small: int) -> None:
    """Print where everything went."""
    cluster.connect(None, "placement")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(nodes := _workers()) < number:
        assert time.monotonic() < deadline, "not all nodes came"
        time.sleep(0.5)  # noqa: ASYNC251  # nothing else runs
    pools = {"large": Pool(profile="h100-80g"), "small": Pool(profile="h100-80g-x1")}
    asks = {name: Ask.of(pool) for name, pool in pools.items()}
    counts: dict[str, Counter[str]] = {}
    for name, engines in (("large", large), ("small", small)):
        chosen = room.placed(nodes, asks[name], engines)
        made = [
            cluster.Reservation(f"placement/{name}-{index}", asks[name], node)
            for index, node in enumerate(chosen)
        ]
        assert all([await one.made() for one in made]), "Ray sees it as we do"
        counts[name] = Counter(node.id for node in chosen)
        nodes = await _settled(nodes, chosen, asks[name])
    taken = Counter[str]()
    for name, count in counts.items():
        for node, engines in count.items():
            taken[node] += engines * asks[name].cards
    found: dict[str, object] = {
        name: {
            "engines": count.total(),
            "cards": asks[name].cards,
            "most on a node": max(count.values()),
            "fewest on a node": min(count.get(node.id, 0) for node in nodes),
        }
        for name, count in counts.items()
    }
    found["most cards on a node"] = max(taken.values())
    found["free cards"] = sum(node.free_cards for node in nodes)
    pairs = sum(int(node.free_cards) // asks["large"].cards for node in nodes)
    found["as many as fit"] = room.shortage(nodes, {"large": (asks["large"], pairs)})
    found["one too many"] = room.shortage(nodes, {"large": (asks["large"], pairs + 1)})
    sys.stdout.write(json.dumps(found))


def _workers() -> list[Node]:
    return [node for node in cluster.nodes() if node.cards]


async def _settled(before: Sequence[Node], chosen: Sequence[Node], ask: Ask) -> list[Node]:
    """The nodes, once Ray says of each that what was reserved is taken."""
    wanted = {node.id: node.free_cards for node in before}
    for node in chosen:
        wanted[node.id] -= ask.cards
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        nodes = _workers()
        if {node.id: node.free_cards for node in nodes} == wanted:
            return nodes
        assert time.monotonic() < deadline, "Ray counts other cards"
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
