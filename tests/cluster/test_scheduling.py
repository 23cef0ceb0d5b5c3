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
GPUS = "nvidia.com/gpu"
CARDS = 2  # that an engine of h100-80g has


@pytest.fixture(scope="module")
def room() -> int:
    """How many engines the cards of this cluster's nodes are enough for."""
    nodes = Kube("default").all("nodes")
    room = sum(int(node["status"]["allocatable"].get(GPUS, 0)) // CARDS for node in nodes)
    if not room:
        pytest.skip("no node of this cluster has GPUs, nor says that it had")
    return room


@pytest.fixture(scope="module")
def pods(room: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Object]]]:
    """Pods of each pool, once the scheduler has had its say: one more than there is room for."""
    asked = {"fits": room + 1, "other": 1}
    pools = {
        "fits": {"profile": "h100-80g", "replicas": asked["fits"]},
        "other": {"profile": "a100-80g", "replicas": asked["other"]},
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
    until(lambda: len(_placed(_engines(release.kube, "fits"))) == room, what="engines placed")
    until(lambda: all(_decided(release.kube, *one) for one in asked.items()), what="all decided")
    yield {pool: _engines(release.kube, pool) for pool in pools}
    release.uninstall()
    Kube("default").run("delete", "namespace", NAMESPACE, timeout=300)


def _engines(kube: Kube, pool: str) -> list[Object]:
    return kube.pods(component="engine", pool=pool)


def _decided(kube: Kube, pool: str, count: int) -> bool:
    return len([pod for pod in _engines(kube, pool) if condition(pod, "PodScheduled")]) == count


def _placed(engines: list[Object]) -> list[Object]:
    return [pod for pod in engines if condition(pod, "PodScheduled").get("status") == "True"]


def _reasons(engines: list[Object]) -> list[str]:
    decided = [condition(pod, "PodScheduled") for pod in engines]
    return [one["message"] for one in decided if one["status"] == "False"]


def test_engines_go_where_their_profiles_cards_are(
    pods: dict[str, list[Object]], room: int
) -> None:
    placed = _placed(pods["fits"])
    assert len(placed) == room
    asked = [pod["spec"]["containers"][0]["resources"]["limits"][GPUS] for pod in placed]
    assert asked == [str(CARDS)] * room


def test_one_too_many_waits_and_says_why(pods: dict[str, list[Object]]) -> None:
    (message,) = _reasons(pods["fits"])
    assert f"Insufficient {GPUS}" in message


def test_an_engine_for_other_cards_waits_and_says_why(pods: dict[str, list[Object]]) -> None:
    (message,) = _reasons(pods["other"])
    assert "node(s) didn't match" in message
