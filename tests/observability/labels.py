"""What a vector has: its labels with their values, and what it does with time."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.observability.catalog import Kind, Values
from tests.observability.macros import UNKNOWN


@dataclass(frozen=True, slots=True)
class Vector:
    """What an expression gives. Where labels are `open`, there may be others too. `may_lack` are
    those that only some of its series have."""

    labels: Mapping[str, Values]
    kind: Kind = Kind.GAUGE
    open: bool = False
    may_lack: frozenset[str] = frozenset()

    def has(self, label: str) -> bool:
        """Whether it may have a label."""
        return self.open or label in self.labels or label == UNKNOWN

    def only(self, labels: Iterable[str]) -> "Vector":
        """What `by` leaves of it."""
        kept = {label: self.labels.get(label) for label in labels}
        return Vector(kept, self.kind, UNKNOWN in kept, self.may_lack & kept.keys())

    def without(self, labels: Iterable[str]) -> "Vector":
        """What `without` leaves of it."""
        gone = set(labels)
        kept = {label: values for label, values in self.labels.items() if label not in gone}
        return Vector(kept, self.kind, self.open or UNKNOWN in gone, self.may_lack & kept.keys())

    def extended(self, label: str, values: Values = None) -> "Vector":
        """With a label more."""
        return Vector({**self.labels, label: values}, self.kind, self.open, self.may_lack)

    def merged(self, other: "Vector") -> "Vector":
        """Series of both together."""
        labels: dict[str, Values] = {}
        for label in self.labels.keys() | other.labels.keys():
            mine, others = self._values(label), other._values(label)
            labels[label] = None if mine is None or others is None else mine | others
        lack = self.may_lack | other.may_lack | (self.labels.keys() ^ other.labels.keys())
        kind = self.kind if self.kind is other.kind else Kind.UNKNOWN
        return Vector(labels, kind, self.open or other.open, lack)

    def _values(self, label: str) -> Values:
        return self.labels.get(label, frozenset())


def impossible(values: Values, pattern: str, *, is_regex: bool) -> list[str]:
    """Those parts of a matcher's value, between its `|`, that no value of the label fits."""
    if values is None or UNKNOWN in pattern or (pattern == "" and not is_regex):
        return []
    if not is_regex:
        return [] if pattern in values else [pattern]
    return [one for one in alternatives(pattern) if not any(re.fullmatch(one, v) for v in values)]


def alternatives(pattern: str) -> list[str]:
    """A pattern's alternatives; those of one group in it are written out."""
    group = re.fullmatch(
        r"(?P<before>[\w:]*)\((?:\?:)?(?P<within>[^()]*)\)(?P<after>[\w:]*)", pattern
    )
    if group:
        return [f"{group['before']}{one}{group['after']}" for one in group["within"].split("|")]
    return pattern.split("|") if "(" not in pattern else [pattern]
