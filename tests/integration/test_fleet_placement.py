"""Where engines go on a hundred nodes: reserved by Ray itself, on cards that are not there.

Every node is a raylet of its own; what is reserved is a placement group for each engine, as a
keeper makes it. No engine is started: the cards would have to be there.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.ray_cluster import RayCluster

pytestmark = pytest.mark.alone

NODES, CARDS = 100, 8
LARGE, SMALL = 50, 300
SECONDS = 300


def test_engines_are_spread_over_a_hundred_nodes_and_none_is_packed_too_full(
    tmp_path: Path,
) -> None:
    with RayCluster({}) as cluster:
        for number in range(NODES):
            cluster.add(
                f"node-{number}",
                cpus=64,
                gpus=CARDS,
                memory=2048 << 30,
                resources={"accelerator_type:H100": 1},
                wait=False,
            )
        done = subprocess.run(
            [sys.executable, "-m", "tests.servers.reserve", str(NODES), str(LARGE), str(SMALL)],
            env=cluster.environment(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    placed = json.loads(done.stdout)
    assert placed["large"]["engines"] == LARGE
    assert placed["small"]["engines"] == SMALL
    assert placed["large"]["most on a node"] == 1, "spread"
    assert placed["small"]["most on a node"] - placed["small"]["fewest on a node"] <= 1, "spread"
    assert placed["most cards on a node"] <= CARDS
    assert placed["free cards"] == NODES * CARDS - LARGE * placed["large"]["cards"] - SMALL
    assert placed["as many as fit"] == ""
    assert placed["one too many"].startswith("pool large: "), "what is missing is said"
