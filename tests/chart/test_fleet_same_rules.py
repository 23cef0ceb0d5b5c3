"""Engines on a Ray cluster are asked for, scaled and replaced by the chart's own numbers."""

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml

from service.fleet import demand
from service.fleet.demand import Demand, asked_for
from service.fleet.document import Fleet, parse
from service.profiles import PROFILES
from service.telemetry.contract import FAMILIES
from tests.chart.render import KEDA, Object, Objects, one, overlay, render, some

PAIRS: Final = [(profile, model) for profile in PROFILES.values() for model in profile.models]
POOLS: Final = {
    f"p{number}": {
        "profile": profile.name,
        "model": model,
        "autoscaling": {
            "enabled": True,
            "maxReplicas": 9,
            "requestsPerReplica": number % 3 and number,
            "scaleDownSeconds": 600 + number,
        },
    }
    for number, (profile, model) in enumerate(PAIRS)
}
MERGED: Final[Mapping[str, Any]] = {
    "defaults": {
        "replicas": 3,
        "startupSeconds": 900,
        "rollout": {"surge": 2, "unavailable": 0},
        "env": {"A": "1", "B": "2"},
        "nodeSelector": {"rack": "a"},
    },
    "pools": {
        "as-it-is": {"profile": "h100-80g"},
        "own": {
            "profile": "l40s",
            "replicas": 0,
            "rollout": {"unavailable": 1},
            "env": {"B": "3", "C": "4"},
            "nodeSelector": {"rack": "b", "zone": "x"},
        },
    },
}


def _fleet(engine: Mapping[str, Any]) -> Fleet:
    return parse(yaml.safe_dump({"engine": dict(engine), "gateways": ["http://10.0.0.5:8001"]}))


@pytest.fixture(scope="module")
def scalers() -> Mapping[str, Object]:
    """By pool."""
    values = overlay("keda")
    values["engine"]["pools"] = POOLS
    found = some(render(values, apis=KEDA), "ScaledObject", component="engine")
    return {scaler.name.removeprefix("gptoss-engine-"): scaler for scaler in found}


def _trigger(scaler: Object, name: str) -> Mapping[str, str]:
    (found,) = [each for each in scaler.spec["triggers"] if each["name"] == name]
    assert found["metricType"] == "AverageValue"
    metadata: Mapping[str, str] = found["metadata"]
    return metadata


def test_another_engine_is_started_at_the_charts_thresholds(
    scalers: Mapping[str, Object],
) -> None:
    pools = _fleet({"pools": POOLS}).pools
    assert scalers.keys() == pools.keys()
    for name, pool in pools.items():
        requests = int(_trigger(scalers[name], "demand")["threshold"])
        waiting = int(_trigger(scalers[name], "engine-queue")["threshold"])
        assert asked_for(pool, Demand(requests, waiting, True), 0) == 1, name
        assert asked_for(pool, Demand(requests + 1, 0, True), 0) == 2, name
        assert asked_for(pool, Demand(0, waiting + 1, True), 0) == 2, name


def test_steps_are_as_large_and_as_rare_as_the_charts(scalers: Mapping[str, Object]) -> None:
    pools = _fleet({"pools": POOLS}).pools
    for name, pool in pools.items():
        spec = scalers[name].spec
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        up, down = behavior["scaleUp"], behavior["scaleDown"]
        assert up["selectPolicy"] == "Max"
        assert up["stabilizationWindowSeconds"] == 0
        assert up["policies"] == [
            {"type": "Percent", "value": 100, "periodSeconds": demand._UP_SECONDS},
            {"type": "Pods", "value": demand._UP_AT_ONCE, "periodSeconds": demand._UP_SECONDS},
        ]
        assert down["policies"] == [
            {"type": "Pods", "value": 1, "periodSeconds": demand._DOWN_SECONDS}
        ]
        scaling = pool.autoscaling
        assert down["stabilizationWindowSeconds"] == scaling.scale_down_seconds
        assert spec["minReplicaCount"] == scaling.min_replicas
        assert spec["maxReplicaCount"] == scaling.max_replicas


def test_the_same_metrics_are_asked_for(scalers: Mapping[str, Object]) -> None:
    (query,) = {_trigger(scaler, "demand")["query"].split(",")[0] for scaler in scalers.values()}
    named = re.search(r'__name__=~"([^"]+)"', query)
    assert named
    asked = re.compile(named[1])
    for family in FAMILIES:
        line = f'{family.exported}{{model="tiny",pool="main"}} 1.0'.encode()
        assert bool(demand._METRIC.search(line)) == bool(asked.fullmatch(family.exported))


@pytest.fixture(scope="module")
def objects() -> Objects:
    values = overlay("keda")
    values["engine"] = MERGED
    return render(values)


@pytest.mark.parametrize("name", MERGED["pools"])
def test_pools_and_defaults_mean_what_they_mean_in_the_chart(name: str, objects: Objects) -> None:
    pool = _fleet(MERGED).pools[name]
    (engine,) = [
        each
        for each in some(objects, "Deployment", component="engine")
        if each.name == f"gptoss-engine-{name}"
    ]
    pod = engine.spec["template"]["spec"]
    (container,) = [each for each in pod["containers"] if each["name"] == "engine"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    rolling = engine.spec["strategy"]["rollingUpdate"]
    assert engine.spec["replicas"] == pool.replicas
    assert rolling["maxSurge"] == pool.rollout.surge
    assert rolling["maxUnavailable"] == pool.rollout.unavailable
    assert pool.env.items() <= variables.items()
    assert pool.node_selector.items() <= pod["nodeSelector"].items()


def test_streams_get_as_long_as_in_the_chart() -> None:
    fleet = _fleet({"pools": {"main": {"profile": "h100-80g"}}})
    gateway = one(render(overlay("minimal")), "Deployment", component="gateway")
    (container,) = gateway.spec["template"]["spec"]["containers"]
    (drain,) = [each["value"] for each in container["env"] if each["name"] == "GPTOSS_DRAIN"]
    assert float(drain) == fleet.drain_seconds
