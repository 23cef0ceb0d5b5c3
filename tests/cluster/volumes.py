"""Volumes for pods. A cluster without a provisioner gets folders of its node."""

from pathlib import Path

from tests.cluster.kube import Kube, Object, folder, until

SERVICE_USER = 10001
STORE_USER = 999
MODES = ("ReadWriteOnce", "ReadWriteMany")


def provide(kube: Kube, base: Path) -> None:
    """Have a claim `weights` and volumes for the trial stores."""
    kube.apply(_claim("weights"))
    if _has_provisioner(kube):
        return
    kube.apply(
        _volume(kube, "weights", folder(base / "weights", SERVICE_USER), "weights"),
        *(
            _volume(kube, store, folder(base / store, STORE_USER), f"data-gptoss-{store}-0")
            for store in ("postgresql", "valkey")
        ),
    )
    until(lambda: kube.one("persistentvolumeclaim", "weights")["status"]["phase"] == "Bound")


def _has_provisioner(kube: Kube) -> bool:
    mark = "storageclass.kubernetes.io/is-default-class"
    classes = kube.all("storageclasses")
    return any(one["metadata"].get("annotations", {}).get(mark) == "true" for one in classes)


def _claim(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        # One node, or one machine: every pod can be where the volume is.
        "spec": {"accessModes": [MODES[0]], "resources": {"requests": {"storage": "1Gi"}}},
    }


def _volume(kube: Kube, name: str, path: Path, claim: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{kube.namespace}-{name}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": list(MODES),
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(path)},
            "claimRef": {"namespace": kube.namespace, "name": claim},
        },
    }
