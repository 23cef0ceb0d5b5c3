"""`offline: true`: nothing in the cluster asks anything outside of it."""

import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.chart.network import Policies, outside, within
from tests.chart.pods import containers, pods, strings
from tests.chart.render import EVERY_API, Object, Objects, Refused, overlay, overlays, render

URL = re.compile(r"[a-z][a-z+]*://([^\s/\"'}]*)")
REGISTRY = "registry.internal/serving"
OFFLINE = {"offline": True, "images": {"registry": REGISTRY}}
# What is of the cluster, or only ever handed to a browser.
INTERNAL = re.compile(r"(.*@)?[^:]*(\.svc(\.cluster\.local\.?)?|127\.0\.0\.1|localhost)(:[0-9]+)?")
POSSIBLE = [name for name in overlays() if name not in ("existing-stores",)]

every_overlay = pytest.mark.parametrize("name", POSSIBLE)


@cache
def _rendered(name: str) -> Objects:
    return render(overlay(name, **OFFLINE), apis=EVERY_API)


@every_overlay
def test_no_object_names_a_place_outside(name: str) -> None:
    for one in _rendered(name):
        if one.kind == "PrometheusRule" or "dashboard" in one.name:
            continue  # links for people: runbooks
        assert not list(_outside(one)), f"{one}: {list(_outside(one))}"


def _outside(one: Object) -> Iterator[str]:
    for text in strings(one.body):
        for host in URL.findall(text):
            if not INTERNAL.fullmatch(host):
                yield host


@every_overlay
def test_whatever_could_ask_a_hub_is_told_not_to(name: str) -> None:
    objects = _rendered(name)
    asking = [c for c in containers(objects) if c.name in ("engine", "weights")]
    assert asking
    for container in asking:
        assert container.env["HF_HUB_OFFLINE"] == "1", str(container)
        assert "HF_ENDPOINT" not in container.env


@every_overlay
def test_an_engine_asks_no_hub_online_either(name: str) -> None:
    for container in containers(render(overlay(name), apis=EVERY_API), "engine"):
        assert container.env["HF_HUB_OFFLINE"] == "1", str(container)


@every_overlay
def test_no_pod_gets_out(name: str) -> None:
    objects = _rendered(name)
    policies = Policies(objects)
    for pod in pods(objects):
        for port in (80, 443):
            assert not policies.allow(within(pod), outside("203.0.113.7"), port), str(pod)


@every_overlay
def test_every_image_is_from_the_registry_that_is_named(name: str) -> None:
    objects = _rendered(name)
    assert all(c.image.startswith(f"{REGISTRY}/") for c in containers(objects))


def test_it_needs_a_registry_and_no_hub() -> None:
    for values in (
        {"offline": True},
        {**OFFLINE, "weights": {"endpoint": "https://hub.example.com"}},
        {**OFFLINE, "weights": {"tokenSecret": "hub"}},
    ):
        with pytest.raises(Refused):
            render(overlay("minimal", **values))
