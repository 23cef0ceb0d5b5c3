"""`gptoss-loadtest scenarios` and `schema`: what there is to begin from."""

import json
from typing import Annotated

import typer

from loadtest.errors import UserError
from loadtest.scenario.load import load, ready
from loadtest.scenario.schema import schema as made


def scenarios(
    name: Annotated[str, typer.Argument(help="one of them: printed as YAML")] = "",
) -> None:
    """List the ready-made scenarios, or print one to begin from."""
    known = ready()
    if not name:
        rows = [(each, " ".join(load(each).description.split())) for each in known]
        typer.echo("\n".join(f"{each:<20} {text}" for each, text in rows))
    elif name in known:
        typer.echo(known[name], nl=False)
    else:
        raise UserError(f"{name} is no ready-made scenario: those are {', '.join(known)}")


def schema() -> None:
    """Print the JSON schema of scenarios, for editors."""
    typer.echo(json.dumps(made(), indent=1))
