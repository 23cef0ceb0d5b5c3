"""The chart as a release in a cluster, by Helm itself."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python

from tests.cluster.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
CHART = Path(os.environ.get("GPTOSS_TEST_CHART", ROOT / "helm" / "gptoss"))
"""An old API server needs a copy that was written for it."""

Values = dict[str, Any]

# What differs from a cluster with GPUs: images are loaded, and requests fit two cores.
SMALL: Values = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}
TESTED: Values = {
    "drainSeconds": 20,
    "images": {
        "pullPolicy": "IfNotPresent",
        "gateway": {"repository": "gptoss-gateway", "tag": "test"},
        "engineCPU": {"repository": "gptoss-engine", "tag": "test"},
        "engine": {"repository": "gptoss-engine", "tag": "test"},
        "valkey": {"repository": "valkey", "tag": "test"},
        "postgresql": {"repository": "postgres", "tag": "test"},
    },
    "gateway": {"resources": SMALL, "service": {"type": "NodePort"}, "holdSeconds": 600},
    "weights": {"resources": {"requests": {"cpu": "50m"}}},
    "database": {"trial": {"enabled": True, "size": "1Gi"}},
    "quota": {"trial": {"enabled": True, "size": "1Gi"}},
}


class Release:
    """A release of the chart, and the values that it has now."""

    def __init__(self, name: str, namespace: str, values: Values) -> None:
        self.name = name
        self.kube = Kube(namespace)
        self.values = merged(TESTED, values)
        self._helm = helm_python.Config(
            kubeconfig_path=os.environ["KUBECONFIG"], namespace=namespace
        )

    def install(self, *, seconds: int = 900, wait: bool = True) -> None:
        """`helm install --wait`."""
        how = "watcher" if wait else None
        self._helm.install(CHART, self.name, self.values, wait=how, timeout=seconds)

    def upgrade(self, values: Values, *, seconds: int = 900) -> None:
        """`helm upgrade --rollback-on-failure --wait`, with more values."""
        wanted = merged(self.values, values)
        self._helm.upgrade(
            CHART, self.name, wanted, wait="watcher", timeout=seconds, rollback_on_failure=True
        )
        self.values = wanted

    def test(self) -> str:
        """`helm test --logs`."""
        return str(self._helm.test(self.name, logs=True, timeout=300)["logs"])

    def history(self) -> list[Mapping[str, Any]]:
        """Its revisions, oldest first."""
        return list(self._helm.history(self.name))

    def uninstall(self) -> None:
        """`helm uninstall --wait`."""
        self._helm.uninstall(self.name, wait="watcher", timeout=300)

    def gptoss(self, *command: str) -> str:
        """What a command prints in a gateway's container."""
        return self.kube.exec(f"deploy/{self.name}-gateway", "gateway", "gptoss", *command)

    @property
    def url(self) -> str:
        """Of the gateways, through the Service, from outside its network."""
        service = self.kube.one("service", f"{self.name}-gateway")
        (node, *_) = self.kube.all("nodes")
        addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
        return f"http://{addresses['InternalIP']}:{service['spec']['ports'][0]['nodePort']}"


def merged(base: Values, over: Values) -> Values:
    """Both, map by map."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
