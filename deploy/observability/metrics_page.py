"""METRICS.md: every metric of the gateway, from its contract."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from service.telemetry import contract
from service.telemetry.contract import Family, Kind, Label

PAGE: Final = Path("deploy/observability/METRICS.md")

# The families from this one on, up to that of the next topic.
_TOPICS: Final = {
    "Requests": contract.REQUESTS,
    "Objectives": contract.SLO_REQUESTS,
    "Quotas": contract.ADMITTED,
    "Routing": contract.QUEUE_SECONDS,
    "The gateway itself": contract.LEDGER_PENDING,
}
_UNITS: Final = {"seconds": "s", "tokens": "tokens"}
_FEW: Final = 7
"""So many values of a label stand in the table; more have a place of their own."""

_HEADING: Final = """\
<!-- Made by `python -m deploy.observability` from service/telemetry/contract.py. -->
# The gateway's metrics

Each gateway has them at `/metrics` of its operations port, as Prometheus's text or, for who asks
for it, as OpenMetrics with exemplars. There are no others but `process_*` and `python_*`, and
nothing is under `vllm:`: engines have pages of their own.

Counters and histograms of several gateways add up, but for `engine_tokens` and `replica_outs`,
since each gateway sees all engines. Of those, and of gauges of what gateways share (quotas,
replicas), take `max`. A histogram is three metrics: `_bucket` (with the label `le`), `_sum` and
`_count`.
"""


def outputs() -> Mapping[Path, str]:
    """The page, by its path in the repository."""
    return {PAGE: "\n".join([_HEADING, *_topics(), *_buckets(), *_labels()])}


def _topics() -> Iterator[str]:
    for topic, families in topics().items():
        yield f"## {topic}\n"
        yield "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|"
        for family in families:
            yield _row(family)
        yield ""


def topics() -> dict[str, list[Family]]:
    """The families of each topic, in the contract's order."""
    found: dict[str, list[Family]] = {}
    begin = {family.name: topic for topic, family in _TOPICS.items()}
    topic = ""
    for family in contract.FAMILIES:
        topic = begin.get(family.name, topic)
        found.setdefault(topic, []).append(family)
    return found


def _row(family: Family) -> str:
    name = family.exported if family.kind is Kind.COUNTER else family.name
    labels = ", ".join(_label(one) for one in family.labels) or "-"
    return f"| `{name}` | {family.kind} | {_unit(family)} | {labels} | {_cell(family.help)} |"


def _unit(family: Family) -> str:
    """By the last word of its name."""
    return _UNITS.get(family.short.rpartition("_")[2], "-")


def _label(label: Label) -> str:
    """With its values, where these are few."""
    if 0 < len(label.values) <= _FEW:
        return f"`{label.name}` ({', '.join(f'`{one}`' for one in label.values)})"
    return f"[`{label.name}`](#{label.name})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _buckets() -> Iterator[str]:
    """Bounds, and the histograms that have them."""
    yield "## Buckets\n"
    yield "In seconds, and `+Inf`. The bounds of objectives are among them.\n"
    yield "| histograms | bounds |\n|---|---|"
    having: dict[tuple[float, ...], list[str]] = {}
    for family in contract.FAMILIES:
        if family.kind is Kind.HISTOGRAM:
            having.setdefault(family.buckets, []).append(f"`{family.short}`")
    for bounds, names in having.items():
        yield f"| {', '.join(names)} | {', '.join(f'{one:g}' for one in bounds)} |"
    yield ""


def _labels() -> Iterator[str]:
    """Those that do not say in the tables what they can be."""
    yield "## Labels\n"
    seen: dict[str, Label] = {}
    for label in (one for family in contract.FAMILIES for one in family.labels):
        if label.name not in seen and not 0 < len(label.values) <= _FEW:
            seen[label.name] = label
    for label in seen.values():
        yield f"### `{label.name}`\n"
        values = ", ".join(f"`{one}`" for one in label.values)
        yield f"{values or f'Bounded by: {label.bound}'}.\n"
