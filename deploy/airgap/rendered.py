"""What `helm template` printed, and what an installation of it needs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.airgap import chart
from deploy.airgap.fault import Fault

CLAIM, IMAGE, BUILT = "the claim", "an image", "built in the cluster"


@dataclass(frozen=True, order=True, slots=True)
class Model:
    """A model that engines serve."""

    name: str
    gigabytes: int
    origin: str
    """Where engines have it from: `CLAIM`, `IMAGE`, `BUILT`."""
    revision: str


@dataclass
class Needs:
    """Images and models, each once and in order."""

    images: list[str] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)


def read(text: str) -> Needs:
    """The needs of all pods."""
    import yaml  # not on the other side, where nothing is rendered

    try:
        objects = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise Fault(f"that is no YAML, as `helm template` prints it: {line}") from None
    pods = list(_pods(objects))
    images = sorted({image for pod in pods for image in _images(pod)})
    if not images:
        raise Fault("there is no pod in it: give what `helm template` prints")
    models = {model.name: model for pod in pods for model in _models(pod)}
    return Needs(images, sorted(models.values()))


def _pods(value: Any) -> Iterator[dict[str, Any]]:
    """Every specification of a pod, wherever it is."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for inner in value.values():
            yield from _pods(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pods(inner)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [each for kind in kinds for each in pod.get(kind) or () if isinstance(each, dict)]


def _images(pod: dict[str, Any]) -> Iterator[str]:
    for container in _containers(pod):
        if image := container.get("image"):
            yield str(image)
    for volume in pod.get("volumes") or ():
        if image := (volume.get("image") or {}).get("reference"):
            yield str(image)


def _models(pod: dict[str, Any]) -> Iterator[Model]:
    """By the words that start `gptoss weights` and `gptoss engine`."""
    for container in _containers(pod):
        words = [str(word) for word in container.get("args") or ()]
        options = dict(
            word.split("=", 1) for word in words if word.startswith("--") and "=" in word
        )
        if words[:1] == ["weights"] and len(words) > 1:
            yield _model(words[1], options)
        elif words[:1] == ["engine"] and "--model" in options:
            yield _model(options["--model"], options)


def _model(name: str, options: dict[str, str]) -> Model:
    gigabytes = chart.gigabytes(name)
    origin = IMAGE if "--model-path" in options else CLAIM if gigabytes else BUILT
    return Model(name, gigabytes, origin, options.get("--revision", "main") if gigabytes else "")
