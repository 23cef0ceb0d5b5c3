"""`gptoss key`: make, list, rotate and revoke API keys."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli import amounts
from service.cli.directory import actor, ask
from service.cli.limits import Given, limit_options
from service.quota.limits import Limits
from service.tenants.difference import limit_words
from service.tenants.keys import Key

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="public id, see `gptoss key list`")]


@app.command()
@limit_options
def create(
    team: Annotated[str, typer.Argument(help="the team it is for")],
    limits: Given,
    expires: Annotated[
        str | None, typer.Option(help="lifetime: 12h, 90d, 4w; default: for ever")
    ] = None,
    label: Annotated[str, typer.Option(help="what it is for, shown in lists")] = "",
) -> None:
    """Make a key. It is printed once; only its SHA-256 is kept.

    Limits are the key's own, beside those of its team; a COUNT is such as 600, 10k, 2M or 1.5B.
    """
    until = datetime.now(UTC) + amounts.duration("--expires", expires) if expires else None
    key, token = ask(
        lambda directory: directory.create_key(
            actor(), team, label=label, expires=until, limits=Limits(**limits)
        )
    )
    _show_once(key, token)


@app.command("list")
def list_keys(
    team: Annotated[str | None, typer.Option(help="of this team alone")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list")] = False,
) -> None:
    """List the keys by their public ids, oldest first."""
    keys = ask(lambda directory: directory.keys(team))
    if as_json:
        typer.echo(json.dumps([document(key) for key in keys], indent=2))
    else:
        Console().print(table(keys))


@app.command()
def rotate(
    id: KeyId,
    grace: Annotated[
        str | None, typer.Option(help="how long the old one still works: 30m, 1h, 7d")
    ] = None,
) -> None:
    """Make a key like this one (team, label, limits, end), and end this one, at once by default.

    The new key is printed once.
    """
    after = amounts.duration("--grace", grace) if grace else timedelta()
    key, token = ask(lambda directory: directory.rotate_key(actor(), id, grace=after))
    _show_once(key, token)
    typer.echo(f"key {id} is refused {f'in {grace}' if grace else 'from now on'}", err=True)


@app.command()
def revoke(id: KeyId) -> None:
    """Refuse a key from now on, on every gateway within seconds."""
    ask(lambda directory: directory.revoke_key(actor(), id))
    typer.echo(f"key {id} is revoked")


def state(key: Key, now: datetime) -> str:
    """active, expired or revoked."""
    return "revoked" if key.revoked else "active" if key.is_active(now) else "expired"


def table(keys: list[Key]) -> Table:
    """The keys for a person. What they are called is shown as it is, never as markup."""
    shown = Table("id", "team", "label", "created", "expires", "state", "limits")
    now = datetime.now(UTC)
    for key in keys:
        own = ", ".join(f"{name} {text}" for name, text in limit_words(key.limits).items())
        expires = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
        cells = (key.id, key.team, key.label, f"{key.created:%Y-%m-%d %H:%M}", expires)
        shown.add_row(*(Text(cell) for cell in (*cells, state(key, now), own)))
    return shown


def document(key: Key) -> dict[str, Any]:
    """A key for a machine, without its digest."""
    moments = {name: getattr(key, name) for name in ("created", "expires", "revoked")}
    return {
        "id": key.id,
        "team": key.team,
        "label": key.label,
        "state": state(key, datetime.now(UTC)),
        **{name: moment and moment.isoformat() for name, moment in moments.items()},
        "limits": {name: getattr(key.limits, name) for name in limit_words(key.limits)},
    }


def _show_once(key: Key, token: str) -> None:
    typer.echo(token)
    typer.echo(f"key {key.id} of team {key.team}: shown this once, keep it safe", err=True)
