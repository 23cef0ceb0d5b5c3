"""A page: its variables, its links to the others, and its panels, laid out on Grafana's grid."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.observability.metric import Metric
from deploy.observability.panels import SOURCE, Json, Panel
from deploy.observability.promql import Value, values
from service.telemetry.contract import INFO, REQUESTS, Family

COLUMNS: Final = 24
VERSION: Final = 41
"""Of the dashboards' format: one that all releases of Grafana 12 know."""

PAGES: Final[Mapping[str, str]] = {
    "gptoss-service": "Service",
    "gptoss-teams": "Teams",
    "gptoss-replicas": "Replicas",
    "gptoss-capacity": "Capacity",
    "gptoss-gateway": "Gateway",
    "gptoss-loadtest": "Load test",
}
"""Titles by uid, in the order of the links."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading that folds them away."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard. `variables` are those beyond the data source and the namespaces."""

    uid: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Json, ...] = ()
    time: str = "now-1h"

    @property
    def name(self) -> str:
        """Of its file."""
        return self.uid.removeprefix("gptoss-")

    @property
    def title(self) -> str:
        """As the links call it."""
        return PAGES[self.uid]

    @property
    def panels(self) -> Iterator[Panel]:
        """All of them."""
        for row in self.rows:
            yield from row.panels


def _variable(name: str, label: str, kind: str, **more: Any) -> Json:
    return {"name": name, "label": label, "type": kind, "hide": 0, "skipUrlSync": False, **more}


def choice(name: str, label: str, asked: Family | Metric, of: str, **given: Value) -> Json:
    """What can be chosen among the values of a label; all of them at first."""
    query = values(asked, of, **given)
    return _variable(
        name,
        label,
        "query",
        datasource=SOURCE,
        query={"query": query, "refId": f"variable-{name}", "qryType": 1},
        # When the time changes, too: what was there then may be gone.
        refresh=2,
        sort=1,
        regex="",
        multi=True,
        includeAll=True,
        # Not a list of all: new ones are in it, and so are series that have no such label.
        allValue=".*",
        current={"text": ["All"], "value": ["$__all"]},
    )


def typed(name: str, label: str, value: str, description: str) -> Json:
    """A number that the reader knows and no metric says."""
    chosen = {"text": value, "value": value}
    return _variable(
        name,
        label,
        "textbox",
        query=value,
        current=chosen,
        options=[{**chosen, "selected": True}],
        description=description,
    )


MODEL: Final = choice("model", "Model", REQUESTS, "model")
_COMMON: Final = (
    _variable(
        "datasource",
        "Data source",
        "datasource",
        query="prometheus",
        refresh=1,
        regex="",
        multi=False,
        includeAll=False,
    ),
    choice("namespace", "Namespace", INFO, "namespace"),
)


def _link(uid: str) -> Json:
    return {
        "title": PAGES[uid],
        "type": "link",
        "url": f"/d/{uid}",
        "icon": "dashboard",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }


def _annotations() -> Json:
    grafana = {"type": "grafana", "uid": "-- Grafana --"}
    alerts = {
        "name": "Annotations & Alerts",
        "builtIn": 1,
        "type": "dashboard",
        "datasource": grafana,
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }
    loadtest = {
        "name": "Load tests",
        "datasource": grafana,
        "enable": True,
        "iconColor": "purple",
        "target": {
            "refId": "loadtest",
            "type": "tags",
            "tags": ["loadtest"],
            "matchAny": True,
            "limit": 100,
        },
    }
    return {"list": [alerts, loadtest]}


def _lines(panels: Iterable[Panel]) -> Iterator[list[Panel]]:
    """As many side by side as there is room for."""
    line: list[Panel] = []
    for panel in panels:
        if sum(one.wide for one in line) + panel.wide > COLUMNS:
            yield line
            line = []
        line.append(panel)
    if line:
        yield line


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """From top to bottom, numbered in this order."""
    y = number = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        heading: Json = {"id": number, "type": "row", "title": row.title, "gridPos": place}
        yield heading | {"collapsed": False, "panels": []}
        y += 1
        for line in _lines(row.panels):
            x = 0
            for panel in line:
                number += 1
                place = {"x": x, "y": y, "w": panel.wide, "h": panel.high}
                yield {"id": number, "gridPos": place, **panel.body}
                x += panel.wide
            y += max(panel.high for panel in line)


def dashboard(page: Page) -> Json:
    """The page as Grafana wants it."""
    return {
        "uid": page.uid,
        "title": f"gpt-oss / {page.title}",
        "description": page.description,
        "tags": ["gptoss"],
        "schemaVersion": VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": page.time, "to": "now"},
        "timezone": "",
        "links": [_link(uid) for uid in PAGES if uid != page.uid],
        "annotations": _annotations(),
        "templating": {"list": [*_COMMON, *page.variables]},
        "panels": list(_placed(page.rows)),
    }


def text_of(page: Page) -> str:
    """The file's content."""
    return json.dumps(dashboard(page), indent=1, ensure_ascii=False) + "\n"
