"""What is to be seen of the replicas: for `gptoss upstreams`, the admin API and a person."""

from typing import Any

from service.routing.pool import Pool
from service.routing.replica import Replica
from service.routing.upstreams import Upstreams


def picture(upstreams: Upstreams) -> dict[str, Any]:
    """Models, pools and replicas as JSON. Work is in tokens, times are seconds."""
    catalog = upstreams.catalog
    return {
        "models": {name: catalog.described(name) for name in catalog.models},
        "pools": [_pool(pool, upstreams) for pool in upstreams.pools.values()],
    }


def _pool(pool: Pool, upstreams: Upstreams) -> dict[str, Any]:
    line = pool.turnstile
    return {
        "name": pool.name,
        "model": pool.model,
        "works": pool.works,
        "in_flight": sum(replica.in_flight for replica in pool.replicas.values()),
        "admitted": line.granted,
        "waiting": line.waiting,
        "waiting_work": line.waiting_work,
        "retries": pool.budget.spent,
        "retries_refused": pool.budget.refused,
        "discovery_errors": upstreams.discovery_errors(pool.name),
        "replicas": [_replica(replica, pool.now) for replica in pool.replicas.values()],
    }


def _replica(replica: Replica, now: float) -> dict[str, Any]:
    health, report = replica.health, replica.report
    return {
        "url": replica.url,
        "state": health.state(now).value if replica.answered or health.reason else "unknown",
        "share": round(health.share(now), 2),
        "reason": health.reason,
        "last_error": health.last_error,
        "ejections": health.ejections,
        "in_flight": replica.in_flight,
        "slots": replica.slots,
        "tokens_in_flight": replica.tokens,
        "engine_running": report.running if report else None,
        "engine_waiting": report.waiting if report else None,
        "kv_usage": round(report.kv_usage, 4) if report else None,
        "report_age": round(now - report.at, 1) if report else None,
    }
