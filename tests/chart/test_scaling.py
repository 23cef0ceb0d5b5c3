"""How many, and how few at a time: rollouts, disruptions and autoscaling."""

import re
from typing import Any

import pytest

from service.routing import engine_page
from service.telemetry.contract import FAMILIES
from tests.chart.pods import pods
from tests.chart.render import (
    EVERY_API,
    KEDA,
    MONITORING,
    NAMESPACE,
    Object,
    Objects,
    one,
    overlay,
    overlays,
    render,
    rendered,
    some,
)

every_overlay = pytest.mark.parametrize("name", overlays())

JOB = re.compile(r'job="([^"]*)"')
METRIC = re.compile(r"((?:gptoss_|vllm:)[a-z_]+)\b(?!\()")
NAMES = re.compile(r'__name__=~"([a-z_:]+)\(([a-z_|]+)\)"')


def metrics() -> set[str]:
    """Of a gateway, and of an engine those that gateways read too."""
    engines = re.findall(r"[a-z_]{8,}", engine_page._LINE.pattern.decode())
    return {family.name for family in FAMILIES} | {f"vllm:{name}" for name in engines}


@every_overlay
def test_a_rollout_needs_no_spare_card(name: str) -> None:
    for engine in some(rendered(name), "Deployment", component="engine"):
        rolling = engine.spec["strategy"]["rollingUpdate"]
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (0, 1)


def test_a_rollout_may_use_spare_cards() -> None:
    rollout = {"defaults": {"rollout": {"surge": "25%", "unavailable": 0}}}
    engine = one(render(overlay("minimal", engine=rollout)), "Deployment", component="engine")
    assert engine.spec["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": 0}


@every_overlay
def test_a_rollout_of_gateways_takes_none_away(name: str) -> None:
    gateway = one(rendered(name), "Deployment", component="gateway")
    rolling = gateway.spec["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0
    assert rolling["maxSurge"] == 1


def _least(owner: Object, objects: Objects) -> int:
    """The replicas that there are at least."""
    scalers = [
        s
        for s in some(objects, "ScaledObject", "HorizontalPodAutoscaler")
        if s.spec["scaleTargetRef"]["name"] == owner.name
    ]
    if not scalers:
        return int(owner.spec["replicas"])
    (spec,) = [scaler.spec for scaler in scalers]
    return int(spec["minReplicaCount"] if "minReplicaCount" in spec else spec["minReplicas"])


@every_overlay
def test_a_disruption_takes_one_of_several_and_a_single_one_is_not_guarded(name: str) -> None:
    """A budget for one pod would hold up every drain of its node for ever."""
    objects = rendered(name)
    budgets = some(objects, "PodDisruptionBudget")
    guarded = set()
    for budget in budgets:
        assert budget.spec["maxUnavailable"] == 1
        selected = [p for p in pods(objects) if p.has(budget.spec["selector"]["matchLabels"])]
        assert len(selected) == 1, str(budget)
        guarded.add(selected[0].owner.name)
    for owner in some(objects, "Deployment"):
        assert (owner.name in guarded) == (_least(owner, objects) >= 2), str(owner)


@every_overlay
def test_an_autoscaler_has_a_target_and_bounds(name: str) -> None:
    objects = rendered(name)
    for scaler in some(objects, "ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler.spec["scaleTargetRef"]
        (owner,) = [o for o in some(objects, "Deployment") if o.name == target["name"]]
        keda = scaler.kind == "ScaledObject"
        least = scaler.spec["minReplicaCount" if keda else "minReplicas"]
        most = scaler.spec["maxReplicaCount" if keda else "maxReplicas"]
        assert 0 <= least <= most
        assert most >= 1
        # That of the cluster, which is none here. A manifest without one would set it to one.
        assert owner.spec["replicas"] == max(least, 1)


@every_overlay
def test_every_workload_has_a_number(name: str) -> None:
    for owner in some(rendered(name), "Deployment", "StatefulSet"):
        assert owner.spec["replicas"] >= 0, str(owner)


def _queries(scaler: Object) -> list[dict[str, Any]]:
    return [t["metadata"] for t in scaler.spec["triggers"] if t["type"] == "prometheus"]


def test_an_answer_that_is_missing_is_no_zero() -> None:
    for scaler in some(rendered("keda"), "ScaledObject"):
        assert scaler.spec["fallback"]["replicas"] >= 1
        for query in _queries(scaler):
            assert query["ignoreNullValues"] == "false"


def test_a_query_reads_what_a_monitor_of_this_release_collects() -> None:
    """The Prometheus operator calls the job of a PodMonitor `namespace/name`."""
    objects = render(overlay("keda"), apis=(*KEDA, *MONITORING))
    jobs = {f"{NAMESPACE}/{monitor.name}" for monitor in some(objects, "PodMonitor")}
    for scaler in some(objects, "ScaledObject"):
        for query in _queries(scaler):
            found = JOB.findall(query["query"])
            assert found
            assert set(found) <= jobs, query["query"]
            assert f'namespace="{NAMESPACE}"' in query["query"]


def _named(query: str) -> set[str]:
    """The metrics of a query: written out, or as `{__name__=~"prefix(one|other)"`."""
    named = set(METRIC.findall(query))
    for prefix, others in NAMES.findall(query):
        named |= {f"{prefix}{other}" for other in others.split("|")}
    return named


def test_a_query_names_metrics_that_there_are() -> None:
    known = metrics()
    for scaler in some(rendered("keda"), "ScaledObject"):
        for query in _queries(scaler):
            names = _named(query["query"])
            assert names
            assert names <= known, names - known


def test_a_request_that_waits_for_the_first_engine_is_demand() -> None:
    """With no replica it is neither at one nor in line: it is held. None of it may hide another,
    as `or` does: it drops what has the labels of something before it."""
    scaler = one(rendered("keda"), "ScaledObject", component="engine")
    demand, *_ = [query["query"] for query in _queries(scaler)]
    assert _named(demand) >= {
        "gptoss_gateway_replica_requests_in_flight",
        "gptoss_gateway_queue_waiting",
        "gptoss_gateway_queue_held",
    }
    assert " or " not in demand


def test_nothing_of_keda_without_it() -> None:
    objects = rendered("keda", apis=MONITORING)
    engine = one(objects, "Deployment", component="engine")
    assert engine.spec["replicas"] == 1
    assert one(objects, "HorizontalPodAutoscaler").spec["minReplicas"] == 2


def test_an_engine_is_given_up_later_than_one_takes_to_start() -> None:
    for scaler in some(rendered("keda"), "ScaledObject", component="engine"):
        behaviour = scaler.spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert 600 <= scaler.spec["cooldownPeriod"] <= 3600
        assert 600 <= behaviour["scaleDown"]["stabilizationWindowSeconds"] <= 3600


@every_overlay
def test_gateways_are_spread(name: str) -> None:
    (gateway,) = pods(render(overlay(name), apis=EVERY_API), "gateway")
    keys = [one["topologyKey"] for one in gateway.spec["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for constraint in gateway.spec["topologySpreadConstraints"]:
        assert gateway.has(constraint["labelSelector"]["matchLabels"])
