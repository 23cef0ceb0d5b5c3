"""`gptoss audit`: who changed what."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli.directory import ask


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="how many changes")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list")] = False,
) -> None:
    """Show the last changes of teams and keys, newest first. The log is only ever appended to."""
    entries = ask(lambda directory: directory.audit(limit=limit))
    if as_json:
        rows = [asdict(entry) | {"at": entry.at.isoformat()} for entry in entries]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("at (UTC)", "actor", "action", "subject", "change")
    for entry in entries:
        change = "\n".join(
            f"{name} {_shown(before)} -> {_shown(after)}"
            for name, (before, after) in entry.change.items()
        )
        cells = (f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.actor, entry.action, entry.subject, change)
        table.add_row(*map(Text, cells))
    Console().print(table)


def _shown(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
