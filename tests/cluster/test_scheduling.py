"""Where engines go on a cluster with H100s, and why one that cannot go anywhere waits.

The GPUs are not there: nodes are labelled and say that they have four each. So nothing is started
on them; the scheduler's word is what counts.
"""

from collections.abc import Iterator

import pytest

from tests.cluster import volumes
from tests.cluster.kube import Kube, Object, condition, until
from tests.cluster.release import SMALL, Release

NAMESPACE = "gpus"


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Object]]]:
    """Pods of each pool, once the scheduler has had its say."""
    nodes = Kube("default").all("nodes")
    if not any("nvidia.com/gpu" in node["status"]["allocatable"] for node in nodes):
        pytest.skip("no node of this cluster has GPUs, nor says that it had")
    pools = {
        "fits": {"profile": "h100-80g", "replicas": 1},
        "full": {"profile": "h100-80g", "replicas": 4},
        "other": {"profile": "a100-80g", "replicas": 1},
    }
    Kube("default").run("create", "namespace", NAMESPACE)
    release = Release(
        "gptoss",
        NAMESPACE,
        {
            "weights": {"claim": "weights", "fetch": False},
            "engine": {"defaults": {"resources": SMALL}, "pools": pools},
        },
    )
    volumes.provide(release.kube, tmp_path_factory.mktemp("volumes"))
    release.install(wait=False)
    asked = {pool: int(str(one["replicas"])) for pool, one in pools.items()}
    until(lambda: all(_decided(release.kube, *one) for one in asked.items()), what="scheduled")
    yield {pool: release.kube.pods(component="engine", pool=pool) for pool in pools}
    release.uninstall()
    Kube("default").run("delete", "namespace", NAMESPACE, timeout=300)


def _decided(kube: Kube, pool: str, count: int) -> bool:
    pods = kube.pods(component="engine", pool=pool)
    return len([pod for pod in pods if condition(pod, "PodScheduled")]) == count


def test_an_engine_goes_where_its_profiles_cards_are(pods: dict[str, list[Object]]) -> None:
    (pod,) = pods["fits"]
    assert condition(pod, "PodScheduled")["status"] == "True"
    asked = pod["spec"]["containers"][0]["resources"]
    assert asked["limits"]["nvidia.com/gpu"] == "2"


def test_one_too_many_waits_and_says_why(pods: dict[str, list[Object]]) -> None:
    waiting = [
        condition(pod, "PodScheduled")["message"]
        for pool in ("fits", "full")
        for pod in pods[pool]
        if condition(pod, "PodScheduled")["status"] == "False"
    ]
    assert waiting, "ten GPUs were asked for, and there are four a node"
    assert all("Insufficient nvidia.com/gpu" in message for message in waiting), waiting


def test_an_engine_for_other_cards_waits_and_says_why(pods: dict[str, list[Object]]) -> None:
    (pod,) = pods["other"]
    decided = condition(pod, "PodScheduled")
    assert decided["status"] == "False"
    assert "node(s) didn't match" in decided["message"]
