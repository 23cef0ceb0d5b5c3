"""The server's own metrics, on the time of the run: a small plot for each."""

from collections.abc import Sequence
from typing import Final

from loadtest.known_metrics import KNOWN
from loadtest.report.axes import TimeAxis, latency, layout, line_of, plain, words
from loadtest.report.plot import Plot
from loadtest.summary import Series

MOST_LINES: Final = 14
"""In one plot: those with the highest values."""


def plots(series: Sequence[Series], axis: TimeAxis) -> list[Plot]:
    """One for each metric, whichever pages it is from: replicas can be compared."""
    names = list(dict.fromkeys(one.name for one in series))
    return [
        _plot(number, name, [one for one in series if one.name == name], axis)
        for number, name in enumerate(names)
    ]


def _plot(number: int, name: str, series: list[Series], axis: TimeAxis) -> Plot:
    chosen = sorted(series, key=lambda one: -max(one.values, default=0.0))[:MOST_LINES]
    chosen = [one for one in series if one in chosen]
    many = len({one.scrape for one in chosen}) > 1
    known = KNOWN.get(name)
    data = [
        {
            "type": "scatter",
            "mode": "lines" if len(one.times) > 1 else "markers",
            "name": words(_label(one, many)),
            "x": axis.clock.of(one.times),
            "y": [float(f"{value:.6g}") for value in one.values],
            "line": {**line_of(place), "width": 1.5},
            "hovertemplate": "%{y:.4~s}",
            "showlegend": True,
        }
        for place, one in enumerate(chosen)
    ]
    left = len(series) - len(chosen)
    reading = name + (f" · the {MOST_LINES} highest of {len(series)} lines" if left else "")
    y = plain(_unit(name), rangemode="tozero")
    if name.endswith("_seconds") and chosen:
        y, _ = latency("", [value for one in chosen for value in one.values])
    y["title"]["text"] = _unit(name)
    return Plot(
        f"server-{number}",
        known.title if known else name,
        reading,
        data,
        layout(axis.axis(), y, **axis.bands()),
        timed=True,
        small=True,
    )


def _unit(name: str) -> str:
    if name == "process_cpu_seconds_total":
        return "cores"
    if name.endswith("_total"):
        return "per second"
    return ""


def _label(one: Series, many: bool) -> str:
    labels = ", ".join(one.labels.values())
    if not many:
        return labels or one.scrape
    return f"{one.scrape}: {labels}" if labels else one.scrape
