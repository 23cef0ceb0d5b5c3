"""The page's parts, in their order."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from loadtest.report import more_tables, tables
from loadtest.report.cells import number, seconds, share
from loadtest.report.figures import Figures
from loadtest.report.outcomes import swatch
from loadtest.report.plot import Plot
from loadtest.report.tables import slo_path

__all__ = ["Plots", "body", "head", "slo_path"]

_SAYS: Final = {
    "passed": ("✓", "What was promised was kept."),
    "failed": ("✕", "What was promised was not kept."),
    "unresolved": ("?", "The run was too short, or too small, to say."),
    "invalid": (
        "⚠",
        "Do not use these figures: the load test itself was too slow. They are not the server's.",
    ),
}


class Plots(NamedTuple):
    """All that is drawn."""

    distributions: list[Plot]
    over_time: list[Plot]
    server: list[Plot]


def head(figures: Figures, day: str) -> str:
    """What ran, its verdict, and the figures that most people come for."""
    ended = '<p class="warn">The run was interrupted: this is of what ran until then.</p>'
    return f"""
<p class="eyebrow">Load test</p>
<h1>{figures.text("scenario", "name")}</h1>
<p class="lead">{_description(figures)}</p>
<dl class="facts">{_facts(figures, day)}</dl>
{ended if figures.at("interrupted") else ""}
{_verdict(figures)}
{_tiles(figures)}
"""


def body(figures: Figures, plots: Plots) -> str:
    """All sections."""
    parts = [
        ("objectives", "Objectives", tables.objectives(figures)),
        ("latency", "Latency and throughput", _latency(figures, plots.distributions)),
        ("time", "Over time", _over_time(figures, plots.over_time)),
        ("outcomes", "Outcomes", tables.outcomes(figures, tables.teams(figures))),
        ("volume", "Requests and tokens", _volume(figures)),
        ("faults", "Faults", more_tables.faults(figures) if figures.at("faults") else ""),
        ("fairness", "Fairness and quotas", _fairness(figures)),
        ("server", "Server metrics", _server(plots.server)),
        ("cost", "Cost", more_tables.cost(figures) if figures.at("price") else ""),
        ("trust", "Can these figures be believed?", _trust(figures)),
        (
            "run",
            "The run",
            more_tables.machine(figures) + "<h3>Scenario</h3>" + more_tables.scenario(figures),
        ),
    ]
    there = [part for part in parts if part[2]]
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title, _ in there)
    sections = "".join(_section(*part) for part in there)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav><main id="main">{sections}</main>'


def _section(name: str, title: str, content: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{escape(title)}</h2>{content}</section>'
    )


def _description(figures: Figures) -> str:
    return figures.text("scenario", "description") if figures.at("scenario", "description") else ""


def _facts(figures: Figures, day: str) -> str:
    facts = (
        ("target", figures.text("target")),
        ("model", figures.text("model")),
        ("began", escape(day)),
        ("took", figures.show(seconds, "seconds")),
        ("run", figures.text("run")),
    )
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def _verdict(figures: Figures) -> str:
    verdict = str(figures.at("verdict"))
    sign, says = _SAYS[verdict]
    reasons = [figures.text("reasons", place) for place in range(len(figures.at("reasons") or []))]
    listed = "".join(f"<li>{reason}</li>" for reason in reasons)
    return f"""
<div class="verdict {escape(verdict)}" role="status">
<p class="word"><span aria-hidden="true">{sign}</span> {figures.text("verdict")}</p>
<div><p>{escape(says)}</p>{f"<ul>{listed}</ul>" if listed else ""}</div>
</div>"""


def _tiles(figures: Figures) -> str:
    part = ("overall",)
    tiles = (
        ("met every objective", figures.show(share, *part, "attainment", "share")),
        ("TTFT p99", figures.percentile("p99", *part, "ttft")),
        ("TPOT p99", figures.percentile("p99", *part, "tpot")),
        ("whole answers per second", figures.show(number, *part, "good_rate")),
        ("output tokens per second", figures.show(number, *part, "output_rate")),
    )
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles)
        + "</dl>"
    )


def _figure(plot: Plot) -> str:
    if plot.drawn:
        described = escape(f"{plot.title}. {plot.reading}")
        drawing = (
            f'<div class="plot" id="plot-{plot.name}" role="img" aria-label="{described}"></div>'
        )
    else:
        drawing = '<p class="nothing">Nothing to draw: no request has this figure.</p>'
    classes = "small" if plot.small else "wide"
    looks = "".join(f"<li>{swatch(one)}{one.value}</li>" for one in plot.key)
    key = f'<ul class="key">{looks}</ul>' if looks else ""
    return (
        f'<figure class="{classes}"><figcaption><h3>{escape(plot.title)}</h3>'
        f"<p>{escape(plot.reading)}</p>{key}</figcaption>{drawing}</figure>"
    )


def _grid(plots: Sequence[Plot], kind: str = "") -> str:
    return f'<div class="grid {kind}">' + "".join(map(_figure, plots)) + "</div>"


def _latency(figures: Figures, plots: Sequence[Plot]) -> str:
    times = tables.times(figures, tables.teams(figures), "Times by team")
    parts = tables.workloads(figures)
    if parts:
        inner = tables.times(figures, parts, "Times by workload")
        times += f"<details><summary>Times by workload</summary>{inner}</details>"
    return times + _grid(plots)


def _over_time(figures: Figures, plots: Sequence[Plot]) -> str:
    bands = (
        "Bands marked F1, F2 … are the faults of the table below. " if figures.at("faults") else ""
    )
    hint = "Drag across a plot to look closer: all plots over time follow. Double-click to go back."
    windows = (
        f"<details><summary>These figures as a table</summary>{tables.windows(figures)}</details>"
    )
    return f'<p class="note screen">{bands}{hint}</p>{_grid(plots, "timed")}{windows}'


def _volume(figures: Figures) -> str:
    content = tables.volume(figures, tables.teams(figures), "Requests and tokens by team")
    parts = tables.workloads(figures)
    if parts:
        inner = tables.volume(figures, parts, "Requests and tokens by workload")
        content += f"<details><summary>By workload</summary>{inner}</details>"
    return content


def _fairness(figures: Figures) -> str:
    shared = more_tables.fairness(figures) if figures.at("fairness") else ""
    return shared + more_tables.quotas(figures)


def _server(plots: Sequence[Plot]) -> str:
    if not plots:
        how = "a scenario names pages of metrics under <code>scrapes</code>."
        return f'<p class="note">None were read: {how}</p>'
    note = (
        "As the server itself says it. Counters are per second over the time since the point"
        " before; of histograms it is the mean, and p99 as the buckets tell, of what was observed"
        " since then."
    )
    return f'<p class="note">{note}</p>{_grid(plots, "timed")}'


def _trust(figures: Figures) -> str:
    valid = bool(figures.at("trusted", "valid"))
    word = "Yes: nothing that the load test did itself is in the way." if valid else "No."
    said = "".join(
        tables.listed(figures, "trusted", name)
        for name in ("reasons", "notes")
        if figures.at("trusted", name)
    )
    colour = "fine" if valid else "warn"
    return f'<div class="{colour}"><b>{word}</b> {said}</div>{more_tables.trusted(figures)}'
