"""A page of metrics in Prometheus's format, read again and again: what became of each of them.

What it says is added up over the labels that the report does not tell apart. Counters are kept by
how much they have grown, so that a restart of the server is no fall.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from loadtest.known_metrics import KNOWN, Known
from loadtest.summary import Series

MOST_POINTS: Final = 600
"""Readings that are kept: beyond, every other one is dropped, and from then on left out."""
_STATISTIC: Final = "statistic"

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A sample's name and its labels."""


class Reading(msgspec.Struct, frozen=True):
    """What was so at one time: gauges as they are, all else by its growth since the first one."""

    time: float
    number: int
    values: dict[Key, float]


class Page:
    """All that was read of one page. `metrics` are names, with or without `_total`; none: those
    that are known."""

    def __init__(self, name: str, metrics: Sequence[str] = ()) -> None:
        self.name = name
        self._wanted = _lines(metrics or KNOWN)
        self._kinds: dict[str, str] = {}
        self._before: dict[Key, float] = {}
        self._grown: dict[Key, float] = {}
        self._readings: list[Reading] = []
        self._number = 0
        self._stride = 1

    def read(self, time: float, text: str) -> None:
        """Take what the page says at `time`, s. Raises `ValueError` where it says nothing that is
        wanted."""
        gauges: dict[Key, float] = {}
        found = False
        lines = "\n".join(self._wanted.findall(text)) + "\n"
        for family in text_string_to_metric_families(lines):
            metric = family.name + ("_total" if family.type == "counter" else "")
            known = KNOWN.get(metric, Known(metric))
            self._kinds[metric] = family.type
            for sample in family.samples:
                if math.isfinite(sample.value):
                    self._take(family.type, known, sample, gauges)
                    found = True
        if not found:
            raise ValueError("none of the wanted metrics is there")
        self._keep(Reading(time, self._number, self._grown | gauges))

    def series(self) -> list[Series]:
        """What there is to draw, each with at most `MOST_POINTS` points."""
        return [one for metric, kind in self._kinds.items() for one in self._of(metric, kind)]

    def _take(self, kind: str, known: Known, sample: Sample, gauges: dict[Key, float]) -> None:
        told = _told(sample, known)
        if kind in ("counter", "histogram", "summary"):
            if "quantile" not in sample.labels:
                self._grow((sample.name, _all(sample)), told, float(sample.value))
        elif known.highest:
            gauges[told] = max(gauges.get(told, -math.inf), float(sample.value))
        else:
            gauges[told] = gauges.get(told, 0.0) + float(sample.value)

    def _grow(self, key: Key | tuple[str, Labels], told: Key, value: float) -> None:
        before = self._before.get(key)
        if before is None:
            # What the first reading finds is from before; what appears later began at 0 since.
            growth = value if self._number else 0.0
        else:
            growth = value - before if value >= before else value  # It was restarted, at 0.
        self._before[key] = value
        self._grown[told] = self._grown.get(told, 0.0) + growth

    def _keep(self, reading: Reading) -> None:
        self._number += 1
        if reading.number % self._stride:
            return
        self._readings.append(reading)
        if len(self._readings) > MOST_POINTS:
            self._stride *= 2
            self._readings = [one for one in self._readings if not one.number % self._stride]

    def _of(self, metric: str, kind: str) -> Iterable[Series]:
        if kind == "counter":
            return self._told_apart(metric, self._rates)
        if kind in ("histogram", "summary"):
            mean = self._observed(metric, "mean", self._mean)
            return mean + self._observed(metric, "p99", self._p99) if kind == "histogram" else mean
        return self._told_apart(metric, self._levels)

    def _told_apart(
        self, metric: str, points: Callable[[list[Key]], list[tuple[float, float]]]
    ) -> list[Series]:
        """One for each set of labels that was ever anything; where none was, one for all."""
        keys = list(dict.fromkeys(k for r in self._readings for k in r.values if k[0] == metric))
        alive = [(key, points([key])) for key in keys]
        alive = [(key, drawn) for key, drawn in alive if any(value for _, value in drawn)]
        if not alive:
            return self._made(metric, {}, points(keys))
        return [one for key, drawn in alive for one in self._made(metric, dict(key[1]), drawn)]

    def _made(
        self, metric: str, labels: dict[str, str], points: list[tuple[float, float]]
    ) -> list[Series]:
        chosen = [(time, value) for time, value in points if time >= 0]
        times, values = [time for time, _ in chosen], [value for _, value in chosen]
        return [Series(self.name, metric, labels, times, values)] if chosen else []

    def _levels(self, keys: list[Key]) -> list[tuple[float, float]]:
        return [
            (one.time, sum(one.values[key] for key in there))
            for one in self._readings
            if (there := [key for key in keys if key in one.values])
        ]

    def _rates(self, keys: list[Key]) -> list[tuple[float, float]]:
        return [
            (
                after.time,
                sum(_growth(before, after, key) for key in keys) / (after.time - before.time),
            )
            for before, after in pairwise(self._readings)
            if 0 < after.time - before.time < math.inf
        ]

    def _observed(
        self, metric: str, name: str, value: Callable[[str, Reading, Reading], float | None]
    ) -> list[Series]:
        points = [
            (after.time, found)
            for before, after in pairwise(self._readings)
            if (found := value(metric, before, after)) is not None
        ]
        return self._made(metric, {_STATISTIC: name}, points)

    @staticmethod
    def _mean(metric: str, before: Reading, after: Reading) -> float | None:
        """Of what was observed between two readings."""
        number = _growth(before, after, (f"{metric}_count", ()))
        return _growth(before, after, (f"{metric}_sum", ())) / number if number > 0 else None

    @staticmethod
    def _p99(metric: str, before: Reading, after: Reading) -> float | None:
        """Likewise, as Prometheus takes it from buckets: evenly within one."""
        bounds = sorted(
            (float(value), _growth(before, after, key))
            for key in after.values
            if key[0] == f"{metric}_bucket"
            for label, value in key[1]
            if label == "le"
        )
        return quantile(bounds, 0.99)


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Of a histogram: upper bounds in order, with how many were at most that. None if there were
    none, or no bound is finite."""
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, number in buckets:
        if number >= rank:
            if math.isinf(bound):
                break
            inside = (rank - below) / (number - below) if number > below else 1.0
            return low + (bound - low) * inside
        low, below = bound, number
    return low if len(buckets) > 1 else None


def _growth(before: Reading, after: Reading, key: Key) -> float:
    return after.values.get(key, 0.0) - before.values.get(key, 0.0)


def _all(sample: Sample) -> Labels:
    return tuple(sorted(sample.labels.items()))


def _told(sample: Sample, known: Known) -> Key:
    """Without the labels that are not told apart. A bucket's bound always is."""
    kept = ("le", *known.labels) if sample.name.endswith("_bucket") else known.labels
    return sample.name, tuple((name, sample.labels[name]) for name in kept if name in sample.labels)


def _short(name: str) -> str:
    return name.removesuffix("_total")


def _lines(metrics: Iterable[str]) -> re.Pattern[str]:
    """Finds the lines about these: the parser is slow, and a page of vLLM has thousands."""
    names = "|".join(sorted({re.escape(_short(name)) for name in metrics}))
    return re.compile(
        rf"^(?:# TYPE )?(?:{names})(?:_total)?(?:_bucket|_sum|_count)?[ \t{{].*$", re.MULTILINE
    )
