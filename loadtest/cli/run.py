"""`gptoss-loadtest run`, and `report`, which makes its results anew."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from loadtest import folder
from loadtest.cli import options, said
from loadtest.client.progress import Display, Screen
from loadtest.doubts import doubts
from loadtest.errors import UserError
from loadtest.folder import Circumstances, Folder, Keeper
from loadtest.forecast import forecast
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the scenario, say what it sends, and send none")
    ] = False,
) -> None:
    """Send what a scenario says, and say whether what was promised was kept.

    Status: 0 it was, 3 it was not, 4 the run cannot tell, 5 the load test itself was too slow.
    Ctrl-C ends it early: what ran is still judged and kept.
    """
    scenario = load(source, options.changes(given, url, model, duration, seed))
    screen = Screen(stderr=True)
    with suppress(OSError):  # nobody may be there to read them
        for doubt in doubts(scenario):
            screen.print(f"note: {doubt}", markup=False, highlight=False, soft_wrap=True)
    if dry_run:
        typer.echo("\n".join(forecast(scenario)))
        return
    place = Folder(out) if out else folder.new(options.RESULTS, scenario.name)
    place.make(scenario)
    # Said when all is written: nobody may be there to read them.
    notes: list[str] = []
    keeper = Keeper(place, notes.append)
    session = Session(scenario, os.environ, notes.append)
    try:
        with Display(scenario.name, screen) as display:
            circumstances, records = asyncio.run(session.play(display.show, keeper=keeper))
    except UserError:
        place.give_up()
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        # It was ended before anything was sent: from then on signals end it in order.
        if not keeper.began:
            place.give_up()
        raise KeyboardInterrupt from None
    try:
        place.keep(circumstances, records if keeper.failed else None)
    except OSError as error:
        notes.append(f"{place.path} is not whole: {error.strerror}")
    _conclude(place, scenario, circumstances, records, notes)


def report(
    place: Annotated[Path, typer.Argument(metavar="FOLDER", help="that a run left")],
) -> None:
    """Make the summary and the report of a run anew from its records."""
    ran = Folder(place)
    scenario = parsed(ran.scenario(), str(place))
    _conclude(ran, scenario, ran.circumstances(), ran.records(), [])


def _conclude(
    place: Folder,
    scenario: Scenario,
    circumstances: Circumstances,
    records: list[Record],
    notes: list[str],
) -> None:
    summary = concluded(scenario, circumstances, records)
    left = f"report: {place.report}"
    try:
        place.conclude(summary, records)
    except OSError as error:
        left = f"no report: {place.path} cannot be written to: {error.strerror}"
    for line in notes:
        typer.echo(f"note: {line}", err=True)
    typer.echo(said.summary(summary))
    typer.echo(left)
    raise typer.Exit(said.STATUS[summary.verdict])
