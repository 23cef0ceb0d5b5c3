"""What happened when."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from loadtest.outcome import Outcome
from loadtest.report.axes import (
    Json,
    TimeAxis,
    latency,
    layout,
    line_of,
    objective,
    plain,
    var,
    words,
)
from loadtest.report.outcomes import LOOKS, counted
from loadtest.report.plot import Plot
from loadtest.report.sample import POINTS, Sample
from loadtest.summary import Summary, Window

_PER_SECOND: Final = "requests per second"


def plots(summary: Summary, sample: Sample, axis: TimeAxis, bound: float | None) -> list[Plot]:
    """`bound` is the objective of TTFT, s, where all teams have the same."""
    windows = summary.windows
    return [
        _ttft(windows, sample, axis, bound),
        _outcomes(windows, axis),
        _load(windows, axis),
        _open(windows, axis),
        _teams(summary, axis),
    ]


def _ttft(windows: Sequence[Window], sample: Sample, axis: TimeAxis, bound: float | None) -> Plot:
    known = [point.ttft for point in sample.points if point.ttft is not None]
    lines = [value for one in windows for value in (one.ttft_p50, one.ttft_p99) if value]
    y, never = latency("TTFT", [*known, *lines, *([bound] if bound else [])])
    data = [
        *_points(sample, axis, never),
        _line(
            "p50",
            axis,
            windows,
            [one.ttft_p50 for one in windows],
            {"color": var("c0"), "width": 2.5},
        ),
        _line(
            "p99",
            axis,
            windows,
            [one.ttft_p99 for one in windows],
            {"color": var("c1"), "width": 2.5},
        ),
    ]
    chosen, seen = len(sample.points), sample.seen
    dots = "Dots are requests"
    if seen > POINTS:
        dots = f"Dots are {chosen:,} of {seen:,} requests, drawn at random,"
    return _timed(
        "ttft-time",
        "Time to first token over time",
        f"{dots} at the time when they were due, crosses at the top those that failed; a gap in the"
        " p99 line is a window in which more than 1% failed.",
        [trace for trace in data if any(value is not None for value in trace["y"])],
        axis,
        y,
        bound=bound,
    )


def _points(sample: Sample, axis: TimeAxis, never: float) -> list[Json]:
    good = [(one.at, one.ttft) for one in sample.points if one.ttft is not None]
    failed = [one.at for one in sample.points if one.ttft is None]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "requests",
            "x": axis.clock.of(at for at, _ in good),
            "y": [float(f"{ttft:.4g}") for _, ttft in good],
            "marker": {"size": 3.5, "color": var("muted"), "opacity": 0.35},
            "hovertemplate": "%{y:.3s}s",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "failed",
            "x": axis.clock.of(failed),
            "y": [never] * len(failed),
            "marker": {
                "size": 6,
                "symbol": "x-thin",
                "line": {"width": 1.5, "color": var("broken")},
            },
            "hovertemplate": "failed",
        },
    ]


def _outcomes(windows: Sequence[Window], axis: TimeAxis) -> Plot:
    sums = Counter[str]()
    for window in windows:
        sums.update(window.outcomes)
    happened = counted(sums)
    data = [_bars(outcome, windows, axis) for outcome in happened]
    return _timed(
        "outcomes-time",
        "Outcomes over time",
        "The height of a bar is how many requests were due per second; its parts are what became of"
        " them, whole answers at the bottom.",
        data,
        axis,
        plain(_PER_SECOND, rangemode="tozero"),
        barmode="stack",
        bargap=0,
        showlegend=False,
        margin={"l": 8, "r": 8, "t": 24, "b": 8},
        key=tuple(happened),
    )


def _bars(outcome: Outcome, windows: Sequence[Window], axis: TimeAxis) -> Json:
    look = LOOKS[outcome]
    counts = [window.outcomes.get(outcome.value, 0) for window in windows]
    return {
        "type": "bar",
        "name": outcome.value,
        "x": _middles(windows, axis),
        "y": [round(n / one.seconds, 6) for n, one in zip(counts, windows, strict=True)],
        "width": axis.clock.of(one.seconds for one in windows),
        "customdata": counts,
        "marker": {
            "color": var(look.colour),
            "pattern": {
                "shape": look.pattern,
                "bgcolor": var(look.colour),
                "fgcolor": var("page"),
                "size": 7,
                "solidity": 0.3,
            },
            "line": {"width": 0},
        },
        "hovertemplate": "%{customdata} requests",
    }


def _load(windows: Sequence[Window], axis: TimeAxis) -> Plot:
    good = [sum(one.outcomes.get(name, 0) for name in ("ok", "length")) for one in windows]
    return _timed(
        "load-time",
        "Asked and answered",
        "Where the second line leaves the first, requests were refused or failed; both go by when"
        " requests were due.",
        [
            _line("due", axis, windows, [one.due / one.seconds for one in windows], line_of(0)),
            _line(
                "whole answers",
                axis,
                windows,
                [n / one.seconds for n, one in zip(good, windows, strict=True)],
                {**line_of(2), "dash": "dash"},
            ),
        ],
        axis,
        plain(_PER_SECOND, rangemode="tozero"),
        small=True,
    )


def _open(windows: Sequence[Window], axis: TimeAxis) -> Plot:
    tokens = _line(
        "output tokens/s", axis, windows, [one.output_rate for one in windows], line_of(2)
    )
    waiting = _line("open requests", axis, windows, [one.open for one in windows], line_of(1))
    second = plain(
        "open requests",
        rangemode="tozero",
        overlaying="y",
        side="right",
        showgrid=False,
        tickmode="auto",
    )
    return _timed(
        "open-time",
        "Output tokens and open requests",
        "Open requests (right scale) that keep growing while tokens (left scale) do not: more is"
        " asked than the server can do.",
        [tokens, {**waiting, "line": {**waiting["line"], "dash": "dash"}, "yaxis": "y2"}],
        axis,
        plain("tokens per second", rangemode="tozero"),
        small=True,
        yaxis2=second,
    )


def _teams(summary: Summary, axis: TimeAxis) -> Plot:
    data = [
        _line(
            words(team),
            axis,
            summary.windows,
            [one.teams.get(team, 0) / one.seconds for one in summary.windows],
            line_of(number),
        )
        for number, team in enumerate(summary.teams)
    ]
    return _timed(
        "teams-time",
        "Whole answers per team",
        "One line for each team: a team that keeps its limits should not sink when another rises.",
        data,
        axis,
        plain(_PER_SECOND, rangemode="tozero"),
        small=True,
    )


def _line(
    name: str,
    axis: TimeAxis,
    windows: Sequence[Window],
    values: Sequence[float | None],
    look: Json,
) -> Json:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(windows) < 60 else "lines",
        "name": name,
        "x": _middles(windows, axis),
        "y": [None if value is None else float(f"{value:.6g}") for value in values],
        "line": look,
        "marker": {"size": 5},
        "connectgaps": False,
        "hovertemplate": "%{y:.4~s}",
    }


def _middles(windows: Sequence[Window], axis: TimeAxis) -> list[float]:
    return axis.clock.of(one.at + one.seconds / 2 for one in windows)


def _timed(
    name: str,
    title: str,
    reading: str,
    data: list[Json],
    axis: TimeAxis,
    y: Json,
    *,
    bound: float | None = None,
    small: bool = False,
    key: tuple[Outcome, ...] = (),
    **rest: object,
) -> Plot:
    """A plot above the run's time."""
    bands = axis.bands()
    line = objective(bound, y, along="x")
    bands = {key: [*bands[key], *line[key]] for key in bands}
    return Plot(
        name, title, reading, data, layout(axis.axis(), y, **bands, **rest), True, small, key
    )
