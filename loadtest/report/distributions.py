"""How times are distributed, failures included, and what throughput they are paid with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from loadtest.report.axes import Json, latency, layout, line_of, objective, plain, var, words
from loadtest.report.plot import Plot
from loadtest.report.sample import Sample, Times
from loadtest.summary import Distribution, Part, Summary, Window

_EVEN: Final = 300
_TAIL: Final = 60
_TIMES: Final[Mapping[str, tuple[str, Callable[[Times], list[float]]]]] = {
    "ttft": ("Time to first token", lambda times: times.ttft),
    "tpot": ("Time per output token", lambda times: times.tpot),
    "gap": ("Longest gap within an answer", lambda times: times.gap),
}


def plots(
    summary: Summary,
    sample: Sample,
    measured: tuple[float, float],
    bounds: Mapping[str, float | None],
) -> list[Plot]:
    """`bounds` are the objectives, s, by name: drawn where all teams have the same."""
    start, end = measured
    windows = [one for one in summary.windows if one.due and start <= one.at < end]
    return [
        _throughput(windows, bounds.get("ttft")),
        *(_cdf(name, sample, summary.teams, bounds.get(name)) for name in _TIMES),
    ]


def _throughput(windows: Sequence[Window], bound: float | None) -> Plot:
    times = [time for one in windows for time in (one.ttft_p50, one.ttft_p99) if time is not None]
    axis, never = latency("TTFT", [*times, *([bound] if bound else [])])
    lost = [one for one in windows if one.ttft_p99 is None and one.ttft_p50 is not None]
    clouds = [
        _cloud("p50", "circle", "c0", [(one.output_rate, one.ttft_p50) for one in windows]),
        _cloud("p99", "diamond-open", "c1", [(one.output_rate, one.ttft_p99) for one in windows]),
        _cloud("p99 infinite", "triangle-up", "broken", [(one.output_rate, never) for one in lost]),
    ]
    return Plot(
        "throughput",
        "Throughput against latency",
        "Each pair of marks is a window of the run: the further right, the more the server gave;"
        " where the marks begin to rise steeply, it is full.",
        [cloud for cloud in clouds if cloud["x"]],
        layout(
            plain("output tokens per second", rangemode="tozero"),
            axis,
            **objective(bound, axis, along="x"),
        ),
    )


def _cloud(
    name: str, symbol: str, colour: str, points: Iterable[tuple[float, float | None]]
) -> Json:
    kept = [(x, y) for x, y in points if y is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(x, 3) for x, _ in kept],
        "y": [y for _, y in kept],
        "marker": {"symbol": symbol, "size": 8, "color": var(colour)},
        "hovertemplate": "%{x:.4~g} tokens/s, %{y:.3s}s",
    }


def _cdf(name: str, sample: Sample, parts: Mapping[str, Part], bound: float | None) -> Plot:
    title, of = _TIMES[name]
    of_what = "requests"
    lacks = " A line that stays below 100% lacks those that failed: dotted, they never got there."
    if name == "gap":
        of_what, lacks = "whole answers", ""
    times = {team: of(sample.teams.get(team, Times())) for team in parts}
    shown = [time for one in times.values() for time in one]
    axis, never = latency(title, [*shown, *([bound] if bound else [])])
    data: list[Json] = []
    for number, (team, values) in enumerate(times.items()):
        whole: Distribution = getattr(parts[team], name)
        if values:
            points = _thinned(values, len(values) + whole.failed)
            data.append(_curve(team, number, points))
            if whole.failed:
                data.append(_ceiling(team, number, points[-1], never))
    return Plot(
        f"cdf-{name}",
        f"{title}: distribution",
        f"A point on a line says which share of {of_what} had at most that time.{lacks}",
        data,
        layout(
            axis,
            plain(f"share of {of_what}", range=[0, 1.02], tickformat=".0%"),
            **objective(bound, axis, along="y"),
        ),
    )


def _thinned(times: list[float], total: int) -> list[tuple[float, float]]:
    """Points of the curve: evenly, and more of them at its upper end. `total` has the failed."""
    ordered = np.sort(np.asarray(times))
    shares = np.concatenate((np.linspace(0, 1, _EVEN), 1 - np.logspace(-2, -6, _TAIL)))
    ranks = np.unique((shares * (len(ordered) - 1)).round().astype(int))
    return [(float(ordered[rank]), float(rank + 1) / total) for rank in ranks]


def _curve(team: str, number: int, points: list[tuple[float, float]]) -> Json:
    return {
        "type": "scatter",
        "mode": "lines" if len(points) > 1 else "markers",
        "name": words(team),
        "legendgroup": str(number),
        "showlegend": True,
        "x": [float(f"{x:.5g}") for x, _ in points],
        "y": [round(y, 6) for _, y in points],
        "line": {**line_of(number), "shape": "hv"},
        "hovertemplate": "%{y:.2%} within %{x:.3s}s",
    }


def _ceiling(team: str, number: int, last: tuple[float, float], never: float) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": words(team),
        "legendgroup": str(number),
        "showlegend": False,
        "x": [last[0], never],
        "y": [last[1], last[1]],
        "line": {**line_of(number), "dash": "dot", "width": 1.5},
        "hovertemplate": f"{1 - last[1]:.2%} failed",
    }
