"""What plots have in common: scales, ticks, colours by name, bands for faults and the warm-up.

A figure is plotly's own JSON. A colour in it is `{"var": name}`: the page puts in what the style
sheet says for light, dark or print.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from loadtest.summary import Summary

Json = dict[str, Any]
_SPREAD: Final = 15.0
"""Times that differ by more than this factor are drawn on a logarithmic scale."""
_TICKS: Final = 6
_CYCLE: Final = 7
_DASHES: Final = ("solid", "dash", "dot", "dashdot")


class Clock(NamedTuple):
    """The unit of a time axis."""

    unit: str
    size: float
    """Seconds."""

    def of(self, seconds: Iterable[float]) -> list[float]:
        """In that unit."""
        return [round(one / self.size, 6) for one in seconds]


def clock(seconds: float) -> Clock:
    """By how long the run was."""
    if seconds <= 300:
        return Clock("s", 1.0)
    return Clock("min", 60.0) if seconds <= 4 * 3600 else Clock("h", 3600.0)


def var(name: str) -> Json:
    """A colour of the style sheet."""
    return {"var": name}


def line_of(number: int) -> Json:
    """The look of the nth line: colours first, and dashes when those are used up."""
    dash = _DASHES[number // _CYCLE % len(_DASHES)]
    return {"color": var(f"c{number % _CYCLE}"), "dash": dash, "width": 2}


def words(text: str) -> str:
    """Text for plotly, which takes some HTML: none of it is meant."""
    return escape(text, quote=False)


def short(seconds: float) -> str:
    """A tick's text."""
    for unit, size in (("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size * (5 if unit == "min" else 0.9995):
            return f"{seconds / size:.3g} {unit}"
    return "0" if seconds == 0 else f"{seconds * 1e6:.3g} µs"


def plain(title: str, **more: Any) -> Json:
    """An axis."""
    return {
        "title": {"text": title, "standoff": 6, "font": {"size": 12, "color": var("muted")}},
        "automargin": True,
        "gridcolor": var("grid"),
        "linecolor": var("line"),
        "zeroline": False,
        **more,
    }


def latency(title: str, values: Sequence[float]) -> tuple[Json, float]:
    """An axis for times, and the height on it where what never came is drawn."""
    positive = [value for value in values if value > 0]
    if not positive:
        return plain(title, rangemode="tozero"), 1.0
    low, high = min(positive), max(positive)
    if high / low > _SPREAD:
        ticks = _decades(low, high)
        bounds = [math.log10(low / 1.3), math.log10(high * 1.7)]
        axis = plain(title, type="log", range=bounds)
        never = high * 1.4
    else:
        ticks = _steps(high)
        axis = plain(title, range=[0, high * 1.12])
        never = high * 1.08
    axis |= {"tickmode": "array", "tickvals": ticks, "ticktext": [short(tick) for tick in ticks]}
    return axis, never


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    return [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]


def _steps(high: float) -> list[float]:
    size = 10 ** math.floor(math.log10(high / _TICKS))
    step = next(size * by for by in (1, 2, 5, 10) if high / (size * by) <= _TICKS)
    return [number * step for number in range(int(high / step) + 2)]


def layout(x: Json, y: Json, **more: Any) -> Json:
    """A whole one."""
    return {
        "xaxis": x,
        "yaxis": y,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": var("text"), "family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        # Above the names of faults.
        "legend": {"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom"},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": var("surface"),
            "bordercolor": var("line"),
            "font": {"color": var("text")},
        },
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": var("muted"),
            "activecolor": var("text"),
            "orientation": "v",
        },
        **more,
    }


class TimeAxis:
    """The run's time, with its faults and its warm-up: alike below all plots that have one."""

    def __init__(self, summary: Summary, warmup: float) -> None:
        ends = [window.at + window.seconds for window in summary.windows]
        self.end = max([summary.seconds, *ends, 1e-3])
        self.clock = clock(self.end)
        self._warmup = warmup
        self._faults = [
            (number, fault.at, self.end if fault.ended is None else fault.at + fault.ended)
            for number, fault in enumerate(summary.faults, 1)
            if not fault.error
        ]

    def axis(self) -> Json:
        """It."""
        title = f"time since the run began ({self.clock.unit})"
        return plain(title, range=[0, self.end / self.clock.size])

    def bands(self) -> Json:
        """Shapes and their texts: a part of the layout."""
        shapes, texts = [], []
        if self._warmup > 0:
            shapes.append(self._band(0.0, self._warmup, "warm"))
            texts.append(self._label(0.0, "warm-up"))
        for number, began, ended in self._faults:
            shapes.append(self._band(began, ended, "fault"))
            shapes.append(self._edge(began))
            texts.append(self._label(began, f"<b>F{number}</b>"))
        return {"shapes": shapes, "annotations": texts}

    def _band(self, began: float, ended: float, name: str) -> Json:
        x0, x1 = self.clock.of((began, min(ended, self.end)))
        place = {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "y0": 0, "y1": 1}
        return {**place, "fillcolor": var(name), "line": {"width": 0}, "layer": "below"}

    def _edge(self, at: float) -> Json:
        (x,) = self.clock.of((at,))
        place = {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
        return {**place, "line": {"color": var("broken"), "width": 1.5, "dash": "dot"}}

    def _label(self, at: float, text: str) -> Json:
        (x,) = self.clock.of((at,))
        place = {"xref": "x", "yref": "paper", "x": x, "y": 1, "xanchor": "left"}
        return {
            **place,
            "yanchor": "bottom",
            "text": text,
            "showarrow": False,
            "font": {"size": 11},
        }


def objective(bound: float | None, axis: Json, *, along: str) -> Json:
    """The line of an objective for a time, along the axis `x` or `y`, with its name: a part of the
    layout. `axis` is the one that times are on."""
    if bound is None:
        return {"shapes": [], "annotations": []}
    other = "y" if along == "x" else "x"
    refs = {f"{other}ref": other, f"{along}ref": "paper"}
    ends = {f"{other}0": bound, f"{other}1": bound, f"{along}0": 0, f"{along}1": 1}
    line = {"color": var("text"), "width": 1, "dash": "dash"}
    name = f"objective {short(bound)}"
    place = (
        {"x": 1, "xanchor": "right", "yanchor": "bottom"}
        if along == "x"
        else {"y": 0, "xanchor": "right", "yanchor": "bottom", "textangle": -90}
    )
    # Of a logarithmic axis plotly takes shapes by value, and texts by its logarithm.
    height = math.log10(bound) if axis.get("type") == "log" else bound
    label = {**refs, other: height, **place, "text": name, "showarrow": False, "font": {"size": 11}}
    return {"shapes": [{"type": "line", **ends, **refs, "line": line}], "annotations": [label]}
