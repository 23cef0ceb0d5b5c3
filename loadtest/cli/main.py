"""The command itself."""

import os
import sys
from typing import Annotated, TextIO

import typer

from loadtest.cli import compare, find_limit, run, selfcheck, show
from loadtest.errors import UserError
from loadtest.session import machine

app = typer.Typer(
    name="gptoss-loadtest",
    help="Load tests of OpenAI-compatible endpoints, with figures that can be believed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"gptoss-loadtest {machine()['gptoss-serving']}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say it, and end")
    ] = False,
) -> None:
    pass


app.command()(run.run)
app.command("find-limit")(find_limit.find_limit)
app.command()(compare.compare)
app.command()(selfcheck.selfcheck)
app.command()(show.scenarios)
app.command()(run.report)
app.command()(show.schema)


def main() -> None:
    """Run a command. What a person can mend is one line on standard error, status 1."""
    try:
        app()
    except UserError as error:
        typer.echo(f"gptoss-loadtest: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)
    finally:
        _let_go(sys.stdout)
        _let_go(sys.stderr)


def _let_go(stream: TextIO) -> None:
    """Say what is left to say. Where nobody reads it, Python itself would end with status 120 for
    that, and not with the verdict's."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
