"""Pods as their owners make them, and what is in them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.chart.render import COMPONENT, Object, Objects

OWNERS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod, an init container too."""

    body: Mapping[str, Any]
    owner: Object
    init: bool

    @property
    def name(self) -> str:
        return str(self.body["name"])

    @property
    def image(self) -> str:
        return str(self.body["image"])

    @property
    def command(self) -> list[str]:
        """Command and arguments, with variables filled in as the kubelet does it."""
        words = [*self.body.get("command", ()), *self.body.get("args", ())]
        return [self._filled(word) for word in words]

    def _filled(self, word: str) -> str:
        for name, value in self.env.items():
            word = word.replace(f"$({name})", value)
        return word

    @property
    def env(self) -> dict[str, str]:
        """The variables whose values are written there."""
        return {one["name"]: one["value"] for one in self.variables if "value" in one}

    @property
    def variables(self) -> list[Mapping[str, Any]]:
        return list(self.body.get("env", ()))

    @property
    def ports(self) -> dict[str, int]:
        """Number by name."""
        return {one["name"]: int(one["containerPort"]) for one in self.body.get("ports", ())}

    def __str__(self) -> str:
        return f"{self.owner} {self.name}"


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod that an owner makes."""

    owner: Object
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def component(self) -> str:
        return self.labels.get(COMPONENT, "")

    @property
    def containers(self) -> list[Container]:
        """Init containers first, as they run."""
        return [
            *(Container(body, self.owner, True) for body in self.spec.get("initContainers", ())),
            *(Container(body, self.owner, False) for body in self.spec["containers"]),
        ]

    @property
    def serving(self) -> list[Container]:
        """Those that run as long as the pod: the containers and the sidecars."""
        return [one for one in self.containers if not one.init or one.body.get("restartPolicy")]

    @property
    def main(self) -> Container:
        """Its only container besides the ones that run before and beside."""
        (body,) = self.spec["containers"]
        return Container(body, self.owner, False)

    @property
    def ports(self) -> dict[str, int]:
        """Number by name, of all that serves."""
        return {name: port for one in self.serving for name, port in one.ports.items()}

    @property
    def volumes(self) -> dict[str, Mapping[str, Any]]:
        return {one["name"]: one for one in self.spec.get("volumes", ())}

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether all of the labels are the pod's."""
        return labels.items() <= self.labels.items()

    def __str__(self) -> str:
        return f"pod of {self.owner}"


def pods(objects: Objects, component: str | None = None) -> list[Pod]:
    """One for every owner, of the component if it is named."""
    found = [_pod(one) for one in objects if one.kind in OWNERS]
    return [pod for pod in found if component in (None, pod.component)]


def pod(objects: Objects, component: str) -> Pod:
    """The only one of the component."""
    (found,) = pods(objects, component)
    return found


def _pod(owner: Object) -> Pod:
    if owner.kind == "Pod":
        return Pod(owner, owner.labels, owner.annotations, owner.spec)
    template = owner.spec["template"]
    metadata = template.get("metadata") or {}
    return Pod(
        owner,
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        template["spec"],
    )


def containers(objects: Objects, component: str | None = None) -> list[Container]:
    """Every container of every pod."""
    return [one for pod in pods(objects, component) for one in pod.containers]


def strings(value: Any) -> Iterator[str]:
    """Every string in a structure, names of maps too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from strings(inner)
