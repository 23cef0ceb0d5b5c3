"""The command `gptoss`."""

import logging
import sys

import typer

from service.cli import (
    audit,
    db,
    engine,
    fields,
    fleet,
    gateway,
    grace,
    key,
    profiles,
    selftest,
    settings,
    team,
    up,
    upstreams,
    usage,
    weights,
)
from service.errors import UserError

app = typer.Typer(
    name="gptoss",
    help="Serve gpt-oss on vLLM: engines by GPU profile, and one endpoint for teams.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up.up)
app.command()(engine.engine)
app.command()(gateway.gateway)
app.command()(profiles.profiles)
app.command()(profiles.plan)
app.command()(weights.weights)
app.command()(fields.fields)
app.command()(upstreams.upstreams)
app.command()(selftest.selftest)
app.command()(grace.grace)
app.command("settings")(settings.show_settings)
app.add_typer(fleet.app, name="fleet")
app.add_typer(team.app, name="team")
app.add_typer(key.app, name="key")
app.command()(usage.usage)
app.command()(audit.audit)
app.add_typer(db.app, name="db")


def main() -> None:
    """Run a command. What a person can mend is one line on standard error, status 1."""
    logging.captureWarnings(True)
    try:
        app()
    except UserError as error:
        typer.echo(f"gptoss: {error}", err=True)
        sys.exit(1)
