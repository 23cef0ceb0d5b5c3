"""What teams got: objectives, times, rates, tokens and outcomes, as tables."""

from html import escape
from typing import NamedTuple

from loadtest.outcome import Outcome
from loadtest.report import definitions
from loadtest.report.cells import NOTHING, count, number, percent, seconds, share
from loadtest.report.figures import Figures, Step
from loadtest.report.outcomes import LOOKS, swatch
from loadtest.report.table import Row, grouped, measure, table

_PERCENTILES = ("p50", "p90", "p95", "p99")


class Column(NamedTuple):
    """A part of the run that a table is about: its name, and where the summary has it."""

    title: str
    path: tuple[Step, ...]


def teams(figures: Figures) -> list[Column]:
    """All of the run and each team; of one team alone, only that."""
    names = list(figures.at("teams") or {})
    columns = [Column(name, ("teams", name)) for name in names]
    return columns if len(columns) == 1 else [Column("all", ("overall",)), *columns]


def workloads(figures: Figures) -> list[Column]:
    """Each of them, where there are several."""
    names = list(figures.at("workloads") or {})
    return [Column(name, ("workloads", name)) for name in names] if len(names) > 1 else []


def slo_path(figures: Figures, team: str) -> tuple[Step, ...]:
    """Where the scenario has what is promised to a team."""
    own = ("scenario", "teams", team, "expect", "slo")
    return own if figures.at(*own) else ("scenario", "slo")


def objectives(figures: Figures) -> str:
    """What was promised to each team, and whether it was kept."""
    names = list(figures.at("teams") or {})
    promised = [
        (name, title)
        for name, title in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "whole answer"))
        if any(figures.at(*slo_path(figures, team), name) is not None for team in names)
    ]
    titles = [title for _, title in promised]
    head = ("team", "verdict", "attainment", "95% interval", "promised", *titles, "why")
    rows = [_objective(figures, team, [name for name, _ in promised]) for team in names]
    return table("Objectives by team", head, rows, definitions.ATTAINMENT)


def _objective(figures: Figures, team: str, promised: list[str]) -> Row:
    part, slo = ("teams", team), slo_path(figures, team)
    interval = (*part, "attainment")
    low, high = (figures.show(share, *interval, end) for end in ("low", "high"))
    return (
        escape(team),
        badge(figures, *part, "verdict"),
        f"<b>{figures.show(share, *interval, 'share')}</b>",
        f"{low} to {high}<small>of {figures.show(count, *interval, 'count')}</small>",
        f"≥ {figures.show(percent, *slo, 'percent')}",
        *(_bound(figures, *slo, name) for name in promised),
        listed(figures, *part, "reasons"),
    )


def _bound(figures: Figures, *path: Step) -> str:
    return NOTHING if figures.at(*path) is None else f"≤ {figures.show(seconds, *path)}"


def badge(figures: Figures, *path: Step) -> str:
    """A verdict."""
    verdict = figures.at(*path)
    return f'<span class="badge {escape(str(verdict))}">{figures.text(*path)}</span>'


def listed(figures: Figures, *path: Step) -> str:
    """A list of words."""
    lines = [figures.text(*path, place) for place in range(len(figures.at(*path) or []))]
    if len(lines) < 2:
        return "".join(lines) or NOTHING
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def times(figures: Figures, columns: list[Column], caption: str) -> str:
    """Percentiles of each time."""
    head = ("", *_PERCENTILES, "mean", "highest", "requests", "failed")
    groups = [
        (
            measure(one.title, one.meaning),
            [_times(figures, column, (*column.path, one.name)) for column in columns],
        )
        for one in definitions.TIMES
    ]
    return grouped(caption, head, groups, definitions.PERCENTILES)


def _times(figures: Figures, column: Column, path: tuple[Step, ...]) -> Row:
    cells = [figures.percentile(name, *path) for name in _PERCENTILES]
    if figures.at(*path, "p99_low") is not None:
        low, high = (figures.percentile(name, *path) for name in ("p99_low", "p99_high"))
        cells[-1] += f"<small>{low} to {high}</small>"
    return (
        escape(column.title),
        *cells,
        figures.show(seconds, *path, "mean"),
        figures.show(seconds, *path, "highest"),
        figures.show(count, *path, "count"),
        figures.show(count, *path, "failed"),
    )


def volume(figures: Figures, columns: list[Column], caption: str) -> str:
    """Requests and tokens: in all, and per second."""
    measured = measure("Measured time", "Of what was due within it the figures are.")
    rows: list[Row] = [
        (measured, *(figures.show(seconds, *one.path, "seconds") for one in columns))
    ]
    styles = (
        (definitions.COUNTS, count),
        (definitions.RATES, number),
        (definitions.TOKENS, count),
        ((definitions.TRUNCATED,), percent),
    )
    for group, style in styles:
        for one in group:
            cells = [figures.show(style, *column.path, one.name) for column in columns]
            rows.append((measure(one.title, one.meaning), *cells))
    return table(caption, ("", *(one.title for one in columns)), rows)


def outcomes(figures: Figures, columns: list[Column]) -> str:
    """How requests ended, as numbers and as shares of what was due."""
    rows = [
        (_outcome(outcome), *(_counted(figures, column, outcome) for column in columns))
        for outcome in LOOKS
        if any(figures.at(*column.path, "outcomes", outcome.value) for column in columns)
    ]
    head = ("outcome", *(one.title for one in columns))
    note = (
        "Below a number are its three most frequent codes: the server's own, or what became of the"
        " connection."
        if rows
        else "No request was due within the measured time."
    )
    return table("How requests ended", head, rows, note)


def _outcome(outcome: Outcome) -> str:
    return swatch(outcome) + measure(outcome.value, LOOKS[outcome].meaning)


def _counted(figures: Figures, column: Column, outcome: Outcome) -> str:
    path = (*column.path, "outcomes", outcome.value)
    if not figures.at(*path):
        return NOTHING
    share = figures.share_of((*column.path, "planned"), *path)
    return figures.show(count, *path) + share + _codes(figures, (*column.path, "codes"), outcome)


def _codes(figures: Figures, path: tuple[Step, ...], outcome: Outcome) -> str:
    """Why, with how many of each."""
    found = figures.at(*path, outcome.value) or {}
    lines = (f"{escape(code)} {figures.show(count, *path, outcome.value, code)}" for code in found)
    return "".join(f"<small>{line}</small>" for line in lines)


def windows(figures: Figures) -> str:
    """The figures of the plots over time."""
    head = (
        "from", "for", "due", "open at its end", "output tokens/s",
        "TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99",
    )  # fmt: skip
    rows = [
        _window(figures, ("windows", place)) for place in range(len(figures.at("windows") or []))
    ]
    return table("The run in windows", head, rows, "By when requests were due, warm-up included.")


def _window(figures: Figures, path: tuple[Step, ...]) -> Row:
    times = [
        figures.show(seconds, *path, name)
        for name in ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")
    ]
    return (
        figures.show(seconds, *path, "at"),
        figures.show(seconds, *path, "seconds"),
        figures.show(count, *path, "due"),
        figures.show(count, *path, "open"),
        figures.show(number, *path, "output_rate"),
        *times,
    )
