"""Every series that a query may ask for, with its labels and their values: of the gateway by its
contract, of the engine by its golden page, and what Prometheus and exporters add."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Final

from prometheus_client.utils import floatToGoString

from deploy.observability.external import EXPORTERS
from service.telemetry import contract
from tests.observability import golden

Values = frozenset[str] | None
"""Those that a label can have; None where they are names, of which anything goes."""


class Kind(StrEnum):
    """What a series does with time."""

    COUNTER = "counter"
    """It only grows. Buckets, counts and sums are counters too."""
    GAUGE = "gauge"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Series:
    """All series of one name. Where labels are `open`, there may be others too."""

    kind: Kind
    labels: Mapping[str, Values] = field(default_factory=dict)
    open: bool = False


# What a scrape adds to each series, as the chart's monitors and `deploy/compose` do.
TARGET: Final[Mapping[str, Values]] = dict.fromkeys(
    ("namespace", "pod", "container", "endpoint", "job", "instance")
)

_exposed: Any = floatToGoString  # which has no types
_STATUSES = frozenset(f"{first}xx" for first in range(1, 6))
# Of Prometheus itself.
_BUILT_IN: Final = {
    "up": Series(Kind.GAUGE, TARGET),
    "scrape_duration_seconds": Series(Kind.GAUGE, TARGET),
    "scrape_samples_scraped": Series(Kind.GAUGE, TARGET),
    "scrape_series_added": Series(Kind.GAUGE, TARGET),
    "ALERTS": Series(
        Kind.GAUGE,
        {
            "alertname": None,
            "alertstate": frozenset({"firing", "pending"}),
            "severity": frozenset({"page", "ticket"}),
        },
        open=True,
    ),
}


def series_of(
    name: str, kind: str, labels: Mapping[str, Values], bounds: Iterable[str] = ()
) -> dict[str, Series]:
    """The series of one family, by their names. A counter's `name` has its `_total`."""
    labels = {**TARGET, **labels}
    counted = Series(Kind.COUNTER, labels)
    if kind == "counter":
        return {name: counted}
    if kind == "histogram":
        buckets = Series(Kind.COUNTER, {**labels, "le": frozenset(bounds)})
        return {f"{name}_bucket": buckets, f"{name}_sum": counted, f"{name}_count": counted}
    if kind == "summary":
        return {f"{name}_sum": counted, f"{name}_count": counted}
    return {name: Series(Kind.GAUGE, labels)}


def gateway() -> dict[str, Series]:
    """By the contract."""
    found: dict[str, Series] = {}
    for family in contract.FAMILIES:
        labels = {one.name: frozenset(one.values) or None for one in family.labels}
        is_counter = family.kind is contract.Kind.COUNTER
        name = family.exported if is_counter else family.name
        found |= series_of(name, family.kind.value, labels, bounds_of(family))
    return found


def bounds_of(family: contract.Family) -> tuple[str, ...]:
    """A histogram's bounds as its page has them."""
    return tuple(str(_exposed(one)) for one in (*family.buckets, float("inf")))


def engine() -> dict[str, Series]:
    """By the golden of the real one; its page also has what any Python process exports."""
    found: dict[str, Series] = {}
    for name, shape in golden.read().items():
        labels: dict[str, Values] = dict.fromkeys(shape["labels"])
        labels |= {
            label: frozenset(values)
            for label, values in shape.get("values", {}).items()
            if label not in golden.GROWING
        }
        if "status" in labels:
            labels["status"] = _STATUSES
        found |= series_of(name, shape["type"], labels, shape.get("le", ()))
    return found


@cache
def catalog() -> Mapping[str, Series]:
    """All of it, but for recording rules and exporters."""
    return _BUILT_IN | engine() | gateway()


@cache
def external() -> Mapping[str, Series]:
    """Of exporters that a cluster has beside us, as far as our dashboards ask them."""
    found: dict[str, Series] = {}
    for metric in (one for exporter in EXPORTERS for one in exporter.metrics):
        labels = {one.name: frozenset(one.values) or None for one in metric.labels}
        found |= series_of(metric.name, metric.kind.value, labels)
    return found
