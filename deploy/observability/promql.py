"""PromQL that knows its labels: what asks for a label, or a value of one, that cannot be there is
refused while it is made, and not found out when a panel stays empty.

An `Expr` carries the labels that its result can have. All of them are within the page's namespaces,
except of metrics whose exporter is not in one (`everywhere`).
"""

from dataclasses import dataclass
from typing import Final

from deploy.observability.metric import Metric, metric
from service.telemetry.contract import Family, Kind

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
STEP: Final = 15
"""Seconds from one look to the next where something is added up over time: as often as the chart
has it scraped, and 30 days of dozens of engines are still far from what a query may load."""

Asked = Family | Metric


@dataclass(frozen=True, slots=True)
class Not:
    """Every value of a label but these; `among` is a variable of the page that it must fit, too."""

    values: tuple[str, ...]
    among: str = ""

    def __init__(self, *values: str, among: str = "") -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "among", among)


Value = str | tuple[str, ...] | Not


@dataclass(frozen=True, slots=True)
class Expr:
    """A query, and the labels that its series can have. `whole` needs no brackets around it."""

    text: str
    labels: frozenset[str]
    whole: bool = True

    def __str__(self) -> str:
        return self.text

    @property
    def inner(self) -> str:
        """As a part of another."""
        return self.text if self.whole else f"({self.text})"

    def __add__(self, other: "Expr") -> "Expr":
        return _pair(self, "+", other)

    def __sub__(self, other: "Expr") -> "Expr":
        return _pair(self, "-", other)

    def __mul__(self, other: "Expr | float") -> "Expr":
        return _pair(self, "*", other)

    def __truediv__(self, other: "Expr | float") -> "Expr":
        return _pair(self, "/", other)

    def __rsub__(self, number: float) -> "Expr":
        return Expr(f"{number:g} - {self.inner}", self.labels, whole=False)

    def above(self, number: float) -> "Expr":
        """Only the series above that."""
        return Expr(f"{self.inner} > {number:g}", self.labels, whole=False)

    def squared(self) -> "Expr":
        """To the power of two."""
        return Expr(f"{self.inner} ^ 2", self.labels, whole=False)

    def times(self, variable: str) -> "Expr":
        """Multiplied by a number that is a variable of the page."""
        return Expr(f"{self.inner} * {variable}", self.labels, whole=False)


def _pair(left: Expr, sign: str, right: "Expr | float") -> Expr:
    """Labels are the same on both sides, or the right one has fewer, for all of the left's."""
    if not isinstance(right, Expr):
        return Expr(f"{left.inner} {sign} {right:g}", left.labels, whole=False)
    if right.labels - left.labels:
        raise ValueError(f"the left side of {sign} lacks {sorted(right.labels - left.labels)}")
    match = ""
    if right.labels != left.labels:
        match = f" on ({', '.join(sorted(right.labels))}) group_left ()"
    return Expr(f"{left.inner} {sign}{match} {right.inner}", left.labels, whole=False)


def _matcher(label: str, value: Value) -> str:
    sign, values = "=", value
    if isinstance(value, Not):
        if value.among:
            return f"{_matcher(label, value.among)}, {_matcher(label, Not(*value.values))}"
        sign, values = "!", value.values
    if isinstance(values, str) and values.startswith("$"):
        return f'{label}=~"{values}"'
    if isinstance(values, str):
        return f'{label}="{values}"'
    assert isinstance(values, tuple)
    if len(values) == 1:
        return f'{label}{"!=" if sign == "!" else "="}"{values[0]}"'
    return f'{label}{"!~" if sign == "!" else "=~"}"{"|".join(values)}"'


def matchers(one: Metric, given: dict[str, Value], anywhere: bool = False) -> str:
    """What is in the braces, checked against what the metric has."""
    for label, value in given.items():
        values = (value,) if isinstance(value, str) else value
        known = values.values if isinstance(values, Not) else values
        one.check(label, tuple(each for each in known if not each.startswith("$")))
    own: dict[str, Value] = {} if anywhere else {"namespace": "$namespace"}
    text = ", ".join(_matcher(label, value) for label, value in (own | given).items())
    return f"{{{text}}}" if text else ""


def _select(asked: Asked, suffix: str, anywhere: bool, given: dict[str, Value]) -> Expr:
    one = metric(asked)
    return Expr(f"{one.name}{suffix}{matchers(one, given, anywhere)}", one.label_names)


def _of_kind(asked: Asked, *kinds: Kind) -> None:
    if metric(asked).kind not in kinds:
        raise ValueError(f"{metric(asked).name} is a {metric(asked).kind}")


def gauge(asked: Asked, **given: Value) -> Expr:
    """What it is now."""
    _of_kind(asked, Kind.GAUGE)
    return _select(asked, "", False, given)


def everywhere(asked: Asked, **given: Value) -> Expr:
    """A gauge of what is in no namespace of ours."""
    _of_kind(asked, Kind.GAUGE)
    return _select(asked, "", True, given)


def gauges(*asked: Family, **given: Value) -> Expr:
    """Several as one, so that what one has not got does not hide the others."""
    for one in asked:
        _of_kind(one, Kind.GAUGE)
        matchers(metric(one), given)
    prefix = "gptoss_gateway_"
    names = "|".join(one.name.removeprefix(prefix) for one in asked)
    text = matchers(metric(asked[0]), given)[1:]
    labels = frozenset.intersection(*(metric(one).label_names for one in asked))
    return Expr(f'{{__name__=~"{prefix}({names})", {text}', labels)


def _over(function: str, selected: Expr, window: str) -> Expr:
    return Expr(f"{function}({selected.text}[{window}])", selected.labels)


def rate(asked: Asked, window: str = RATE, **given: Value) -> Expr:
    """How many a second; of a histogram, how many observations."""
    _of_kind(asked, Kind.COUNTER, Kind.HISTOGRAM)
    suffix = "_count" if metric(asked).kind is Kind.HISTOGRAM else ""
    return _over("rate", _select(asked, suffix, False, given), window)


def increase(asked: Asked, window: str = RANGE, **given: Value) -> Expr:
    """How many in that time."""
    _of_kind(asked, Kind.COUNTER)
    return _over("increase", _select(asked, "", False, given), window)


def sums(asked: Asked, window: str = RATE, **given: Value) -> Expr:
    """What a histogram's observations add up to, a second."""
    _of_kind(asked, Kind.HISTOGRAM)
    return _over("rate", _select(asked, "_sum", False, given), window)


def averaged_values(asked: Asked, window: str, **given: Value) -> Expr:
    """The mean of what a gauge was at each look in that time."""
    _of_kind(asked, Kind.GAUGE)
    return _over("avg_over_time", _select(asked, "", False, given), window)


def slope(asked: Asked, window: str, **given: Value) -> Expr:
    """How fast a gauge grows, a second."""
    _of_kind(asked, Kind.GAUGE)
    return _over("deriv", _select(asked, "", False, given), window)


def averaged(expr: Expr, window: str = RANGE, step: str = RATE) -> Expr:
    """Its mean over that time, of values `step` apart: RATE grows with the time that is shown."""
    return Expr(f"avg_over_time({expr.inner}[{window}:{step}])", expr.labels)


def integral(expr: Expr, window: str = RANGE) -> Expr:
    """What it adds up to in that time, in seconds of its unit. Where it is not there it adds
    nothing: a mean, times that time, would count gaps as use."""
    text = f"sum_over_time({expr.inner}[{window}:{STEP}s]) * {STEP}"
    return Expr(text, expr.labels, whole=False)


def _aggregate(function: str, expr: Expr, by: tuple[str, ...]) -> Expr:
    if wrong := set(by) - expr.labels:
        raise ValueError(f"there is no {', '.join(sorted(wrong))} in {expr.text}")
    grouped = f" by ({', '.join(by)}) " if by else ""
    return Expr(f"{function}{grouped}({expr.text})", frozenset(by))


def total(expr: Expr, *by: str) -> Expr:
    """The sum of what each has: of counters, and of gauges that are each one's own."""
    return _aggregate("sum", expr, by)


def highest(expr: Expr, *by: str) -> Expr:
    """Of what all see alike, as of quotas: adding up would count it once per gateway."""
    return _aggregate("max", expr, by)


def lowest(expr: Expr, *by: str) -> Expr:
    """The worst of several of which more is better."""
    return _aggregate("min", expr, by)


def mean(expr: Expr, *by: str) -> Expr:
    """The average of all."""
    return _aggregate("avg", expr, by)


def number(expr: Expr, *by: str) -> Expr:
    """How many series there are."""
    return _aggregate("count", expr, by)


def quantile(which: float, asked: Asked, *by: str, window: str = RATE, **given: Value) -> Expr:
    """Of all observations together: percentiles of replicas cannot be averaged."""
    buckets = _buckets("rate", asked, window, by, given)
    return Expr(f"histogram_quantile({which:g}, {buckets.text})", buckets.labels - {"le"})


def heat(asked: Asked, **given: Value) -> Expr:
    """How many observations a second fell into each bucket, for a heatmap. Not how many: a rate's
    window is longer than a cell, so that cells would count the same ones again."""
    return _buckets("rate", asked, RATE, (), given)


def _buckets(
    function: str, asked: Asked, window: str, by: tuple[str, ...], given: dict[str, Value]
) -> Expr:
    _of_kind(asked, Kind.HISTOGRAM)
    selected = _select(asked, "_bucket", False, given)
    counted = _over(function, Expr(selected.text, selected.labels | {"le"}), window)
    return total(counted, "le", *by)


def or_none(expr: Expr, base: Expr) -> Expr:
    """0 where nothing of it was counted but `base` is there: a metric that is missing stays so."""
    if expr.labels != base.labels:
        raise ValueError(f"{expr.text} and {base.text} do not have the same labels")
    return Expr(f"{expr.inner} or 0 * {base.inner}", expr.labels, whole=False)


def or_if_none(expr: Expr, number: float, base: Expr) -> Expr:
    """That number where `base` is 0, by which `expr` would be divided. It is none where `base` is
    not there at all: a metric that is missing stays so."""
    if expr.labels != base.labels:
        raise ValueError(f"{expr.text} and {base.text} do not have the same labels")
    return Expr(f"{expr.inner} or ({base.inner} == 0) + {number:g}", expr.labels, whole=False)


def of(expr: Expr, which: Expr, *on: str) -> Expr:
    """Only series of `expr` that `which` has too, by these labels."""
    if wrong := set(on) - (expr.labels & which.labels):
        raise ValueError(f"not in both: {', '.join(sorted(wrong))}")
    text = f"{expr.inner} and on ({', '.join(on)}) {which.inner}"
    return Expr(text, expr.labels, whole=False)


def renamed(expr: Expr, old: str, new: str) -> Expr:
    """With a label under another name, as `model_name` of vLLM is the gateway's `model`."""
    if old not in expr.labels:
        raise ValueError(f"there is no {old} in {expr.text}")
    # Of one label, joined, is a copy. The `$1` of label_replace is for Grafana a variable's name.
    text = f'label_join({expr.text}, "{new}", "", "{old}")'
    return Expr(text, expr.labels | {new})


def least(expr: Expr, bound: float) -> Expr:
    """Not below that."""
    return Expr(f"clamp_min({expr.text}, {bound:g})", expr.labels)


def values(asked: Asked, label: str, **given: Value) -> str:
    """The query of a variable: which values a label has."""
    one = metric(asked)
    one.check(label, ())
    suffix = "_count" if one.kind is Kind.HISTOGRAM else ""
    chosen = matchers(one, given, anywhere=label == "namespace")
    return f"label_values({one.name}{suffix}{chosen}, {label})"
