"""The gateway's metrics. Labels are bounded: routes and outcomes are ours, models the served."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

# Seconds. They hold MLPerf's bounds for interactive and server scenarios (0.5, 2 and 3 s).
_TTFT = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 120)
_DURATION = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200)


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
        self.keys = Gauge("gptoss_gateway_keys", "Keys in the snapshot.", registry=self.registry)
        self.key_refresh_failures = Counter(
            "gptoss_gateway_key_refresh_failures",
            "Times the keys could not be refreshed; the last snapshot stayed in force.",
            registry=self.registry,
        )
