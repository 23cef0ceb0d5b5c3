"""Judges PromQL by what there is: a query that can never show anything is found without a server.

complaints('rate(vllm:num_preemptions[5m])', catalog())  ->  ['there is no vllm:num_preemptions']

Each selector has to name a series that there is, with its suffix, by labels that it has, with
values that they can have; `by`, `on` and the like name labels that are left at that place, and two
sides of an operator have the same ones. A counter is seen through `rate` or its like, and a gauge
never is.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final

import promql_parser as promql

from tests.observability.catalog import Kind, Series
from tests.observability.labels import Vector, alternatives, impossible
from tests.observability.macros import UNKNOWN, substituted

_NAME: Final = "__name__"
_RATES: Final = frozenset({"rate", "irate", "increase"})
_OF_GAUGES: Final = frozenset({"delta", "idelta", "deriv", "predict_linear"})
_PRESENCE: Final = frozenset(
    {"absent", "absent_over_time", "present_over_time", "count_over_time"}
    | {"resets", "changes", "timestamp"}
)
_PASSING: Final = frozenset({"label_replace", "label_join", "sort", "sort_desc", "last_over_time"})
_COUNTING: Final = frozenset({"count", "group", "count_values"})
_KEEPING: Final = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_SETS: Final = frozenset({"and", "or", "unless"})

RAW: Final[Mapping[str, str]] = {}
"""Counters that a query may read as they are, each with the reason. No query has needed it yet."""

Result = Vector | None
"""What an expression gives: None for a number."""


class _Through(Enum):
    """Through what a selector is seen."""

    NOTHING = auto()
    RATE = auto()
    PRESENCE = auto()
    """Whether it is there is all that counts."""
    SLOPE = auto()
    """A function of gauges, that the reset of a counter would spoil."""


def complaints(
    query: str, known: Mapping[str, Series], raw: Iterable[str] = tuple(RAW)
) -> list[str]:
    """What is wrong with a query, a line for each."""
    walker = _Walker(known, frozenset(raw))
    try:
        walker.see(promql.parse(substituted(query)))
    except ValueError as error:
        return [f"cannot be read: {error}".replace("\n", " ")]
    return list(dict.fromkeys(walker.found))


def recorded(rules: Iterable[Mapping[str, Any]], known: Mapping[str, Series]) -> dict[str, Series]:
    """The series that recording rules make, by their names. One may go by those before it."""
    made: dict[str, Series] = {}
    for rule in rules:
        if "record" not in rule:
            continue
        walker = _Walker({**known, **made}, frozenset())
        try:
            vector = walker.see(promql.parse(rule["expr"])) or Vector({})
        except ValueError:  # which whoever judges the rule itself will say
            vector = Vector({}, open=True)
        for label, value in rule.get("labels", {}).items():
            vector = vector.extended(label, frozenset({str(value)}))
        if before := made.get(rule["record"]):
            vector = vector.merged(Vector(before.labels, before.kind, before.open))
        made[rule["record"]] = Series(Kind.GAUGE, vector.labels, vector.open)
    return made


class _Walker:
    """Goes through one expression, and writes down what it finds."""

    def __init__(self, known: Mapping[str, Series], raw: frozenset[str]) -> None:
        self._known = known
        self._raw = raw
        self.found: list[str] = []

    def see(self, node: promql.Expr, through: _Through = _Through.NOTHING) -> Result:
        """What an expression gives."""
        match node:
            case promql.VectorSelector():
                return self._selector(node, through)
            case promql.MatrixSelector():
                return self._selector(node.vector_selector, through)
            case promql.ParenExpr() | promql.UnaryExpr():
                return self.see(node.expr, through)
            case promql.SubqueryExpr():
                return self._subquery(node, through)
            case promql.AggregateExpr():
                return self._aggregate(node)
            case promql.BinaryExpr():
                return self._binary(node)
            case promql.Call():
                return self._call(node, through)
        return None  # a number, or a text

    # Selectors.

    def _selector(self, node: promql.VectorSelector, through: _Through) -> Vector:
        names = self._names(node)
        vectors = []
        for name in names:
            if (series := self._known.get(name)) is None:
                self.found.append(f"there is no {name}{self._near(name)}")
                continue
            self._judge_time(name, series.kind, through)
            for matcher in _matchers(node):
                self._judge_matcher(name, series, matcher)
            vectors.append(Vector(series.labels, series.kind, series.open))
        if not vectors:
            return Vector({}, Kind.UNKNOWN, open=True)
        result = vectors[0]
        for vector in vectors[1:]:
            result = result.merged(vector)
        return result

    def _names(self, node: promql.VectorSelector) -> list[str]:
        """Of the series that it selects."""
        if node.name is not None:
            return [node.name]
        names: list[str] = []
        for matcher in _matchers(node):
            if matcher.name == _NAME and matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re):
                for one in alternatives(matcher.value):
                    fitting = [name for name in self._known if re.fullmatch(one, name)]
                    names += fitting or [one]
        if not names:
            self.found.append(f"{node.prettify()} names no metric")
        return names

    def _near(self, name: str) -> str:
        """The name with its right suffix, if that is what is wrong."""
        stem = re.sub("_(total|bucket|count|sum)$", "", name)
        near = [
            f"{stem}{end}" for end in ("", "_total", "_bucket") if f"{stem}{end}" in self._known
        ]
        return f", but {near[0]}" if near else ""

    def _judge_time(self, name: str, kind: Kind, through: _Through) -> None:
        if kind is Kind.COUNTER and through is _Through.NOTHING and name not in self._raw:
            self.found.append(f"{name} is a counter: its rate or increase says something")
        elif kind is Kind.COUNTER and through is _Through.SLOPE:
            self.found.append(f"{name} is a counter, and the function is for gauges")
        elif kind is Kind.GAUGE and through is _Through.RATE:
            self.found.append(f"{name} is a gauge, and rate or increase are for counters")

    def _judge_matcher(self, name: str, series: Series, matcher: promql.Matcher) -> None:
        label = matcher.name
        if label in (_NAME, UNKNOWN):
            return
        if label not in series.labels:
            if not series.open:
                self.found.append(f"{name} has no label {label}")
            return
        is_regex = matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
        for value in impossible(series.labels[label], matcher.value, is_regex=is_regex):
            self.found.append(f"{name} has no {label} {value!r}")

    # What is made of them.

    def _subquery(self, node: promql.SubqueryExpr, through: _Through) -> Result:
        within = node.expr
        while isinstance(within, promql.ParenExpr):
            within = within.expr
        if isinstance(within, promql.VectorSelector):
            return self.see(within, through)
        if through is _Through.RATE:
            self.found.append(f"rate of {within.prettify()}: it hides the resets of counters")
        return self.see(within)

    def _aggregate(self, node: promql.AggregateExpr) -> Vector:
        op = str(node.op)
        seen = self.see(
            node.expr, _Through.PRESENCE if op in _COUNTING else _Through.NOTHING
        ) or Vector({})
        result = Vector({}, seen.kind)
        if (modifier := node.modifier) is not None:
            self._need(seen, modifier.labels, f"of {op}")
            by = modifier.type == promql.AggModifierType.By
            result = seen.only(modifier.labels) if by else seen.without(modifier.labels)
        if op in _KEEPING:
            return seen
        if op == "count_values" and node.param is not None:
            return result.extended(node.param.val)
        return result

    def _call(self, node: promql.Call, through: _Through) -> Result:
        name = node.func.name
        within = _through(name, through)
        seen = [self.see(argument, within) for argument in node.args]
        vectors = [one for one in seen if one is not None]
        if str(node.func.return_type).endswith("Scalar"):
            return None
        if name in ("absent", "absent_over_time"):
            return _absent(node.args[0])
        if not vectors:
            return Vector({})
        vector = vectors[0]
        if name in ("label_replace", "label_join"):
            target, others = _relabelled(node)
            self._need(vector, others, f"of {name}")
            return vector.extended(target)
        if name in ("histogram_quantile", "histogram_fraction"):
            self._need(vector, ["le"], f"of {name}")
            return vector.without(["le"])
        return vector

    def _binary(self, node: promql.BinaryExpr) -> Result:
        op = str(node.op)
        presence = _Through.PRESENCE if op in ("and", "unless") else _Through.NOTHING
        left, right = self.see(node.lhs), self.see(node.rhs, presence)
        if left is None or right is None:
            return left or right
        modifier = node.modifier
        matching = modifier.matching if modifier else None
        names = list(matching.labels) if matching else []
        on = matching is not None and matching.type == promql.LabelModifierType.Include
        if on:
            self._need(left, names, f"left of {op}")
            self._need(right, names, f"right of {op}")
        else:
            self._need(left.merged(right), names, f"at {op}")
            if op != "or":
                self._judge_sides(left.without(names), right.without(names), op)
        if op in _SETS:
            return left.merged(right) if op == "or" else left
        many = modifier.card if modifier else None
        grouped = (modifier.group_labels if modifier else None) or []
        if many == promql.VectorMatchCardinality.ManyToOne:
            return self._grouped(left, right, grouped, op)
        if many == promql.VectorMatchCardinality.OneToMany:
            return self._grouped(right, left, grouped, op)
        return left.only(names) if on else left.without(names)

    def _grouped(self, many: Vector, one: Vector, labels: list[str], op: str) -> Vector:
        self._need(one, labels, f"on the one side of {op}")
        for label in labels:
            many = many.extended(label, one.labels.get(label))
        return many

    def _judge_sides(self, left: Vector, right: Vector, op: str) -> None:
        """A label that just one side has is never equal on both."""
        if left.open or right.open:
            return
        uncertain = left.may_lack | right.may_lack
        if alone := sorted((left.labels.keys() ^ right.labels.keys()) - uncertain):
            self.found.append(f"the sides of {op} never match: just one has {', '.join(alone)}")

    def _need(self, vector: Vector, labels: Iterable[str], where: str) -> None:
        for label in labels:
            if not vector.has(label):
                self.found.append(f"there is no label {label} {where}")


def _matchers(node: promql.VectorSelector) -> list[promql.Matcher]:
    """All of it, also those between `or`."""
    return [*node.matchers.matchers, *(one for group in node.matchers.or_matchers for one in group)]


def _through(function: str, outer: _Through) -> _Through:
    """What a function's argument is seen through."""
    if function in _PASSING:
        return outer
    if function in _RATES:
        return _Through.RATE
    if function in _PRESENCE:
        return _Through.PRESENCE
    return _Through.SLOPE if function in _OF_GAUGES else _Through.NOTHING


def _absent(argument: promql.Expr) -> Vector:
    """It has the labels that the selector is equal to."""
    selector = argument.vector_selector if isinstance(argument, promql.MatrixSelector) else argument
    if not isinstance(selector, promql.VectorSelector):
        return Vector({})
    equal = [one.name for one in _matchers(selector) if one.op == promql.MatchOp.Equal]
    return Vector(dict.fromkeys(equal))


def _relabelled(node: promql.Call) -> tuple[str, list[str]]:
    """The label that `label_replace` or `label_join` makes, and those that it reads."""
    texts = [one.val for one in node.args[1:]]
    return texts[0], texts[2:3] if node.func.name == "label_replace" else texts[2:]
