"""A Ray cluster of several nodes on one machine, by Ray's own `cluster_utils.Cluster`.

Each node has an address of its own on loopback (127.0.0.2 and so on), processes, resources and a
home of its own. The disk, the processors and the network are the machine's: what depends on these
being apart is not tested so.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import ray._private.node
from ray.cluster_utils import Cluster

from tests.process import environment, free_port

_GIB = 1 << 30
_SYSTEM = {
    # A node that is gone is noticed within some seconds, as on a cluster within half a minute.
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 5,
    # How long nodes go on without a head; deploy/ray says so, too.
    "gcs_rpc_server_reconnect_timeout_s": 3600,
}


class _Patient:
    """Time for Ray's code that starts a node: it gives up after 30 s, which is not to be set and
    less than a busy machine may take. Here that is two minutes."""

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() / 4

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


ray._private.node.time = _Patient()


class RayCluster:
    """A head without cards, and nodes that are added and killed. Ended at exit.

    `settings` is in the environment of all nodes; `redis`, `host:port`, makes the head fault
    tolerant: what it knows outlives it.
    """

    def __init__(self, settings: Mapping[str, str], redis: str = "") -> None:
        self._settings = settings
        self._port = free_port()
        self._nodes: dict[str, Any] = {}
        self._numbers = itertools.count(3)  # never that of a node that is gone
        self._folder = Path()
        self._cluster: Any = None
        outer = {"external_addresses": [redis]} if redis else {}
        self._head = {
            "num_cpus": 1,
            "num_gpus": 0,
            "gcs_server_port": self._port,
            "node_ip_address": "127.0.0.2",
            "include_dashboard": False,
            "_system_config": _SYSTEM,
            **outer,
        }

    @property
    def address(self) -> str:
        """Of the head."""
        return f"127.0.0.2:{self._port}"

    def environment(self, home: Path) -> dict[str, str]:
        """For a command on the head."""
        return environment(home, {**self._settings, "RAY_ADDRESS": self.address})

    def add(self, name: str, *, cpus: int, gpus: int = 0, **options: Any) -> None:
        """One more node."""
        last = next(self._numbers)
        address = f"127.0.{last // 250}.{last % 250}"
        with self._surroundings(name):
            self._nodes[name] = self._cluster.add_node(
                num_cpus=cpus,
                num_gpus=gpus,
                node_name=name,
                node_ip_address=address,
                memory=options.pop("memory", 64 * _GIB),
                object_store_memory=80 << 20,
                **options,
            )

    def kill(self, name: str) -> None:
        """A node, as when its power fails: all of Ray's processes there."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def kill_head(self) -> None:
        """All of Ray's processes on the head."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def start_head(self) -> None:
        """Again, at the same address."""
        with self._surroundings("head"):
            self._cluster.add_node(node_name="head", **self._head)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="gptoss-ray-"))
        with self._surroundings("head"):
            self._cluster = Cluster(
                initialize_head=True, head_node_args={**self._head, "node_name": "head"}
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _surroundings(self, name: str) -> Iterator[None]:
        """A node sees what is this process's environment while it is started."""
        home = self._folder / name
        home.mkdir(exist_ok=True)
        before = dict(os.environ)
        own = {"GPTOSS_STATE_DIR": str(home / "state"), "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ.update(environment(home, {**self._settings, **own}))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
