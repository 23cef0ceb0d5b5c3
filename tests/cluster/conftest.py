"""The cluster that KUBECONFIG names, with the images loaded (see `python -m tests.cluster`)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import kube, volumes
from tests.cluster.kube import Kube
from tests.cluster.release import Release


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Skip everything, with the reason, where there is none."""
    if "KUBECONFIG" not in os.environ:
        pytest.skip("no cluster: set KUBECONFIG, or run `make cluster`")
    assert kube.is_there(), "these tests need kubectl"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Two gateways and the chart's own stores; of the pool of the tiny gpt-oss no engine yet."""
    namespace = "serving"
    Kube("default").run("create", "namespace", namespace)
    pool = {
        "profile": "cpu-dev",
        "replicas": 0,
        "startupSeconds": 600,
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
    }
    release = Release(
        "gptoss", namespace, {"weights": {"claim": "weights"}, "engine": {"pools": {"tiny": pool}}}
    )
    volumes.provide(release.kube, _node_folder(tmp_path_factory))
    release.install()
    yield release
    Kube("default").run("delete", "namespace", namespace, timeout=300)


def _node_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that pods may pass through: pytest's own are for this user alone."""
    path = factory.mktemp("volumes")
    for parent in (path, *path.parents[:3]):
        if parent.owner() == path.owner():
            parent.chmod(parent.stat().st_mode | 0o111)
    return path
