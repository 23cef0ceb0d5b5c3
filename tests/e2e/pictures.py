"""Pictures of dashboards, drawn from what Prometheus answers: for a person to look at.

They are no copy of Grafana, which is not here: each panel's queries as lines over time.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Protocol

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

Line = tuple[Mapping[str, str], list[tuple[float, float]]]
_COLUMNS = 4
_MOST_LINES = 12


class Drawn(Protocol):
    """A panel."""

    @property
    def page(self) -> str:
        """Its dashboard."""

    @property
    def title(self) -> str:
        """Its own."""

    @property
    def need(self) -> str:
        """What it may show nothing without."""

    @property
    def queries(self) -> Sequence[str]:
        """What it asks."""


def draw(folder: Path, panels: Sequence[Drawn], ask: Callable[[str], list[Line]]) -> None:
    """One picture for each dashboard, `folder/<page>.png`."""
    folder.mkdir(exist_ok=True)
    for page, group in groupby(panels, key=lambda panel: panel.page):
        _draw_page(folder / f"{page}.png", list(group), ask)


def _draw_page(path: Path, panels: list[Drawn], ask: Callable[[str], list[Line]]) -> None:
    rows = -(-len(panels) // _COLUMNS)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=(22, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        lines = [line for query in panel.queries for line in ask(query)]
        axis.set_title(panel.title, fontsize=9)
        axis.tick_params(labelsize=7)
        for labels, values in lines[:_MOST_LINES]:
            began = values[0][0]
            times, numbers = [at - began for at, _ in values], [value for _, value in values]
            axis.plot(times, numbers, linewidth=1, label=_name(labels))
        if not lines:
            why, color = (fill(panel.need, 40), "gray") if panel.need else ("nothing", "red")
            axis.text(0.5, 0.5, why, ha="center", transform=axis.transAxes, color=color)
        elif len(lines) <= _MOST_LINES and any(labels for labels, _ in lines):
            axis.legend(fontsize=5)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


def _name(labels: Mapping[str, str]) -> str:
    return " ".join(value for name, value in labels.items() if name != "__name__")[:60]
