"""The chart's objects for given values, as `helm template` would print them.

objects = render(overlay("minimal"), kube="1.31.0", apis=KEDA)
deployment = one(objects, "Deployment", component="gateway")
"""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from helm_python import Chart, HelmError, _native

CHART: Final = Path(__file__).parents[2] / "helm" / "gptoss"
NAMESPACE: Final = "serving"
RELEASE: Final = "gptoss"

MONITORING: Final = (
    "monitoring.coreos.com/v1",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
)
KEDA: Final = (
    "keda.sh/v1alpha1",
    "keda.sh/v1alpha1/ScaledObject",
    "keda.sh/v1alpha1/TriggerAuthentication",
)
GATEWAY_API: Final = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1/HTTPRoute")
EVERY_API: Final = (*MONITORING, *KEDA, *GATEWAY_API)

COMPONENT: Final = "app.kubernetes.io/component"

Values = Mapping[str, Any]


class Refused(Exception):
    """Helm renders nothing for these values, and says why."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML in which a name that stands twice in a map is an error, and not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if len(names) != len(set(names)):
            twice = {name for name in names if names.count(name) > 1}
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"twice in the map of line {line}: {', '.join(sorted(twice))}")
        read: dict[Any, Any] = super().construct_mapping(node, deep)
        return read


@dataclass(frozen=True, slots=True)
class Object:
    """One object, and the template that it is from."""

    body: Mapping[str, Any]
    template: str

    @property
    def api(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def group(self) -> str:
        """`apps` of `apps/v1`; empty for the core."""
        return self.api.rpartition("/")[0]

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.body["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.body["metadata"].get("annotations") or {}

    @property
    def component(self) -> str:
        return self.labels.get(COMPONENT, "")

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.body.get("spec") or {}

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


Objects = tuple[Object, ...]


def render(
    values: Values,
    *,
    kube: str = "1.34.0",
    apis: Iterable[str] = (),
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    upgrade: bool = False,
) -> Objects:
    """Every object, hooks included. Raises Refused."""
    texts = manifests(values, kube=kube, apis=apis, name=name, namespace=namespace, upgrade=upgrade)
    return tuple(
        one
        for template, text in sorted(texts.items())
        if not template.endswith(".txt")
        for one in _objects(template, text)
    )


def manifests(
    values: Values,
    *,
    kube: str = "1.34.0",
    apis: Iterable[str] = (),
    name: str = RELEASE,
    namespace: str = NAMESPACE,
    upgrade: bool = False,
    chart: Path = CHART,
) -> dict[str, str]:
    """The text of every template. Raises Refused."""
    options = {
        "name": name,
        "namespace": namespace,
        "kube_version": kube,
        "api_versions": list(apis),
        "is_install": not upgrade,
        "is_upgrade": upgrade,
    }
    # Loaded for every render, because a render changes the chart; the binding's own `render` has no
    # way to say which Kubernetes it is for.
    try:
        with Chart.load(chart) as loaded:
            text = _native.call_string(
                "helm_render", loaded._raw(), json.dumps(values), json.dumps(options)
            )
    except HelmError as error:
        raise Refused(str(error)) from None
    rendered: dict[str, str] = json.loads(text)
    return rendered


@lru_cache(maxsize=2000)
def _objects(template: str, text: str) -> Objects:
    """What is the same in two renders is read once, and is the same object. Nobody changes one."""
    try:
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        raise AssertionError(f"{template}: {str(error).splitlines()[0]}") from None
    for body in documents:
        assert body is None or isinstance(body, dict), f"{template}: no object: {body!r}"
    return tuple(Object(body, template) for body in documents if body)


def overlays() -> list[str]:
    """The names of `ci/*-values.yaml`."""
    return sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml"))


def overlay(name: str, **more: Any) -> dict[str, Any]:
    """The values of `ci/NAME-values.yaml`, with more merged over them."""
    return merged(_read(name), more)


@cache
def _read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


def merged(under: Values, over: Values) -> dict[str, Any]:
    """Maps are merged, nothing takes away, everything else is replaced: as Helm does it."""
    result = deepcopy(dict(under))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = deepcopy(value)
    return result


def some(objects: Objects, *kinds: str, component: str | None = None) -> Objects:
    """Those of the kinds, and of the component if it is named."""
    return tuple(one for one in objects if one.kind in kinds and component in (None, one.component))


def one(objects: Objects, kind: str, *, component: str | None = None) -> Object:
    """The only one of its kind and component."""
    found = some(objects, kind, component=component)
    assert len(found) == 1, f"{len(found)} of {kind} ({component}): {', '.join(map(str, found))}"
    return found[0]


@cache
def rendered(name: str, kube: str = "1.34.0", apis: tuple[str, ...] = EVERY_API) -> Objects:
    """An overlay's objects, rendered once for all tests that only look."""
    return render(overlay(name), kube=kube, apis=apis)
