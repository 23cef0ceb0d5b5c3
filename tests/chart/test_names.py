"""Names and labels: valid under long releases, complete, and unchanged by an upgrade."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.pods import pods
from tests.chart.render import (
    CHART,
    EVERY_API,
    Object,
    Refused,
    manifests,
    overlay,
    overlays,
    render,
    rendered,
    some,
)

every_overlay = pytest.mark.parametrize("name", overlays())

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([-.a-z0-9]{1,253}/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
# A Job's pods and a StatefulSet's revisions are named by it, with more behind.
LONGEST = {"Job": 63, "StatefulSet": 52}
LONG_RELEASE = "a-release-of-exactly-the-fifty-three-characters-it-ca"
LONG_POOL = "p" * 15
RECOMMENDED = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}


def _check(one: Object) -> None:
    assert LABEL.fullmatch(one.name), str(one)
    assert len(one.name) <= LONGEST.get(one.kind, 63), str(one)
    for key, value in one.labels.items():
        assert LABEL_NAME.fullmatch(key), f"{one}: {key}"
        assert LABEL_VALUE.fullmatch(value), f"{one}: {key}={value}"


@every_overlay
@pytest.mark.parametrize("release", ["x", LONG_RELEASE])
def test_names_are_dns_labels(name: str, release: str) -> None:
    objects = render(overlay(name), apis=EVERY_API, name=release)
    for one in objects:
        _check(one)
    for pod in pods(objects):
        for container in pod.containers:
            assert LABEL.fullmatch(container.name)
            assert all(len(port) <= 15 for port in container.ports), "a port's name is short"


def test_the_longest_pool_of_the_longest_release_has_a_name() -> None:
    values = {"engine": {"pools": {LONG_POOL: {"profile": "h100-80g", "replicas": 2}}}}
    objects = render(overlay("keda", **values), apis=EVERY_API, name=LONG_RELEASE)
    for one in objects:
        _check(one)
    assert len({(one.kind, one.name) for one in objects}) == len(objects)


@pytest.mark.parametrize("value", ["nameOverride", "fullnameOverride"])
def test_names_can_be_chosen(value: str) -> None:
    objects = render(overlay("minimal", **{value: "llm"}), apis=EVERY_API)
    assert all("llm" in one.name for one in objects), [str(one) for one in objects]
    for one in objects:
        _check(one)


@every_overlay
def test_every_object_has_the_recommended_labels(name: str) -> None:
    for one in rendered(name):
        assert one.labels.keys() >= RECOMMENDED, str(one)
        assert one.labels["app.kubernetes.io/managed-by"] == "Helm"
        assert one.labels["app.kubernetes.io/instance"] == "gptoss"


@every_overlay
def test_an_owner_selects_its_pods_and_no_others(name: str) -> None:
    objects = rendered(name)
    for owner in some(objects, "Deployment", "StatefulSet"):
        selector = owner.spec["selector"]["matchLabels"]
        assert [pod.owner.name for pod in pods(objects) if pod.has(selector)] == [owner.name]


@every_overlay
def test_labels_of_the_values_are_on_every_object_and_in_no_selector(name: str) -> None:
    values = overlay(name, commonLabels={"cost-centre": "42"})
    objects = render(values, apis=EVERY_API)
    assert all(one.labels.get("cost-centre") == "42" for one in objects)
    for owner in some(objects, "Deployment", "StatefulSet"):
        assert "cost-centre" not in owner.spec["selector"]["matchLabels"]


@every_overlay
def test_a_selector_never_changes(name: str) -> None:
    """The API server refuses another selector, so nothing of a version may be in it."""
    allowed = {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
        "gptoss/pool",
    }
    for owner in some(rendered(name), "Deployment", "StatefulSet"):
        assert owner.spec["selector"]["matchLabels"].keys() <= allowed


def test_a_new_version_of_the_chart_alone_restarts_no_engine_and_no_gateway(
    tmp_path: Path,
) -> None:
    newer = tmp_path / "gptoss"
    shutil.copytree(CHART, newer)
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump({**facts, "version": "99.0.0"}))
    values = overlay("eight-h100", monitoring={"enabled": False})
    before, after = (manifests(values, apis=EVERY_API, chart=chart) for chart in (CHART, newer))
    changed = {
        path
        for path in before
        if path.endswith("deployment.yaml") and _templates(before[path]) != _templates(after[path])
    }
    assert not changed


def _templates(text: str) -> list[object]:
    return [one["spec"]["template"] for one in yaml.safe_load_all(text) if one]


@every_overlay
def test_two_releases_share_nothing_that_is_the_namespaces(name: str) -> None:
    first = {(one.kind, one.name) for one in rendered(name)}
    second = {(one.kind, one.name) for one in render(overlay(name), apis=EVERY_API, name="two")}
    assert not first & second


@every_overlay
def test_every_pod_says_whose_it_is(name: str) -> None:
    for pod in pods(rendered(name)):
        assert pod.labels["app.kubernetes.io/instance"] == "gptoss"
        assert pod.component


@pytest.mark.parametrize(
    "values",
    [
        {"commonLabels": {"app.kubernetes.io/name": "mine"}},
        {"gateway": {"podLabels": {"app.kubernetes.io/component": "mine"}}},
        {"engine": {"defaults": {"podLabels": {"gptoss/pool": "mine"}}}},
    ],
    ids=str,
)
def test_labels_of_the_chart_cannot_be_given_twice(values: dict[str, Any]) -> None:
    """One of the two would win, and a selector would miss its pods."""
    with pytest.raises(Refused):
        render(overlay("minimal", **values), apis=EVERY_API)
