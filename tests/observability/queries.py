"""Every query of the repository, with where it stands."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart.render import MONITORING, overlay, overlays, render, rendered, some

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "helm" / "gptoss" / "files" / "rules.yaml"
DASHBOARDS: Final = ROOT / "deploy" / "observability" / "dashboards"
RUNBOOKS: Final = ROOT / "deploy" / "observability" / "runbooks"

_FENCE = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_METRIC = re.compile(r"(?:gptoss_gateway_|vllm:)[a-z_]+[a-z]\b(?!\*)")
_LABEL_VALUES = re.compile(
    r"label_values\(\s*(?:(?P<query>.+?)\s*,)?\s*(?P<label>\w+)\s*\)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Query:
    """A query, where it is, and the values that its variables can have."""

    where: str
    text: str
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.where


def rules() -> list[Mapping[str, Any]]:
    """Recording rules and alerts, in their order."""
    groups: Iterable[Mapping[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def of_rules() -> Iterator[Query]:
    """Their expressions."""
    for rule in rules():
        yield Query(f"rule {rule.get('alert') or rule.get('record')}", rule["expr"])


def of_autoscaling() -> Iterator[Query]:
    """What KEDA asks with every overlay of the chart, and the metric of a plain autoscaler."""
    for name in overlays():
        for scaler in some(rendered(name), "ScaledObject"):
            for number, trigger in enumerate(scaler.spec["triggers"]):
                if trigger["type"] == "prometheus":
                    where = f"{name} {scaler} {trigger.get('name', number)}"
                    yield Query(where, trigger["metadata"]["query"])
    custom = overlay("keda", gateway={"autoscaling": {"customMetric": True}})
    for scaler in some(render(custom, apis=MONITORING), "HorizontalPodAutoscaler"):
        for metric in scaler.spec["metrics"]:
            if metric["type"] == "Pods":
                yield Query(str(scaler), metric["pods"]["metric"]["name"])


def dashboards() -> list[Path]:
    """Their files."""
    return sorted(DASHBOARDS.glob("*.json"))


def of_dashboard(path: Path) -> Iterator[Query]:
    """Of its panels, variables and annotations."""
    board = json.loads(path.read_text())
    variables = board.get("templating", {}).get("list", [])
    options = {one["name"]: values for one in variables if (values := _options(one))}
    for panel in _panels(board.get("panels", [])):
        for target in panel.get("targets", []):
            if text := target.get("expr"):
                where = f"{path.stem} {panel.get('title')!r} {target.get('refId')}"
                yield Query(where, text, options)
    for one in variables:
        if one["type"] == "query" and (text := _asked(one)):
            yield Query(f"{path.stem} variable {one['name']}", text, options)
    for one in board.get("annotations", {}).get("list", []):
        if text := one.get("expr"):
            yield Query(f"{path.stem} annotation {one['name']}", text, options)


def _panels(panels: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Also those in rows."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _options(variable: Mapping[str, Any]) -> list[str]:
    """The values of a variable that are listed in the dashboard."""
    match variable["type"]:
        case "custom" | "interval":
            listed = re.split(r"\s*(?<!\\),\s*", variable["query"])
            return [one.rpartition(" : ")[2].strip() for one in listed if one]
        case "constant":
            return [variable["query"]]
        case "textbox":
            return [variable["query"]] if variable.get("query") else []
    return []


def _asked(variable: Mapping[str, Any]) -> str:
    """What the query of a variable asks Prometheus, as PromQL; empty for `label_names()`."""
    query = variable.get("query", "")
    text = query.get("query", "") if isinstance(query, Mapping) else query
    if found := _LABEL_VALUES.fullmatch(text.strip()):
        # A selector of the label's values is one that has the label.
        return f"count by ({found['label']}) ({found['query']})" if found["query"] else ""
    if text.startswith("query_result("):
        return str(text.strip().removeprefix("query_result(").removesuffix(")"))
    return "" if text.startswith("label_names(") else str(text)


def documents() -> list[Path]:
    """Every text for people in the repository."""
    return sorted(path for path in ROOT.rglob("*.md") if not _is_foreign(path.relative_to(ROOT)))


def _is_foreign(path: Path) -> bool:
    """Whether it is of a tool or a package."""
    return any(part.startswith(".") or part == "node_modules" for part in path.parts)


def in_document(name: str, text: str) -> Iterator[Query]:
    """Its blocks of PromQL, and what stands as code in its lines and looks like a query."""
    for number, block in enumerate(_FENCE.findall(text), 1):
        for part in re.split(r"\n\s*\n", block.strip()):
            yield Query(f"{name} block {number}", part)
    for span in _spans(text):
        if _METRIC.search(span) and re.search(r"[({]", span):
            yield Query(f"{name} `{span}`", span)


def named_in(text: str) -> set[str]:
    """The metrics that a document names as code."""
    return {name for span in _spans(text) for name in _METRIC.findall(span)}


def _spans(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return _SPAN.findall(prose)
