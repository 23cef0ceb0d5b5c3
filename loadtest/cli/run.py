"""`gptoss-loadtest run`, and `report`, which makes its results anew."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest import folder
from loadtest.cli import options, said
from loadtest.client.progress import Display
from loadtest.errors import UserError
from loadtest.folder import Folder
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.scenario.load import load, parsed
from loadtest.session import Session, concluded


def run(
    source: options.Source,
    url: options.URL = "",
    model: options.ModelName = "",
    duration: options.Duration = "",
    seed: options.Seed = None,
    given: options.Changes = [],  # noqa: B006 - typer copies it
    out: options.Out = None,
) -> None:
    """Send what a scenario says, and say whether what was promised was kept.

    Status: 0 it was, 3 it was not, 4 the run cannot tell, 5 the load test itself was too slow.
    Ctrl-C ends it early: what ran is still judged and kept.
    """
    scenario = load(source, options.changes(given, url, model, duration, seed))
    place = Folder(out) if out else folder.new(options.RESULTS, scenario.name)
    place.make()
    session = Session(scenario, os.environ, lambda line: typer.echo(f"note: {line}", err=True))
    try:
        with Display(scenario.name, Console(stderr=True)) as display:
            circumstances, records = asyncio.run(session.play(display.show))
    except UserError:
        place.give_up()
        raise
    place.keep(scenario, circumstances, records)
    _conclude(place, scenario, records)


def report(
    place: Annotated[Path, typer.Argument(metavar="FOLDER", help="that a run left")],
) -> None:
    """Make the summary and the report of a run anew from its records."""
    ran = Folder(place)
    _conclude(ran, parsed(ran.scenario(), str(place)), ran.records())


def _conclude(place: Folder, scenario: Scenario, records: list[Record]) -> None:
    summary = concluded(scenario, place.circumstances(), records)
    place.conclude(summary, records)
    typer.echo(said.summary(summary))
    typer.echo(f"report: {place.report}")
    raise typer.Exit(said.STATUS[summary.verdict])
