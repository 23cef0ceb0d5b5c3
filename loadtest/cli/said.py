"""What a terminal is told of results."""

from collections.abc import Iterable
from typing import Final

from loadtest.compare import Compared, Comparison
from loadtest.limit import Answer
from loadtest.search.find import Tried
from loadtest.search.trial import Count
from loadtest.summary import Distribution, Part, Summary, Verdict

STATUS: Final = {
    Verdict.PASSED: 0,
    Verdict.FAILED: 3,
    Verdict.UNRESOLVED: 4,
    Verdict.INVALID: 5,
}
"""Exit statuses. 1 is an error of the user's, 2 one of the command line."""

# Of a code, which is the server's and can be anything.
_CODE: Final = 60
_COLUMNS: Final = ("", "due", "whole", "met", "ttft p50", "p99", "tpot p50", "p99", "tokens/s")


def summary(one: Summary) -> str:
    """The verdict, why, and a line for each team."""
    rows = [_COLUMNS, _row("all", one.overall)]
    if len(one.teams) > 1:
        rows += [_row(name, part) for name, part in one.teams.items()]
    outcomes = ", ".join(_outcome(one.overall, name) for name in one.overall.outcomes)
    trust = one.trusted
    processes = "1 process" if trust.workers == 1 else f"{trust.workers} processes"
    lines = [
        "",
        table(rows),
        f"outcomes: {outcomes or 'none'}",
        f"load test: {processes}, {trust.cpu_percent:.0f}% of a core, sent"
        f" {trust.rate_percent:.1f}% of what was due, late by {_time(trust.lag_p99)} (p99)",
        *(f"note: {note}" for note in trust.notes),
        "",
        f"{one.verdict.upper()}" + (" (interrupted)" if one.interrupted else ""),
        *(f"  {reason}" for reason in one.reasons),
    ]
    return "\n".join(lines)


def _outcome(part: Part, name: str) -> str:
    """How many, and why."""
    codes = part.codes.get(name, {})
    why = ", ".join(f"{_plain(code)} {count}" for code, count in codes.items())
    return f"{name} {part.outcomes[name]}" + (f" ({why})" if why else "")


def _plain(text: str) -> str:
    """What a server said, so that it does nothing to a terminal."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    return plain if len(plain) <= _CODE else plain[: _CODE - 1] + "…"


def _row(name: str, part: Part) -> tuple[str, ...]:
    share = part.attainment
    whole = sum(part.outcomes.get(outcome, 0) for outcome in ("ok", "length"))
    return (
        name,
        str(part.planned),
        str(whole),
        f"{share.share:.2%}" if share.count else "-",
        *_two(part.ttft),
        *_two(part.tpot),
        f"{part.output_rate:.1f}",
    )


def _two(one: Distribution) -> tuple[str, str]:
    if not one.count:
        return "-", "-"
    return _time(one.p50), _time(one.p99)


def _time(seconds: float | None) -> str:
    """Of a percentile that falls among failures there is none."""
    if seconds is None:
        return "failed"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def comparison(one: Comparison) -> str:
    """A line for each measure, and what makes the two hard to compare."""
    rows = [("", "before", "after", "difference", "95% between", "verdict")]
    rows += [_compared(measure) for measure in one.measures]
    return "\n".join([table(rows), *(f"warning: {warning}" for warning in one.warnings)])


def _compared(one: Compared) -> tuple[str, str, str, str, str, str]:
    unit = "points" if one.measure == "attainment" else "%"
    between = "-" if one.low is None or one.high is None else f"{one.low:+.2f} to {one.high:+.2f}"
    difference = "-" if one.difference is None else f"{one.difference:+.2f} {unit}"
    verdict = one.verdict.replace("_", " ") + (f" ({one.reason})" if one.reason else "")
    before, after = (_figure(one.measure, value) for value in (one.before, one.after))
    return one.measure, before, after, difference, between, verdict


def _figure(measure: str, value: float | None) -> str:
    """With its unit: what is neither a share nor a rate is a time."""
    if value is None:
        return "-"
    if measure == "attainment":
        return f"{100 * value:.4g}%"
    if measure == "output_rate":
        return f"{value:.4g} tokens/s"
    return f"{1000 * value:.4g} ms" if value < 1 else f"{value:.4g} s"


def answer(one: Answer, axis: str) -> str:
    """Each trial, by the team that stands worst, what is to be known of them, and the answer."""
    rows = [
        (one.unit, "seconds", "counted", "good", "99% between", "ttft p99", "verdict", "outcomes")
    ]
    rows += [_tried(each) for each in one.trials]
    passed, failed = (
        "none" if level is None else f"{level:g}" + (f" {one.unit}" if axis == "rate" else "")
        for level in (one.passed, one.failed)
    )
    what = "rate" if axis == "rate" else f"number of {axis}"
    found = f"highest {what} that keeps it: {passed}; lowest that does not: {failed}"
    notes = [f"note: {note}" for note in one.notes]
    return "\n".join([table(rows), *notes, "", found, one.reason])


def _tried(one: Tried) -> tuple[str, str, str, str, str, str, str, str]:
    trial = one.trial
    count = trial.teams.get(one.team, Count(0, 0))
    verdict = "saturated" if trial.saturated and trial.valid else one.verdict.value
    return (
        f"{trial.level:g}",
        f"{trial.seconds:.3g}",
        str(count.counted),
        f"{count.good / count.counted:.2%}" if count.counted else "-",
        f"{one.low:.2%} to {one.high:.2%}",
        _time(count.ttft_p99) if count.counted else "-",
        f"{verdict} ({one.team})" if len(trial.teams) > 1 else verdict,
        ", ".join(f"{name} {number}" for name, number in count.outcomes.items()) or "-",
    )


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """In columns; the first is on the left, the others on the right but for the last of words."""
    listed = [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in listed
    )
