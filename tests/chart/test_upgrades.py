"""An upgrade is never refused: what the API server lets nobody change does not change."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.pods import pods
from tests.chart.references import references
from tests.chart.render import (
    EVERY_API,
    Object,
    Objects,
    merged,
    overlay,
    overlays,
    render,
    rendered,
    some,
)

every_overlay = pytest.mark.parametrize("name", overlays())

CHANGES: dict[str, Mapping[str, Any]] = {
    "labels": {"commonLabels": {"cost-centre": "42"}},
    "images": {"images": {"gateway": {"tag": "9.9"}, "engine": {"tag": "9.9"}}},
    "another registry": {"images": {"registry": "registry.example"}},
    "the drain time": {"drainSeconds": 300},
    "the revision of the weights": {"weights": {"revision": "v2"}},
    "where the Job goes": {"weights": {"nodeSelector": {"disk": "fast"}}},
    "what the Job gets": {"weights": {"resources": {"requests": {"cpu": "2"}}}},
    "variables of the Job": {"weights": {"env": {"HTTPS_PROXY": "http://proxy:3128"}}},
    "gateways": {"gateway": {"replicas": 5}},
    "network policies": {"networkPolicy": {"enabled": False}},
    "the monitoring": {"monitoring": {"enabled": False}},
    "resources of stores": {"database": {"trial": {"resources": {"requests": {"cpu": "1"}}}}},
}


def _fixed(one: Object) -> Any:
    """What of an object stays as it was made."""
    match one.kind:
        case "Job":
            return one.spec["template"]
        case "Deployment":
            return one.spec["selector"]
        case "StatefulSet":
            names = ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")
            return {name: one.spec.get(name) for name in names}
        case "Service":
            return one.spec.get("clusterIP")
        case "PersistentVolumeClaim":
            return {key: value for key, value in one.spec.items() if key != "resources"}
    return None


def _refused(before: Objects, after: Objects) -> list[str]:
    old = {(one.kind, one.name): one for one in before}
    both = [(old[one.kind, one.name], one) for one in after if (one.kind, one.name) in old]
    return [str(new) for was, new in both if _fixed(was) != _fixed(new)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["minimal", "eight-h100", "cpu-tiny", "weights-image"])
def test_a_change_of_values_changes_nothing_that_is_fixed(name: str, change: str) -> None:
    values = merged(overlay(name), CHANGES[change])
    assert not _refused(rendered(name), render(values, apis=EVERY_API))


def test_another_pool_is_another_deployment() -> None:
    pools = {"pools": {"second": {"profile": "h200", "model": "gpt-oss-120b"}}}
    after = render(overlay("eight-h100", engine=pools), apis=EVERY_API)
    assert not _refused(rendered("eight-h100"), after)
    new = {one.name for one in some(after, "Deployment")}
    assert len(new - {one.name for one in some(rendered("eight-h100"), "Deployment")}) == 1


@every_overlay
def test_nothing_is_made_that_nobody_uses(name: str) -> None:
    objects = rendered(name)
    used = {(reference.kind, reference.name) for reference in references(objects)}
    for one in some(objects, "ServiceAccount", "Secret", "ConfigMap", "PersistentVolumeClaim"):
        assert (one.kind, one.name) in used or "dashboard" in one.name, str(one)


@every_overlay
def test_a_policy_is_for_pods_that_there_are(name: str) -> None:
    for policy in some(rendered(name), "NetworkPolicy"):
        labels = policy.spec["podSelector"]["matchLabels"]
        assert any(pod.has(labels) for pod in pods(rendered(name))), str(policy)


@every_overlay
def test_what_holds_data_outlives_the_release(name: str) -> None:
    for one in some(rendered(name), "PersistentVolumeClaim"):
        assert one.annotations["helm.sh/resource-policy"] == "keep"


@every_overlay
def test_only_the_test_is_a_hook(name: str) -> None:
    """A hook that makes something would run before, or after, what it needs is waited for."""
    for one in rendered(name):
        hook = one.annotations.get("helm.sh/hook")
        assert hook in (None, "test"), str(one)
        assert (hook == "test") == (one.component == "test")
