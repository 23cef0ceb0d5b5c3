"""Every overlay, on every release of Kubernetes, with and without the operators: the API server
would take each object, and no object is of a kind that the cluster does not know."""

from collections import Counter

import pytest
from helm_python import lint

from tests.chart.render import (
    CHART,
    EVERY_API,
    GATEWAY_API,
    KEDA,
    MONITORING,
    Object,
    Objects,
    Refused,
    overlay,
    overlays,
    render,
    rendered,
    some,
)
from tests.chart.schemas import custom_groups, errors, releases

OPERATORS = {"monitoring": MONITORING, "keda": KEDA, "gateway-api": GATEWAY_API}
# What an overlay needs that not every cluster has.
NEEDS_RELEASE = {"weights-image": "1.33"}
NEEDS_API = {"gateway-api": GATEWAY_API}

INFO = 1
WANTED_BY_LINT = "icon is recommended"


def _older(release: str, than: str) -> bool:
    return tuple(map(int, release.split("."))) < tuple(map(int, than.split(".")))


class Cluster:
    """A release of Kubernetes that looks at each object once."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._taken: dict[int, Object] = {}

    def take(self, objects: Objects, apis: tuple[str, ...]) -> None:
        """Fails for what its API server would refuse, and for what it does not know."""
        for one in objects:
            assert one.api in apis or one.group not in custom_groups(), str(one)
            if id(one) not in self._taken:
                assert not errors(one, self._release)
                self._taken[id(one)] = one
        twice = [key for key, n in Counter((o.kind, o.name) for o in objects).items() if n > 1]
        assert not twice


@pytest.mark.parametrize("release", releases())
@pytest.mark.parametrize("name", overlays())
def test_every_release_of_kubernetes_takes_every_object(name: str, release: str) -> None:
    cluster = Cluster(release)
    for apis in ((), EVERY_API):
        if not set(NEEDS_API.get(name, ())) <= set(apis):
            continue
        if _older(release, NEEDS_RELEASE.get(name, release)):
            with pytest.raises(Refused, match="Kubernetes"):
                render(overlay(name), kube=f"{release}.0", apis=apis)
        else:
            cluster.take(render(overlay(name), kube=f"{release}.0", apis=apis), apis)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", overlays())
def test_each_operator_is_used_where_it_alone_is_there(name: str, operator: str) -> None:
    apis = OPERATORS[operator]
    if not set(NEEDS_API.get(name, ())) <= set(apis):
        pytest.skip("the overlay is for clusters with another one")
    Cluster("1.34").take(rendered(name, apis=apis), apis)


@pytest.mark.parametrize(
    ("name", "apis", "kind"),
    [
        ("eight-h100", MONITORING, "PodMonitor"),
        ("eight-h100", MONITORING, "PrometheusRule"),
        ("keda", KEDA, "ScaledObject"),
        ("gateway-api", GATEWAY_API, "HTTPRoute"),
        ("ingress", (), "Ingress"),
        ("eight-h100", (), "NetworkPolicy"),
        ("eight-h100", (), "PodDisruptionBudget"),
        ("minimal", (), "StatefulSet"),
        ("minimal", (), "PersistentVolumeClaim"),
        ("minimal", (), "Job"),
    ],
)
def test_what_a_cluster_can_do_is_used(name: str, apis: tuple[str, ...], kind: str) -> None:
    assert some(rendered(name, apis=apis), kind)


@pytest.mark.parametrize("name", overlays())
def test_lint_finds_nothing(name: str) -> None:
    report = lint(CHART, overlay(name), strict=True, kube_version="1.34.0")
    assert not report["errors"], report
    worse = [line for line in report["messages"] if line["severity"] > INFO]
    assert not worse
    assert all(WANTED_BY_LINT in line["error"] for line in report["messages"]), report


def test_there_is_an_object_for_every_schema_to_look_at() -> None:
    """The validators themselves: a typing error, a field too much and a missing one are found."""

    def body(api: str, kind: str, **spec: object) -> Object:
        return Object(
            {"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": spec}, ""
        )

    assert errors(body("apps/v1", "Deployment", replicas="2"), "1.34")
    assert errors(body("v1", "Service", portz=[]), "1.34")
    assert errors(body("policy/v1beta1", "PodDisruptionBudget"), "1.34")
    assert not errors(body("v1", "Service"), "1.34")
    good, trigger = {"name": "x"}, {"type": "cpu", "metadata": {}}
    assert not errors(
        body("keda.sh/v1alpha1", "ScaledObject", scaleTargetRef=good, triggers=[trigger]), ""
    )
    assert errors(body("keda.sh/v1alpha1", "ScaledObject", triggers=[trigger]), "")
    assert errors(body("keda.sh/v1", "ScaledObject", scaleTargetRef=good, triggers=[trigger]), "")
    assert errors(body("monitoring.coreos.com/v1", "ServiceMonitor", endpointz=[]), "")
