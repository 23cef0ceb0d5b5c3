"""The gateway's metrics in one process, made from the contract."""

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.telemetry import contract
from service.telemetry.contract import Family, Kind
from service.telemetry.slo import Bounds
from service.telemetry.tally import Tally
from service.telemetry.teams import Teams

_KINDS: dict[Kind, type[CounterMetricFamily | GaugeMetricFamily]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
}

M = TypeVar("M", bound=MetricWrapperBase)

Value = tuple[tuple[str, ...], float]
"""The labels' values, and the number."""


class _Shown(Collector):
    """Series that are made when somebody looks, of what is counted or comes and goes elsewhere."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        return self._make()


def shown(family: Family, values: Iterable[Value]) -> Metric:
    """A family whose values are known now."""
    metric = _KINDS[family.kind](family.name, family.help, labels=family.label_names)
    for labels, value in values:
        metric.add_metric(labels, float(value))
    return metric


class Children(dict[tuple[str, ...], M]):
    """What a family counts, by its labels: for the library to find it costs more than to count."""

    def __init__(self, family: M) -> None:
        super().__init__()
        self._family = family

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child = self[labels] = self._family.labels(*labels)
        return child


class Metrics:
    """Every metric of one gateway process, in a registry of its own.

    At most `most_teams` have a label of their own; `bounds` are what objectives go by.
    """

    def __init__(self, most_teams: int, bounds: Bounds) -> None:
        # When a series began is a series of its own for each, and Prometheus sees it anyway.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.teams = Teams(most_teams)
        self.bounds = bounds
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = self._counter(contract.REQUESTS)
        self.in_flight = self._gauge(contract.IN_FLIGHT)
        self.streams_open = self._gauge(contract.STREAMS_OPEN)
        self.streams = self._counter(contract.STREAMS)
        self.chunks = self._counter(contract.CHUNKS)
        self.duration = self._histogram(contract.DURATION)
        self.ttft = self._histogram(contract.TTFT)
        self.itl = Tally(contract.ITL)
        self.registry.register(self.itl)
        self.tpot = self._histogram(contract.TPOT)
        self.added = self._histogram(contract.ADDED)
        self.tokens = self._counter(contract.TOKENS_CHARGED)
        self.engine_tokens = self._counter(contract.ENGINE_TOKENS)
        self.slo_requests = self._counter(contract.SLO_REQUESTS)
        self.slo_good = self._counter(contract.SLO_GOOD)
        self.admitted = self._counter(contract.ADMITTED)
        self.refused = self._counter(contract.REFUSED)
        self.degraded_decisions = self._counter(contract.DEGRADED_DECISIONS)
        self.store_seconds = self._histogram(contract.STORE)
        self.settlements = self._counter(contract.SETTLED)
        self.unconfirmed = self._counter(contract.UNCONFIRMED)
        self.queue_seconds = self._histogram(contract.QUEUE_SECONDS)
        self.crowded = self._counter(contract.QUEUE_REFUSED)
        self.retries = self._counter(contract.RETRIES)
        self.fallbacks = self._counter(contract.FALLBACKS)
        self.key_refresh_failures = self._counter(contract.KEY_REFRESH_FAILURES)
        self.loop_lag = self._histogram(contract.LOOP_LAG)
        self._gauge(contract.TEAMS_UNNAMED).set_function(lambda: self.teams.unnamed)
        self._gauge(contract.INFO).labels(version("gptoss-serving")).set(1)
        bound = self._gauge(contract.SLO_BOUND)
        bound.labels("ttft").set(bounds.ttft)
        bound.labels("tpot").set(bounds.tpot)

    def show(self, make: Callable[[], Iterable[Metric]]) -> None:
        """Have `make` called at each scrape. It must give a family whenever it is called."""
        self.registry.register(_Shown(make))

    def know(self, models: Iterable[str], engines: Iterable[str], teams: Iterable[str]) -> None:
        """Begin the series of these at 0: a rate sees only what grows, so that the first error of a
        series that begins with it would be none. `engines` are what these call their models. May be
        repeated."""
        self.teams.know(teams)
        for model in engines:
            for kind in contract.ENGINE_TOKENS.labels[-1].values:
                self.engine_tokens.labels(model, kind)
        # What a request counts as that was refused before its model was known.
        for model in (*models, contract.NONE):
            self._begin(model)
            for team in (*self.teams.names, contract.OTHER, contract.NONE):
                for slo in contract.SLOS:
                    self.slo_requests.labels(model, team, slo)
                    self.slo_good.labels(model, team, slo)

    def _begin(self, model: str) -> None:
        self.requests.labels("chat", model, contract.NONE, "200", "ok")
        self.requests.labels("chat", model, contract.NONE, "503", "engine_unavailable")
        for histogram in (self.tpot, self.added, self.queue_seconds):
            histogram.labels(model)
        for timed in (self.duration, self.ttft):
            timed.labels("chat", model)
        self.itl.begin(model)
        self.chunks.labels(model)
        by_model = (
            (self.streams, contract.STREAMS),
            (self.settlements, contract.SETTLED),
            (self.unconfirmed, contract.UNCONFIRMED),
            (self.crowded, contract.QUEUE_REFUSED),
            (self.retries, contract.RETRIES),
        )
        for counter, family in by_model:
            for value in family.labels[-1].values:
                counter.labels(model, value)
        for kind in contract.TOKENS:
            self.tokens.labels(model, contract.NONE, kind)
        self.fallbacks.labels(model, contract.NONE, "down")
        self.admitted.labels(contract.NONE)
        self.refused.labels(contract.NONE, "store", "away")

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.label_names, registry=self.registry)

    def _gauge(self, family: Family) -> Gauge:
        return Gauge(family.name, family.help, family.label_names, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(
            family.name,
            family.help,
            family.label_names,
            buckets=family.buckets,
            registry=self.registry,
        )
