"""What else a run comes to: whether to believe it, fairness, quotas, faults, cost, machine."""

from contextlib import suppress
from html import escape

import yaml
from pydantic import ValidationError

from loadtest.report.cells import NEVER, NOTHING, count, number, percent, seconds, share
from loadtest.report.figures import Figures, Step
from loadtest.report.table import Row, measure, table
from loadtest.scenario.document import Scenario


def trusted(figures: Figures) -> str:
    """The load test's own conduct, beside what it may be."""
    trust, bounds = ("trusted",), ("scenario", "trust")
    lag = figures.show(seconds, *bounds, "lag_p99")
    rows: list[Row] = [
        (
            measure("Schedule lag, p99", "How late the load test itself sent its requests."),
            figures.show(seconds, *trust, "lag_p99"),
            f"≤ {lag}, and a twentieth of each TTFT objective",
        ),
        (measure("Schedule lag, p50", ""), figures.show(seconds, *trust, "lag_p50"), ""),
        (measure("Schedule lag, highest", ""), figures.show(seconds, *trust, "lag_highest"), ""),
        (
            measure("Requests sent", "Of those that were due."),
            figures.show(percent, *trust, "rate_percent"),
            f"≥ {figures.show(percent, *bounds, 'rate_percent')}",
        ),
        (
            measure("Processor", "Of one core, by the busiest process of the load test."),
            figures.show(percent, *trust, "cpu_percent"),
            f"≤ {figures.show(percent, *bounds, 'cpu_percent')}",
        ),
        (
            measure("Event loop lag, p99", "How late the load test was to look at what came."),
            figures.show(seconds, *trust, "loop_lag_p99"),
            f"≤ {figures.show(seconds, *bounds, 'loop_lag_p99')}",
        ),
        (
            measure(
                "Clock set",
                "By how much the wall clock was set meanwhile. Times here are from"
                " a clock that cannot be set; only times of day would be wrong.",
            ),
            figures.show(seconds, *trust, "clock_steps"),
            "",
        ),
        (measure("Processes", "Of the load test."), figures.show(count, *trust, "workers"), ""),
    ]
    return table("The load test's own conduct", ("", "was", "may be"), rows)


def fairness(figures: Figures) -> str:
    """How teams fared beside each other."""
    rows: list[Row] = [
        (
            measure(
                "Jain index",
                "Of whole answers by what was asked: 1 is even, and 1 divided by"
                " the number of teams is all to one of them.",
            ),
            figures.show(number, "fairness", "jain"),
        ),
        (
            measure(
                "TTFT, slowest by fastest",
                "p99 of the conforming team that waits longest, by"
                " that of the one that waits least.",
            ),
            figures.show(number, "fairness", "ttft_ratio"),
        ),
    ]
    for team in figures.at("fairness", "tokens") or {}:
        title = measure(f"Output tokens per second: {team}", "")
        rows.append((title, figures.show(number, "fairness", "tokens", team)))
    for team in figures.at("fairness", "isolation") or {}:
        title = measure(
            f"Isolation: {team}",
            "Its p99 TTFT while a team beyond its limits sent, by"
            " that while none did: 1 is perfect. Below it what that is by 95% of all samples.",
        )
        shown = figures.show(number, "fairness", "isolation", team, none=NEVER)
        rows.append((title, shown + _isolated(figures, team)))
    return table("Fairness", ("", "is"), rows)


def _isolated(figures: Figures, team: str) -> str:
    """Between what it is, where that can be said."""
    if team not in (figures.at("fairness", "isolation_high") or {}):
        return ""
    low, high = (
        figures.show(number, "fairness", f"isolation_{end}", team, none=NEVER)
        for end in ("low", "high")
    )
    return f"<small>{low} to {high}</small>"


def quotas(figures: Figures) -> str:
    """Each limit of each team, and what was let in; empty where no team has any."""
    rows = [
        _quota(figures, team, place)
        for team in figures.at("teams") or {}
        for place in range(len(figures.at("teams", team, "quotas") or []))
    ]
    if not rows:
        return ""
    head = "team, limit;kept;entitled;offered;let in;of what it could have had;worst window"
    return table(
        "Quotas",
        f"{head};honest advice".split(";"),
        rows,
        "Entitled: what the limit allows over the measured time, beginning with a full bucket."
        " Of what it could have had: let in, by the least of entitled and offered; well below 100%"
        " more is refused than the limit asks for. Worst window: the most let in within any window"
        " of the limit, by the limit; above 1 is too much. Honest advice: of requests that came"
        " again when retry-after said, those let in.",
    )


def _quota(figures: Figures, team: str, place: int) -> Row:
    path: tuple[Step, ...] = ("teams", team, "quotas", place)
    word, colour = ("kept", "passed") if figures.at(*path, "kept") else ("broken", "failed")
    names = ("entitled", "offered", "admitted")
    let_in, came = (
        figures.show(count, *path, name) for name in ("admitted_at_advice", "retries_at_advice")
    )
    return (
        f"{escape(team)}<small>{figures.text(*path, 'limit')}</small>",
        f'<span class="badge {colour}">{word}</span>',
        *(figures.show(number, *path, name) for name in names),
        figures.show(share, *path, "used"),
        figures.show(number, *path, "worst_window"),
        f"{let_in} of {came}" if figures.at(*path, "retries_at_advice") else NOTHING,
    )


def faults(figures: Figures) -> str:
    """What was done on purpose, and what came of it."""
    head = "fault;at;lasted;first felt;alert;lost;retried;recovered;budget spent".split(";")
    rows = [_fault(figures, place) for place in range(len(figures.at("faults") or []))]
    return table(
        "Faults",
        head,
        rows,
        "First felt: from the fault to the first request that failed or was retried for it. Alert:"
        " from the fault to when it fired. Recovered: from the fault's end to when as many requests"
        " were good as before. Budget: of all failures that the objective allows this run.",
    )


def _fault(figures: Figures, place: int) -> Row:
    path: tuple[Step, ...] = ("faults", place)
    title = f"<b>F{place + 1}</b> {figures.text(*path, 'what')} {figures.text(*path, 'target')}"
    at = figures.show(seconds, *path, "at")
    if figures.at(*path, "error"):
        why = f'<small class="wrong">not made: {figures.text(*path, "error")}</small>'
        return (title + why, at, *[NOTHING] * 7)
    return (
        title,
        at,
        figures.show(seconds, *path, "ended", none="to the end"),
        figures.show(seconds, *path, "detected", none="never"),
        _alert(figures, *path),
        figures.show(count, *path, "lost"),
        figures.show(count, *path, "retried"),
        figures.show(seconds, *path, "recovered", none="never"),
        figures.show(percent, *path, "budget_percent"),
    )


def _alert(figures: Figures, *path: Step) -> str:
    if not figures.at(*path, "alert"):
        return NOTHING
    fired = figures.show(seconds, *path, "alerted", none="never")
    return f"{fired}<small>{figures.text(*path, 'alert')}</small>"


def cost(figures: Figures) -> str:
    """What tokens cost."""
    currency = figures.text("price", "currency")
    rows: list[Row] = [
        (measure("GPUs", ""), figures.show(count, "price", "gpus")),
        (
            measure("Output tokens per GPU-second", "Of all the time that the GPUs were there."),
            figures.show(number, "price", "tokens_per_gpu_second"),
        ),
        (
            measure("A million output tokens", "All costs on the answers."),
            f"{figures.show(number, 'price', 'per_million_output')} {currency}",
        ),
        (
            measure("A million tokens", "Of prompts and answers together."),
            f"{figures.show(number, 'price', 'per_million_total')} {currency}",
        ),
    ]
    return table("Cost", ("", "is"), rows)


def machine(figures: Figures) -> str:
    """Where the load test itself ran."""
    rows: list[Row] = [
        (escape(name), figures.text("machine", name)) for name in figures.at("machine") or {}
    ]
    overhead = measure("Tokens around a prompt", "What the server puts around it, as measured.")
    rows.append((overhead, figures.show(count, "overhead_tokens")))
    return table("The machine of the load test", ("", ""), rows)


def scenario(figures: Figures) -> str:
    """The scenario, to be run again: what it says itself, not what is so by default."""
    document = figures.at("scenario")
    with suppress(ValidationError):  # Of another version: as it is.
        read = Scenario.model_validate(document)
        document = read.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'
