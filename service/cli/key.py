"""`gptoss key`: make, list and revoke API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service import settings
from service.errors import UserError
from service.tenants.file_store import FileStore
from service.tenants.keys import Key

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def _store() -> FileStore:
    return FileStore(settings.load().keys_file)


@app.command()
def create(
    team: Annotated[str, typer.Argument(help="the team it is for")],
    expires: Annotated[str | None, typer.Option(help="lifetime: 12h, 90d, 4w")] = None,
) -> None:
    """Make a key. It is printed once; only its SHA-256 is kept."""
    until = datetime.now(UTC) + _lifetime(expires) if expires else None
    key, token = Key.issue(team, expires=until)
    _store().add(key)
    typer.echo(token)
    typer.echo(f"key {key.id} of team {team}: shown this once, keep it safe", err=True)


@app.command("list")
def list_keys() -> None:
    """List the keys by their public ids."""
    table = Table("id", "team", "created", "expires", "state")
    now = datetime.now(UTC)
    for key in _store().read():
        state = "revoked" if key.revoked else "active" if key.is_active(now) else "expired"
        expires = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
        table.add_row(key.id, key.team, f"{key.created:%Y-%m-%d %H:%M}", expires, state)
    Console().print(table)


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="public id, see `gptoss key list`")]) -> None:
    """Refuse a key from now on, on every gateway within seconds."""
    _store().revoke(id)
    typer.echo(f"key {id} is revoked")


def _lifetime(text: str) -> timedelta:
    count, unit = text[:-1], _UNITS.get(text[-1:])
    try:
        if unit and count.isdecimal() and int(count) > 0:
            return timedelta(**{unit: int(count)})
    except OverflowError:
        pass
    raise UserError(f"--expires {text!r} is not a lifetime: give hours, days or weeks, such as 90d")
