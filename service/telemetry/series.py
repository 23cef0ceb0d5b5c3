"""The metrics of pools and replicas, of those that there are at the moment of a scrape."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import Metric

from service.routing.health import State
from service.routing.pool import Pool
from service.routing.upstreams import Upstreams
from service.telemetry import contract
from service.telemetry.contract import Family
from service.telemetry.metrics import Value, shown


def series(upstreams: Upstreams) -> Iterator[Metric]:
    """Bounded by the number of pools and replicas: one that is gone has no series any more."""
    pools = list(upstreams.pools.values())
    yield shown(contract.REPLICAS, _states(pools))
    yield _of(pools, contract.QUEUE_WAITING, lambda pool: pool.turnstile.waiting)
    yield _of(pools, contract.QUEUE_WORK, lambda pool: pool.turnstile.waiting_work)
    yield _of(pools, contract.QUEUE_HELD, lambda pool: pool.held)
    yield _of(pools, contract.UNSERVED, lambda pool: pool.unserved)
    yield _of(pools, contract.QUEUE_OLDEST, lambda pool: pool.turnstile.oldest_wait)
    yield _of(pools, contract.RETRIES_REFUSED, lambda pool: pool.budget.refused)
    yield shown(contract.REPLICA_OUTS, _outs(pools))
    yield shown(contract.REPLICA_STATE, _replica_states(pools))
    replicas = [(pool.name, one) for pool in pools for one in pool.replicas.values()]
    yield shown(
        contract.REPLICA_REQUESTS, (((pool, one.url), one.in_flight) for pool, one in replicas)
    )
    yield shown(contract.REPLICA_TOKENS, (((pool, one.url), one.tokens) for pool, one in replicas))


def _of(pools: list[Pool], family: Family, value: Callable[[Pool], float]) -> Metric:
    return shown(family, (((pool.name,), value(pool)) for pool in pools))


def _states(pools: list[Pool]) -> Iterator[Value]:
    for pool in pools:
        states = Counter(replica.health.state(pool.now) for replica in pool.replicas.values())
        for state in State:
            yield (pool.name, state.value), states[state]


def _replica_states(pools: list[Pool]) -> Iterator[Value]:
    for pool in pools:
        for replica in pool.replicas.values():
            current = replica.health.state(pool.now)
            for state in State:
                yield (pool.name, replica.url, state.value), state is current


def _outs(pools: list[Pool]) -> Iterator[Value]:
    for pool in pools:
        for reason, total in pool.outs.items():
            yield (pool.name, reason), total
