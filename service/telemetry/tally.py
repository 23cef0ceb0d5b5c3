"""A histogram that takes the observations of a whole request at once.

The library's own takes them one by one, at a lock and a search of labels each: too much for every
piece of every stream.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.telemetry.contract import Family


class Tally(Collector):
    """One family with a single label, in this process."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._edges = [*(repr(edge) for edge in family.buckets), "+Inf"]
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def begin(self, label: str) -> None:
        """Have a series for `label`, at 0 where it is new."""
        if label not in self._counts:
            self._counts[label] = [0] * len(self._edges)
            self._sums[label] = 0.0

    def add(self, label: str, counts: Sequence[int], total: float) -> None:
        """Add observations: how many in each bucket, not cumulative, the last one for what is above
        all bounds; and their sum."""
        self.begin(label)
        own = self._counts[label]
        for place, count in enumerate(counts):
            if count:
                own[place] += count
        self._sums[label] += total

    def collect(self) -> Iterable[Metric]:
        """For a scrape."""
        family = self._family
        metric = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
        for label, counts in self._counts.items():
            buckets = list(zip(self._edges, accumulate(counts), strict=True))
            metric.add_metric((label,), buckets, self._sums[label])
        yield metric
