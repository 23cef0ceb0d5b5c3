"""`gptoss usage`: who used how much."""

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service import settings
from service.database.opened import open_database
from service.errors import UserError
from service.ledger.usage import SUMS, Dimension, UsageQuery, UsageRow
from service.ledger.usage import usage as sums_of_use
from service.ledger.words import read_query

_DIMENSIONS = ", ".join(Dimension)
_UNBOUNDED = 10_000
# The name for a machine, and the one for a person.
_COLUMNS = {
    "requests": "requests",
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
    "total_tokens": "total",
    "seconds": "seconds",
}


def usage(
    team: Annotated[str | None, typer.Option(help="of this team alone")] = None,
    key: Annotated[str | None, typer.Option(help="of this key alone, by its public id")] = None,
    model: Annotated[str | None, typer.Option(help="on this model alone")] = None,
    since: Annotated[
        str,
        typer.Option(
            help="from then on: 12h, 7d or 4w ago, a day (2026-08-01) in the team's time zone,"
            " or a time (2026-08-01T14:00Z, UTC unless it says otherwise)"
        ),
    ] = "30d",
    until: Annotated[
        str | None, typer.Option(help="before then, in the same words; now if left out")
    ] = None,
    by: Annotated[str, typer.Option(help=f"what to sum by, in this order: {_DIMENSIONS}")] = "team",
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV with a header")] = False,
) -> None:
    """Show what was used: requests, tokens, and the seconds that requests took.

    Total tokens are prompt and completion; cached tokens are among the prompt's, reasoning tokens
    among the completion's. Times count by whole hours: one that is begun counts whole. Old use is
    kept by hour, then by day alone; its hour is then shown as "-" (JSON: null, CSV: empty).
    """
    if as_json and as_csv:
        raise UserError("give --json or --csv, not both")
    query = read_query(
        datetime.now(UTC), by, since, until, team=team, key=key, model=model, prefix="--"
    )
    rows = asyncio.run(_ask(query))
    if as_json:
        typer.echo(json.dumps([_flat(row) for row in rows], indent=2))
    elif as_csv:
        typer.echo(render_csv(query.by, rows), nl=False)
    elif rows:
        print_table(Console(), query.by, rows)
    if not rows:
        typer.echo("nothing was used in that time, or not by what you named", err=True)


async def _ask(query: UsageQuery) -> list[UsageRow]:
    async with open_database(settings.load()) as database:
        return await sums_of_use(database, query)


def _flat(row: UsageRow) -> dict[str, str | int | float | None]:
    return {**row.group, **{name: getattr(row, name) for name in _COLUMNS}}


def render_csv(by: Sequence[Dimension], rows: Sequence[UsageRow]) -> str:
    """A header, and a line for each row, quoted where CSV demands it.

    No spreadsheet takes a cell for a formula: what a team can choose of these names begins with a
    letter or a digit, never with one of =+-@.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, *_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_flat, rows))
    return text.getvalue()


def print_table(console: Console, by: Sequence[Dimension], rows: Sequence[UsageRow]) -> None:
    """A table with its totals, whole: where the terminal is too narrow for it, as a list."""
    table = _wide(by, rows)
    wanted = console.measure(table, options=console.options.update(max_width=_UNBOUNDED)).maximum
    if not console.is_terminal:
        console.width = max(console.width, wanted)
    elif console.width < wanted:
        table = _narrow(rows)
    console.print(table)


def _wide(by: Sequence[Dimension], rows: Sequence[UsageRow]) -> Table:
    table = Table()
    for dimension in by:
        table.add_column(dimension, no_wrap=True)
    for title in _COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_names(row), *_numbers(row))
    table.add_section()
    table.add_row("total", *[""] * (len(by) - 1), *_numbers(_total(rows)), style="bold")
    return table


def _narrow(rows: Sequence[UsageRow]) -> Table:
    """A line for each figure, below the name of its group."""
    table = Table(show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    named = [*(("\n".join(_names(row)), row) for row in rows), ("total", _total(rows))]
    for name, row in named:
        table.add_row(name, "", style="bold")
        for title, number in zip(_COLUMNS.values(), _numbers(row), strict=True):
            table.add_row(title, number)
        table.add_section()
    return table


def _names(row: UsageRow) -> list[str]:
    return [value if value is not None else "-" for value in row.group.values()]


def _numbers(row: UsageRow) -> list[str]:
    return [f"{getattr(row, name):,.{int(name == 'seconds')}f}" for name in _COLUMNS]


def _total(rows: Sequence[UsageRow]) -> UsageRow:
    return UsageRow({}, *(sum(getattr(row, name) for row in rows) for name in SUMS))
