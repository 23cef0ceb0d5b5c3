"""The gateway's metrics. Labels are bounded: routes and outcomes are ours, models the served."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# Seconds. They hold MLPerf's bounds for interactive and server scenarios (0.5, 2 and 3 s).
_TTFT = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 120)
_STORE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5)
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_DURATION = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200)


class _Shown(Collector):
    """Series that are made when somebody looks, of what comes and goes meanwhile."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        return self._make()


class Metrics:
    """Every metric of one gateway process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "gptoss_gateway_requests",
            "Requests answered, by how they ended (`ok`, `client_gone` or the error's code).",
            ("route", "model", "status", "outcome"),
            registry=self.registry,
        )
        self.duration = Histogram(
            "gptoss_gateway_request_duration_seconds",
            "From a request's first byte to its answer's last.",
            ("route", "model"),
            buckets=_DURATION,
            registry=self.registry,
        )
        self.first_event = Histogram(
            "gptoss_gateway_time_to_first_event_seconds",
            "From a streamed request's first byte to its answer's first event.",
            ("route", "model"),
            buckets=_TTFT,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "gptoss_gateway_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.refused = Counter(
            "gptoss_gateway_quota_refused",
            "Requests refused, by the place and the kind of the limit that was in the way.",
            ("scope", "limit"),
            registry=self.registry,
        )
        self.crowded = Counter(
            "gptoss_gateway_queue_refused",
            "Requests that found no place in line, by why: full, late, displaced or expired.",
            ("model", "reason"),
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "gptoss_gateway_queue_seconds",
            "What requests waited in line for a replica.",
            ("model",),
            buckets=_WAIT,
            registry=self.registry,
        )
        self.retries = Counter(
            "gptoss_gateway_retries",
            "Requests sent to another replica, by what went wrong with the one before.",
            ("model", "fault"),
            registry=self.registry,
        )
        self.fallbacks = Counter(
            "gptoss_gateway_fallbacks",
            "Requests answered by the fallback of the model they asked for.",
            ("model", "fallback", "reason"),
            registry=self.registry,
        )
        self.settlements = Counter(
            "gptoss_gateway_settlements",
            "Admitted requests that ended, by how their use is known.",
            ("model", "settlement"),
            registry=self.registry,
        )
        self.tokens = Counter(
            "gptoss_gateway_tokens",
            "Tokens charged; cached ones are among the prompt's, reasoning among the completion's.",
            ("model", "kind"),
            registry=self.registry,
        )
        self.engine_tokens = Counter(
            "gptoss_gateway_engine_tokens",
            "Tokens that the engines themselves have counted since this gateway began.",
            ("model", "kind"),
            registry=self.registry,
        )
        self.degraded_decisions = Counter(
            "gptoss_gateway_quota_degraded_decisions",
            "Requests decided by this gateway's own counters, while the quota store was away.",
            registry=self.registry,
        )
        self.store_seconds = Histogram(
            "gptoss_gateway_quota_store_seconds",
            "What requests waited for the quota store.",
            buckets=_STORE,
            registry=self.registry,
        )
        self.gateways = Gauge(
            "gptoss_gateway_gateways",
            "Gateways that share the quota store, as far as this one knows.",
            registry=self.registry,
        )
        self.quota_degraded = Gauge(
            "gptoss_gateway_quota_degraded",
            "1 while the quota store does not answer.",
            registry=self.registry,
        )
        self.quota_restored = Gauge(
            "gptoss_gateway_quota_restored_total",
            "Times that the quota store had forgotten, and was told what the ledger knows.",
            registry=self.registry,
        )
        self.settlements_pending = Gauge(
            "gptoss_gateway_settlements_pending",
            "Settlements that the quota store has not got yet.",
            registry=self.registry,
        )
        self.ledger_pending = Gauge(
            "gptoss_gateway_ledger_pending",
            "Lines of the ledger that are not in the database yet.",
            registry=self.registry,
        )
        self.journal_failed = Gauge(
            "gptoss_gateway_journal_failed",
            "1 while lines of the ledger wait that are in no journal: a kill would lose them.",
            registry=self.registry,
        )
        self.lost = Gauge(
            "gptoss_gateway_lost_records",
            "Settlements and lines of the ledger dropped for want of room. Must stay 0.",
            ("what",),
            registry=self.registry,
        )
        self.snapshot_age = Gauge(
            "gptoss_gateway_snapshot_age_seconds",
            "Since the teams and keys were last known to be current.",
            registry=self.registry,
        )
        self.keys = Gauge("gptoss_gateway_keys", "Keys in the snapshot.", registry=self.registry)
        self.key_refresh_failures = Counter(
            "gptoss_gateway_key_refresh_failures",
            "Times the keys could not be refreshed; the last snapshot stayed in force.",
            registry=self.registry,
        )

    def show(self, make: Callable[[], Iterable[Metric]]) -> None:
        """Have `make` called at each scrape, for series of replicas that come and go."""
        self.registry.register(_Shown(make))
