"""What a query is written about, whoever exports it."""

from dataclasses import dataclass

from service.telemetry.contract import Family, Kind, Label

TARGET = ("namespace", "pod", "container", "job", "instance")
"""Labels that Prometheus puts on all it scrapes: in Kubernetes by the chart's PodMonitors; compose
has no containers of pods, and names the rest in prometheus.yml."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by the name that queries use; of a histogram, that without `_bucket`."""

    name: str
    kind: Kind
    labels: tuple[Label, ...] = ()

    @property
    def label_names(self) -> frozenset[str]:
        """Its own, and those of what it was scraped from."""
        return frozenset(label.name for label in self.labels) | frozenset(TARGET)

    def check(self, label: str, values: tuple[str, ...]) -> None:
        """That it can have the label, and the label these values."""
        if label not in self.label_names:
            raise ValueError(f"{self.name} has no label {label}")
        known = next((one.values for one in self.labels if one.name == label), ())
        if known and (wrong := set(values) - set(known)):
            raise ValueError(f"{label} of {self.name} is never {', '.join(sorted(wrong))}")


def metric(one: Family | Metric) -> Metric:
    """A metric of the gateway's contract, or of somebody else's, alike."""
    if isinstance(one, Metric):
        return one
    name = one.name if one.kind is Kind.HISTOGRAM else one.exported
    return Metric(name, one.kind, one.labels)
