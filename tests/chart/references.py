"""What objects say of one another by name: Secrets, ConfigMaps, claims, accounts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chart.pods import Pod, pods
from tests.chart.render import Object, Objects


@dataclass(frozen=True, slots=True)
class Reference:
    """One object's name in another."""

    source: str
    kind: str
    name: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.source} refers to {self.kind}/{self.name} {self.key}".strip()


def references(objects: Objects) -> Iterator[Reference]:
    """All of a render."""
    for pod in pods(objects):
        yield from _of_pod(pod)
    for one in objects:
        yield from _of_object(one)


def _of_pod(pod: Pod) -> Iterator[Reference]:
    source = str(pod)
    yield Reference(source, "ServiceAccount", pod.spec["serviceAccountName"])
    for secret in pod.spec.get("imagePullSecrets") or ():
        yield Reference(source, "Secret", secret["name"])
    for container in pod.containers:
        for variable in container.variables:
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if field in variable.get("valueFrom", {}):
                    found = variable["valueFrom"][field]
                    yield Reference(source, kind, found["name"], found["key"])
        for many in container.body.get("envFrom") or ():
            for kind, field in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
                if field in many:
                    yield Reference(source, kind, many[field]["name"])
    claims = {one["metadata"]["name"] for one in pod.owner.spec.get("volumeClaimTemplates") or ()}
    for volume in pod.volumes.values():
        yield from _of_volume(source, volume)
    mounted = {m["name"] for c in pod.containers for m in c.body.get("volumeMounts") or ()}
    for name in mounted - claims - pod.volumes.keys():
        yield Reference(source, "volume", name)


def _of_volume(source: str, volume: Mapping[str, Any]) -> Iterator[Reference]:
    if claim := volume.get("persistentVolumeClaim"):
        yield Reference(source, "PersistentVolumeClaim", claim["claimName"])
    for part in (volume, *(volume.get("projected") or {}).get("sources", ())):
        if secret := part.get("secret"):
            name = secret.get("secretName") or secret["name"]
            yield from _items(source, "Secret", name, secret)
        if found := part.get("configMap"):
            yield from _items(source, "ConfigMap", found["name"], found)


def _items(source: str, kind: str, name: str, body: Mapping[str, Any]) -> Iterator[Reference]:
    keys = [item["key"] for item in body.get("items") or ()] or [""]
    yield from (Reference(source, kind, name, key) for key in keys)


def _of_object(one: Object) -> Iterator[Reference]:
    if one.kind == "Ingress":
        for tls in one.spec.get("tls") or ():
            yield Reference(str(one), "Secret", tls["secretName"])
        for rule in one.spec["rules"]:
            for path in rule["http"]["paths"]:
                yield Reference(str(one), "Service", path["backend"]["service"]["name"])
    if one.kind == "HTTPRoute":
        for rule in one.spec["rules"]:
            for backend in rule["backendRefs"]:
                yield Reference(str(one), backend.get("kind", "Service"), backend["name"])
    if one.kind == "StatefulSet":
        yield Reference(str(one), "Service", one.spec["serviceName"])
    if one.kind == "ScaledObject":
        target = one.spec["scaleTargetRef"]
        yield Reference(str(one), target.get("kind", "Deployment"), target["name"])
        for trigger in one.spec["triggers"]:
            if found := trigger.get("authenticationRef"):
                yield Reference(str(one), "TriggerAuthentication", found["name"])
    if one.kind == "HorizontalPodAutoscaler":
        target = one.spec["scaleTargetRef"]
        yield Reference(str(one), target["kind"], target["name"])
