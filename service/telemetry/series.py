"""The metrics of pools and replicas, of those that there are at the moment of a scrape."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from service.routing.health import State
from service.routing.pool import Pool
from service.routing.upstreams import Upstreams


def series(upstreams: Upstreams) -> Iterator[Metric]:
    """Bounded by the number of pools and replicas: one that is gone has no series any more."""
    pools = list(upstreams.pools.values())
    yield _states(pools)
    yield _gauge(pools, "queue_waiting", "Requests that wait in line.", "waiting")
    yield _gauge(pools, "queue_waiting_tokens", "Estimated work that waits.", "waiting_work")
    yield _held(pools)
    yield _gauge(pools, "queue_oldest_seconds", "Longest wait of those in line.", "oldest_wait")
    yield from _budgets(pools)
    yield from _replicas(pools)


def _states(pools: list[Pool]) -> Metric:
    family = GaugeMetricFamily(
        "gptoss_gateway_replicas", "Replicas, by state.", labels=("pool", "state")
    )
    for pool in pools:
        states = Counter(replica.health.state(pool.now) for replica in pool.replicas.values())
        for state in State:
            family.add_metric((pool.name, state.value), states[state])
    return family


def _held(pools: list[Pool]) -> Metric:
    family = GaugeMetricFamily(
        "gptoss_gateway_queue_held",
        "Requests that wait for a replica to come. They are not in line yet.",
        labels=("pool",),
    )
    for pool in pools:
        family.add_metric((pool.name,), pool.held)
    return family


def _gauge(pools: list[Pool], name: str, text: str, attribute: str) -> Metric:
    family = GaugeMetricFamily(f"gptoss_gateway_{name}", text, labels=("pool",))
    for pool in pools:
        family.add_metric((pool.name,), getattr(pool.turnstile, attribute))
    return family


def _budgets(pools: list[Pool]) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "gptoss_gateway_retries_refused",
        "Retries that the retry budget did not allow.",
        labels=("pool",),
    )
    ejections = CounterMetricFamily(
        "gptoss_gateway_replica_outs",
        "Times that a replica that is still there was taken out, by why.",
        labels=("pool", "reason"),
    )
    for pool in pools:
        refused.add_metric((pool.name,), pool.budget.refused)
        for reason in ("ejections", "downs", "stalls"):
            total = sum(getattr(one.health, reason) for one in pool.replicas.values())
            ejections.add_metric((pool.name, reason), total)
    yield refused
    yield ejections


def _replicas(pools: list[Pool]) -> Iterator[Metric]:
    requests = GaugeMetricFamily(
        "gptoss_gateway_replica_requests_in_flight",
        "Requests of this gateway at a replica.",
        labels=("pool", "replica"),
    )
    tokens = GaugeMetricFamily(
        "gptoss_gateway_replica_tokens_in_flight",
        "Estimated work of these requests, tokens.",
        labels=("pool", "replica"),
    )
    for pool in pools:
        for replica in pool.replicas.values():
            labels = (pool.name, replica.url)
            requests.add_metric(labels, replica.in_flight)
            tokens.add_metric(labels, replica.tokens)
    yield requests
    yield tokens
