"""Panels of Grafana, as pure functions: what a panel shows goes in, its JSON comes out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.observability.promql import Asked, Expr, quantile

Json = dict[str, Any]
SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
Steps = tuple[tuple[float, str], ...]
"""From which value on it is which colour; below the first it is the one that `low` says."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and how its series are called. `once` asks for the last value alone."""

    expr: Expr
    legend: str = ""
    once: bool = False
    exemplars: bool = False


def percentiles(asked: Asked, **given: str) -> list[Query]:
    """Half, most, and nearly all; with examples of requests, where they are kept."""
    return [
        Query(quantile(which, asked, **given), f"p{round(which * 100)}", exemplars=True)
        for which in (0.5, 0.95, 0.99)
    ]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel with its size on the grid of 24 columns. What it shows nothing without is `needs`."""

    title: str
    body: Json
    wide: int
    high: int
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a query, its unit, and where its values turn bad."""

    name: str
    expr: Expr
    unit: str
    steps: Steps = ()
    low: str = GREEN
    links: tuple[Json, ...] = ()
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Of a panel with series, what seldom differs."""

    steps: Steps = ()
    low: str = GREEN
    least: float | None = 0
    most: float | None = None
    stacked: bool = False
    log: bool = False
    mappings: tuple[Json, ...] = ()
    decimals: int | None = None
    links: tuple[Json, ...] = ()
    colors: Mapping[str, str] = field(default_factory=dict)


PLAIN: Final = Look()


def page_link(title: str, uid: str, **variables: str) -> Json:
    """A link of a value to another page, with the namespaces, the data source and the time of this.

    `variables` are what it sets there, such as a model by `${__field.labels.model}`.
    """
    parts = [f"var-{name}={value}" for name, value in variables.items()]
    parts += ["${namespace:queryparam}", "${datasource:queryparam}", "${__url_time_range}"]
    return {"title": title, "url": f"/d/{uid}?{'&'.join(parts)}", "targetBlank": False}


def thresholds(steps: Steps, low: str = GREEN) -> Json:
    """Colours by value."""
    first: Json = {"color": low, "value": None}
    later = [{"color": color, "value": value} for value, color in steps]
    return {"mode": "absolute", "steps": [first, *later]}


def worded(words: Mapping[float, tuple[str, str]]) -> Json:
    """Numbers that are shown as a word in a colour."""
    options = {
        f"{value:g}": {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return {"type": "value", "options": options}


# What is divided by nothing is no number, and should look so.
_NO_NUMBER: Final[Json] = {
    "type": "special",
    "options": {"match": "nan", "result": {"text": "-", "index": 0}},
}


def _targets(queries: Iterable[Query], form: str = "time_series") -> list[Json]:
    return [
        {
            "datasource": SOURCE,
            "refId": chr(ord("A") + index),
            "editorMode": "code",
            "expr": query.expr.text,
            "legendFormat": query.legend or "__auto",
            "instant": query.once,
            "range": not query.once,
            "format": form,
            "exemplar": query.exemplars,
        }
        for index, query in enumerate(queries)
    ]


def _body(kind: str, title: str, description: str, targets: list[Json]) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "targets": targets,
    }


def _defaults(unit: str, look: Look) -> Json:
    given: Json = {
        "unit": unit,
        "thresholds": thresholds(look.steps, look.low),
        "color": {"mode": "thresholds"},
        "mappings": [*look.mappings, _NO_NUMBER],
        "links": list(look.links),
    }
    bounds = {"min": look.least, "max": look.most, "decimals": look.decimals}
    return given | {key: value for key, value in bounds.items() if value is not None}


_LAST: Final[Json] = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    look: Look = PLAIN,
    wide: int = 4,
    needs: str = "",
) -> Panel:
    """A number, over its line where it is asked for all times."""
    body = _body("stat", title, description, _targets(queries))
    body["fieldConfig"] = {"defaults": _defaults(unit, look), "overrides": []}
    body["options"] = {
        "colorMode": "value",
        "graphMode": "none" if all(query.once for query in queries) else "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": _LAST,
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    return Panel(title, body, wide, 4, needs)


def bars(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    look: Look = PLAIN,
    wide: int = 8,
    needs: str = "",
) -> Panel:
    """A bar for each series, as long as its value."""
    body = _body("bargauge", title, description, _targets(queries))
    body["fieldConfig"] = {"defaults": _defaults(unit, look), "overrides": []}
    body["options"] = {
        "displayMode": "basic",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "maxVizHeight": 40,
        "minVizHeight": 12,
        "minVizWidth": 8,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": _LAST,
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    return Panel(title, body, wide, 8, needs)


def lines(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    look: Look = PLAIN,
    wide: int = 8,
    needs: str = "",
) -> Panel:
    """Lines over time; where there are thresholds, the last colour's part of it is marked."""
    body = _body("timeseries", title, description, _targets(queries))
    defaults = _defaults(unit, look) | {"color": {"mode": "palette-classic"}}
    body["fieldConfig"] = {
        "defaults": defaults | {"custom": _line(look)},
        "overrides": [_colored(name, color) for name, color in look.colors.items()],
    }
    body["options"] = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(title, body, wide, 8, needs)


def _line(look: Look) -> Json:
    return {
        "drawStyle": "line",
        "fillOpacity": 25 if look.stacked else 5,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "scaleDistribution": {"type": "log", "log": 10} if look.log else {"type": "linear"},
        "showPoints": "auto",
        # A scrape that is missing is a gap.
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if look.stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if look.steps else "off"},
    }


def _colored(name: str, color: str) -> Json:
    properties = [{"id": "color", "value": {"fixedColor": color, "mode": "fixed"}}]
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def heatmap(title: str, description: str, unit: str, expr: Expr, wide: int = 12) -> Panel:
    """How many observations a second fell into each bucket, over time."""
    targets = _targets([Query(expr, "{{le}}")], "heatmap")
    body = _body("heatmap", title, description, targets)
    body["fieldConfig"] = {
        "defaults": {"unit": unit, "custom": {"scaleDistribution": {"type": "linear"}}},
        "overrides": [],
    }
    body["options"] = {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "cps", "decimals": 2},
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        # Empty buckets are no cells.
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    return Panel(title, body, wide, 8)


def table(
    title: str,
    description: str,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    links: Mapping[str, tuple[Json, ...]] | None = None,
    wide: int = 24,
    high: int = 8,
    needs: str = "",
) -> Panel:
    """A row for each set of `keys` (labels, by the names shown), a column for each query.

    A query must have just these labels, or rows would come more than once.
    """
    for column in columns:
        if column.expr.labels != frozenset(keys):
            raise ValueError(f"{title}, {column.name}: not by {', '.join(keys)}")
    targets = _targets([Query(column.expr, once=True) for column in columns], "table")
    body = _body("table", title, description, targets)
    body["fieldConfig"] = {
        "defaults": {
            "unit": "short",
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
            "thresholds": thresholds(()),
            "mappings": [_NO_NUMBER],
        },
        "overrides": [
            *(_links(keys[label], given) for label, given in (links or {}).items()),
            *(_column(column) for column in columns),
        ],
    }
    body["options"] = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "reducer": ["sum"], "show": False},
        "frameIndex": 0,
        "showHeader": True,
    }
    body["transformations"] = _merged(keys, columns)
    return Panel(title, body, wide, high, needs)


def _merged(keys: Mapping[str, str], columns: Sequence[Column]) -> list[Json]:
    values = [f"Value #{chr(ord('A') + index)}" for index in range(len(columns))]
    if len(columns) == 1:
        values = ["Value"]  # so Grafana calls it where there is no other
    order = [*keys, *values]
    names = {**keys, **dict(zip(values, (column.name for column in columns), strict=True))}
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(order)},
        "renameByName": names,
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _links(name: str, links: tuple[Json, ...]) -> Json:
    matcher = {"id": "byName", "options": name}
    return {"matcher": matcher, "properties": [{"id": "links", "value": list(links)}]}


def _column(column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.unit}]
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.steps:
        properties += [
            {"id": "thresholds", "value": thresholds(column.steps, column.low)},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    if column.links:
        properties.append({"id": "links", "value": list(column.links)})
    return {"matcher": {"id": "byName", "options": column.name}, "properties": properties}


def text(title: str, description: str, content: str, wide: int = 24, high: int = 4) -> Panel:
    """Words, in Markdown."""
    body: Json = {
        "type": "text",
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"content": content, "mode": "markdown"},
    }
    return Panel(title, body, wide, high)
