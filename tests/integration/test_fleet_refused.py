"""What `gptoss fleet` refuses, in one line and with nothing started: asked of a real Ray cluster.

The cards of the nodes are said to be there, as `ray start --num-gpus` says it; there are none.
"""

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import settings
from service.engine import tiny
from tests.process import GPTOSS, environment, free_port
from tests.servers.ray_cluster import RayCluster

KEY = "engine-secret-of-the-tests-0123456789"
CPU_DEV = {"profile": "cpu-dev"}
SECONDS = 180
_RAYS_LOG = re.compile(r"\[\d{4}-\d\d-\d\d [\d:,]+ [IWE] ")


@dataclass(frozen=True)
class Site:
    """A cluster, and where commands run."""

    cluster: RayCluster
    home: Path

    def fleet(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GPTOSS, "fleet", *words],
            env={**self.cluster.environment(self.home), **variables},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def file(self, pools: dict[str, Any], **fields: Any) -> str:
        """A document. The model need not be there: nothing comes to be started."""
        document = {"engine": {"pools": pools}, "noticeSeconds": 0, "drainSeconds": 1, **fields}
        path = self.home / "fleet.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    def refusal(self, *words: str, **variables: str) -> str:
        """What it says, which is one line; nothing is there afterwards."""
        result = self.fleet(*words, **variables)
        assert result.returncode == 1, result.stdout
        # Ray's core says by itself what takes it long on a busy machine.
        (line,) = (one for one in result.stderr.splitlines() if not _RAYS_LOG.match(one))
        assert line.startswith("gptoss: ")
        return line.removeprefix("gptoss: ")

    def refused(self, pools: dict[str, Any], **fields: Any) -> str:
        """Why `up` refuses a document."""
        line = self.refusal("up", self.file(pools, **fields))
        assert "no fleet is called" in self.refusal("status"), "nothing half-started is left"
        return line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with RayCluster({"VLLM_API_KEY": KEY}) as cluster:
        cluster.add("small", cpus=16, gpus=2, resources={"accelerator_type:L4": 1})
        cluster.add("large", cpus=32, gpus=1, resources={"accelerator_type:H100": 1})
        yield Site(cluster, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    model = tiny.ensure(settings.load().cache_dir)
    return {"folders": {"gpt-oss-tiny": str(model)}}


def test_more_cards_than_there_are(site: Site) -> None:
    line = site.refused({"main": {"profile": "h100-80g-x1", "replicas": 3}})
    assert "pool main: 3 engines of 1 GPU" in line
    assert "there is room for 1: large (1 of 1 GPUs H100" in line


def test_a_profile_that_no_node_is_made_for(site: Site) -> None:
    line = site.refused({"main": {"profile": "b200"}})
    assert "no node is made for one: " in line
    assert "small (2 of 2 GPUs L4" in line
    assert "large (1 of 1 GPUs H100" in line


def test_labels_that_no_node_has(site: Site) -> None:
    line = site.refused({"main": {**CPU_DEV, "nodeSelector": {"zone": "moon"}}})
    assert "no node with zone=moon is made for one" in line


def test_cards_that_are_not_what_they_are_called(site: Site) -> None:
    line = site.refused({"main": {"profile": "h100-80g-x1"}})
    assert line.startswith("node large (127.0."), line


def test_weights_that_are_not_on_the_node(site: Site) -> None:
    line = site.refused({"main": CPU_DEV}, weights={"folders": {"gpt-oss-tiny": "/no/such"}})
    assert "there is no model in /no/such: mount it there" in line


def test_ports_that_are_taken_on_the_node(site: Site, weights: dict[str, Any]) -> None:
    with contextlib.ExitStack() as listeners:
        port = free_port()
        for last in (2, 3, 4):
            listener = listeners.enter_context(socket.socket())
            listener.bind((f"127.0.0.{last}", port))
            listener.listen()
        ports = {"first": port, "last": port}
        line = site.refused({"main": CPU_DEV}, weights=weights, ports=ports)
    assert f"all ports from {port} to {port} are taken" in line


def test_a_board_that_cannot_be_there(site: Site, weights: dict[str, Any]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        board = {"host": "127.0.0.1", "port": listener.getsockname()[1]}
        line = site.refused({"main": CPU_DEV}, weights=weights, board=board)
    assert f"the board cannot listen on 127.0.0.1:{board['port']} of the head" in line


def test_a_head_that_is_gone(site: Site) -> None:
    nowhere = f"127.0.0.2:{free_port()}"
    line = site.refusal("status", RAY_ADDRESS=nowhere)
    assert line.startswith(f"no Ray head answers at {nowhere}")
    assert "ray start --head" in line


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port"])
def test_an_address_that_is_none(site: Site, address: str) -> None:
    assert "write host:port, such as 10.0.0.5:6379" in site.refusal("status", RAY_ADDRESS=address)


def test_a_second_fleet_of_the_same_name(site: Site, weights: dict[str, Any]) -> None:
    board = {"host": "127.0.0.1", "port": free_port()}
    first = site.file({"main": {**CPU_DEV, "replicas": 0}}, weights=weights, board=board)
    assert site.fleet("up", first).returncode == 0
    second = Path(first).with_name("second.yaml")
    second.write_text(Path(first).read_text())
    try:
        line = site.refusal("up", str(second))
        assert "a fleet 'gptoss' runs already, from " in line
        assert first in line
        assert "--take-over" in line
        assert site.fleet("up", str(second), "--take-over").returncode == 0
        assert "from" in site.refusal("up", first)
    finally:
        assert site.fleet("down").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scale", "main", "1"], "no fleet is called 'gptoss'"),
        (["down"], "start one with `gptoss fleet up`"),
        (["logs", "main-1"], "no fleet is called 'gptoss'"),
        (["up", "/no/such.yaml"], "cannot read /no/such.yaml"),
    ],
)
def test_what_is_not_there(site: Site, words: list[str], said: str) -> None:
    assert said in site.refusal(*words)


# Waits until it has heard that a node died.
_TOLD = """\
import threading
from ray._private import utils, worker
from service.fleet import cluster

told, tell = threading.Event(), worker.print_to_stdstream

def telling(*args, **options):
    tell(*args, **options)
    told.set()

worker.print_to_stdstream = telling
cluster.connect(None, "told")
gcs = worker.global_worker.gcs_client
while not told.wait(1):
    utils.publish_error_to_driver("node", "a node died", gcs_client=gcs)
print("the answer")
"""


def test_what_ray_hears_of_the_cluster_is_not_printed_into_an_answer(site: Site) -> None:
    """It would be in the midst of JSON."""
    said = subprocess.run(
        [sys.executable, "-c", _TOLD],
        env=site.cluster.environment(site.home),
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert said.stdout == "the answer\n"


_OTHERS = """\
import json, sys
import ray
from ray.experimental import internal_kv as kv

# What the head says of itself, as `ray start` of another version would have it.
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
told = json.loads(kv._internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster"))
told["ray_version"] = "2.9.0"
kv._internal_kv_put(b"CLUSTER_METADATA", json.dumps(told).encode(), True, namespace=b"cluster")
"""


def test_a_cluster_of_another_version_of_ray(tmp_path: Path) -> None:
    with RayCluster({"VLLM_API_KEY": KEY}) as cluster:
        subprocess.run(
            [sys.executable, "-c", _OTHERS, cluster.address],
            env=environment(tmp_path),
            check=True,
            timeout=SECONDS,
        )
        line = Site(cluster, tmp_path).refusal("status")
    assert line.startswith("the cluster runs Ray: 2.9.0, Python: 3")
    assert "install that here" in line
