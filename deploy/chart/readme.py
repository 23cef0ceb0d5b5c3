"""The chart's README: its text, and the table of all values."""

import json
from collections.abc import Iterator

from deploy.chart.values import Value

MARK = "<!-- values -->"
_LONGEST = 60


def readme(template: str, values: Value) -> str:
    """The text of `README.md.in` with the tables where it says so."""
    if template.count(MARK) != 1:
        raise ValueError(f"README.md.in must hold {MARK} once")
    return template.replace(MARK, "\n".join(_tables(values)).strip())


def _tables(values: Value) -> Iterator[str]:
    alone = [child for child in values.children if not child.children]
    yield from _table("General", alone)
    for group in values.children:
        if group.children:
            yield from _table(f"`{group.name}`", list(group.leaves), group.meaning)


def _table(title: str, values: list[Value], meaning: str = "") -> Iterator[str]:
    yield f"\n### {title}\n"
    if meaning:
        yield f"{meaning}\n"
    yield "| value | default | meaning |"
    yield "|---|---|---|"
    for value in values:
        yield f"| `{value.name}` | {_default(value)} | {_cell(value.meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: Value) -> str:
    text = json.dumps(value.default, separators=(", ", ": "))
    return f"`{text}`" if len(text) <= _LONGEST else "see `values.yaml`"
