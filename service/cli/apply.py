"""`gptoss team apply`: make the teams be as a file declares them."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.cli.directory import actor, ask
from service.errors import UserError
from service.tenants import declared
from service.tenants.difference import Kind, difference
from service.tenants.directory import Directory

_COLOURS = {Kind.NEW: "green", Kind.CHANGED: "yellow", Kind.GONE: "red"}
_STDIN = "-"


def apply(
    file: Annotated[str, typer.Option("--file", "-f", help="YAML of teams; - is standard input")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the changes alone")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="delete the teams that are not in the file")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask before deleting")] = False,
) -> None:
    """Show what a file of teams changes, then change all of it; run again, it changes nothing.

    All that is shown is applied, or nothing: nothing where one of these teams changed meanwhile.

    A team in the file is declared whole: what is left out has its default. `gptoss team list
    --yaml` prints such a file. Teams that are not in it are left alone.
    """
    wanted = declared.read(_text(file), "standard input" if file == _STDIN else file)
    changes = difference(wanted, ask(Directory.teams), prune=prune)
    if not changes:
        typer.echo("nothing changes")
        return
    gone = [change.name for change in changes if change.kind is Kind.GONE]
    revoked = _count_keys(gone)
    for change in changes:
        line = f"{change}: revokes {keys(revoked[change.name])}" if change.name in gone else change
        typer.secho(str(line), fg=_COLOURS[change.kind])
    if dry_run:
        typer.echo("nothing was changed: this was a dry run")
        return
    if gone and not yes:
        if file == _STDIN:  # it is spent, so that no answer can come from there
            raise UserError("this deletes teams: add --yes, or leave out --prune")
        confirm(f"delete {len(gone)} of the teams and revoke {keys(revoked.total())}?")
    ask(lambda directory: directory.apply(actor(), changes))
    typer.echo(f"applied: {len(changes)} changed")


def confirm(question: str) -> None:
    """Go on only if a person says yes; where nobody can be asked, say what to do instead."""
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody can answer here: add --yes")
    typer.confirm(question, abort=True)


def keys(count: int) -> str:
    """So many keys, in words."""
    return f"{count} key{'' if count == 1 else 's'}"


def _count_keys(teams: Sequence[str]) -> Counter[str]:
    """The keys that are revoked with each team."""
    if not teams:
        return Counter()
    every = ask(Directory.keys)
    return Counter(key.team for key in every if key.revoked is None and key.team in teams)


def _text(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not text: give YAML in UTF-8") from None
