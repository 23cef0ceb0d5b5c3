"""The report: one file with all that it needs, the drawing library too.

The browser itself is told to load nothing and to run these two scripts only (by their hashes): a
name in a scenario or a server's answer that is made to look like a script stays text.
"""

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter, ValidationError

from loadtest.errors import UserError
from loadtest.record import Record
from loadtest.report import distributions, over_time, sections, server
from loadtest.report.axes import TimeAxis
from loadtest.report.figures import Figures
from loadtest.report.masked import masked
from loadtest.report.plot import Plot
from loadtest.report.sample import taken
from loadtest.scenario.model import Seconds
from loadtest.summary import Summary

_SECONDS: Final = TypeAdapter(Seconds)


def render(summary: Summary, records: Iterable[Record]) -> str:
    """The whole page. `records` are read once."""
    document = masked(msgspec.json.decode(msgspec.json.encode(summary)))
    figures = Figures(document)
    plots = _plots(summary, figures, records)
    library, script = _library(), _part("report.js")
    return Template(_part("page.html")).substitute(
        policy=_policy(library, script),
        title=escape(
            f"{summary.verdict.value.upper()}: {figures.at('scenario', 'name') or summary.run}"
        ),
        style=_part("style.css"),
        verdict=escape(summary.verdict.value),
        head=sections.head(figures, _day(summary.began)),
        body=sections.body(figures, plots),
        summary=_embedded(document),
        plots=_embedded(
            {plot.name: {**plot.figure, "timed": plot.timed} for plot in _all(plots) if plot.drawn}
        ),
        library=library,
        script=script,
    )


def _plots(summary: Summary, figures: Figures, records: Iterable[Record]) -> sections.Plots:
    warmup = _number(figures.at("scenario", "warmup")) or 0.0
    measured = (warmup, _number(figures.at("scenario", "duration")) or summary.seconds)
    bounds = {name: _bound(figures, name) for name in ("ttft", "tpot")}
    sample = taken(records, measured, _beyond(figures))
    axis = TimeAxis(summary, warmup)
    return sections.Plots(
        distributions.plots(summary, sample, measured, bounds),
        over_time.plots(summary, sample, axis, bounds["ttft"]),
        server.plots(summary.series, axis),
    )


def _beyond(figures: Figures) -> list[str]:
    """The teams that are said not to keep their limits."""
    teams = figures.at("scenario", "teams") or {}
    return [
        team
        for team in teams
        if figures.at("scenario", "teams", team, "expect", "conforming") is False
    ]


def _all(plots: sections.Plots) -> list[Plot]:
    return [*plots.distributions, *plots.over_time, *plots.server]


def _bound(figures: Figures, name: str) -> float | None:
    """An objective, s, where it is the same for all teams."""
    paths = [sections.slo_path(figures, team) for team in figures.at("teams") or {}]
    found = {_number(figures.at(*path, name)) for path in paths}
    return found.pop() if len(found) == 1 else None


def _number(value: Any) -> float | None:
    """A duration of the scenario, s, in whichever way it is written."""
    try:
        return None if value is None else _SECONDS.validate_python(value)
    except ValidationError:
        return None


def _day(began: float) -> str:
    return datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _part(name: str) -> str:
    return (files("loadtest.report") / name).read_text(encoding="utf-8")


def _library() -> str:
    try:
        text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise UserError(
            "the report is drawn with plotly, which is not here: pip install plotly"
        ) from None
    return text.replace("</script", "<\\/script")


def _policy(*scripts: str) -> str:
    """What a browser may do with the page: nothing but these scripts, and no network at all."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _embedded(value: Any) -> str:
    """JSON within a page: no text in it can end the element it is in."""
    text = msgspec.json.encode(value).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
