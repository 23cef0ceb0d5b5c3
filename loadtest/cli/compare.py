"""`gptoss-loadtest compare`: two runs of one scenario."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from loadtest.cli import said
from loadtest.compare import Gated, gate
from loadtest.compare import compare as compared
from loadtest.errors import UserError
from loadtest.folder import Folder
from loadtest.scenario.load import parsed
from loadtest.summary import Verdict


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="the folder of the run before")],
    after: Annotated[Path, typer.Argument(metavar="B", help="the folder of the run after")],
    least: Annotated[
        float, typer.Option(min=0.0, help="the smallest difference that matters, percent")
    ] = 2.0,
    gated: Annotated[
        bool, typer.Option("--gate", help="status 3 if B is worse, 4 if that cannot be told")
    ] = False,
    allow: Annotated[
        float, typer.Option(min=0.0, help="as much worse as B may be at the gate, percent")
    ] = 10.0,
) -> None:
    """Say of B whether it is better than A, worse, or whether the two cannot tell.

    Requests are paired by their place in the plan, so both are to be runs of one scenario and seed.
    What changed between them otherwise no statistics knows: run A, B, A, B.
    """
    a, b = (_believed(path, gated) for path in (before, after))
    found = compared(
        a.records(),
        b.records(),
        parsed(a.scenario(), str(before)),
        parsed(b.scenario(), str(after)),
        ended=(_interrupted(a), _interrupted(b)),
        least=least,
    )
    typer.echo(f"{found.pairs} requests of each")
    typer.echo(said.comparison(found))
    if gated:
        _close(gate(found, allow))


def _close(gated: Gated) -> NoReturn:
    typer.echo(f"GATE: {gated.verdict.upper()}: {gated.reason}")
    raise typer.Exit(said.STATUS[gated.verdict])


def _believed(path: Path, gated: bool) -> Folder:
    """A run whose figures are the server's. Raises `UserError`; at the gate nothing can be told."""
    folder = Folder(path)
    if folder.summary().verdict is Verdict.INVALID:
        reason = f"{path} is INVALID: the load test itself was too slow, so run it again"
        if gated:
            _close(Gated(Verdict.UNRESOLVED, reason))
        raise UserError(reason)
    return folder


def _interrupted(folder: Folder) -> float | None:
    """When its measured time ended, s since its start, if that was before its time. Raises
    `UserError`."""
    summary = folder.summary()
    if not summary.interrupted:
        return None
    return parsed(folder.scenario(), str(folder.path)).warmup + summary.overall.seconds
