"""`gptoss team`: make, show, change and delete teams."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.cli import amounts, apply, key
from service.cli.directory import actor, ask
from service.cli.limits import Given, limit_options, option
from service.errors import UserError
from service.quota.limits import Tier
from service.tenants import declared
from service.tenants.difference import TeamChange, limit_words, words
from service.tenants.directory import Directory
from service.tenants.document import TeamDocument, fault
from service.tenants.keys import Key
from service.tenants.team import Team, TeamName

app = typer.Typer(help="Make, show, change and delete teams.", no_args_is_help=True)
app.command("apply")(apply.apply)

Name = Annotated[str, typer.Argument(help="the team: a-z, 0-9 and -")]
TierOption = Annotated[Tier | None, typer.Option(help="urgency of its work")]
ZoneOption = Annotated[
    str | None, typer.Option(help="whose days and months the budgets count, as Europe/Berlin")
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        metavar="COUNT", help="reserved for an answer that the client does not bound, tokens"
    ),
]
CacheOption = Annotated[
    bool | None,
    typer.Option("--isolate-cache/--shared-cache", help="share no prefix cache with other teams"),
]
DisabledOption = Annotated[
    bool | None, typer.Option("--disable/--enable", help="refuse all of its requests")
]
ModelOption = Annotated[
    str | None, typer.Option(help="make these limits the team's limits on this one model")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]

_NAME: TypeAdapter[str] = TypeAdapter(TeamName)


@app.command()
@limit_options
def create(
    name: Name,
    limits: Given,
    on_model: ModelOption = None,
    tier: TierOption = None,
    timezone: ZoneOption = None,
    default_output: OutputOption = None,
    isolate_cache: CacheOption = None,
    disabled: DisabledOption = None,
) -> None:
    """Make a team. What is not limited is unlimited; a COUNT is such as 600, 10k, 2M or 1.5B."""
    patch = _patch(limits, on_model, tier, timezone, default_output, isolate_cache, disabled)
    team = _patched(name, TeamDocument(), patch)
    ask(lambda directory: directory.create_team(actor(), team))
    typer.echo(f"team {name} is made; give it a key: gptoss key create {name}")


@app.command("set")
@limit_options
def change(
    name: Name,
    limits: Given,
    on_model: ModelOption = None,
    tier: TierOption = None,
    timezone: ZoneOption = None,
    default_output: OutputOption = None,
    isolate_cache: CacheOption = None,
    disabled: DisabledOption = None,
) -> None:
    """Change what is given, and nothing else; `none` lifts a limit.

    A COUNT is such as 600, 10k, 2M or 1.5B.
    """
    patch = _patch(limits, on_model, tier, timezone, default_output, isolate_cache, disabled)
    if not patch:
        raise UserError("give what to change, such as --rpm 600: see `gptoss team set --help`")

    def edit(team: Team) -> Team:
        return _patched(name, TeamDocument.of(team), patch)

    before, after = ask(lambda directory: directory.change_team(actor(), name, edit))
    done = str(TeamChange(before, after))
    typer.echo(done if before != after else f"nothing changes: {name} is so already")


@app.command("list")
def list_teams(
    as_json: JsonOption = False,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="print a file for `gptoss team apply`")
    ] = False,
) -> None:
    """List the teams."""
    if as_json and as_yaml:
        raise UserError("give --json or --yaml, not both")
    teams = ask(Directory.teams)
    if as_yaml:
        typer.echo(declared.write(teams), nl=False)
    elif as_json:
        typer.echo(json.dumps([_document(team) for team in teams], indent=2))
    else:
        table = Table("team", "tier", "time zone", "limits", "limits on a model", "state")
        for team in teams:
            table.add_row(*map(Text, _row(team)))
        Console().print(table)


@app.command()
def show(name: Name, as_json: JsonOption = False) -> None:
    """Show a team: limits, limits on models, tier, time zone and keys."""

    async def found(directory: Directory) -> tuple[Team, list[Key]]:
        return await directory.team(name), await directory.keys(name)

    team, keys = ask(found)
    if as_json:
        shown = _document(team) | {"keys": [key.document(each) for each in keys]}
        typer.echo(json.dumps(shown, indent=2))
        return
    table = Table("team", team.name)
    for word, value in words(team).items():
        table.add_row(Text(word), Text(value))
    console = Console()
    console.print(table)
    if keys:
        console.print(key.table(keys))
    else:
        typer.echo(f"no keys yet: gptoss key create {name}")


@app.command()
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False
) -> None:
    """Delete a team and revoke its keys. Its use stays in the ledger."""
    if not yes:
        count = sum(each.revoked is None for each in ask(lambda directory: directory.keys(name)))
        apply.confirm(f"delete team {name} and revoke {apply.keys(count)}?")
    revoked = ask(lambda directory: directory.delete_team(actor(), name))
    typer.echo(f"team {name} is deleted, {apply.keys(revoked)} revoked")


def _patch(
    limits: Given,
    on_model: str | None,
    tier: Tier | None,
    timezone: str | None,
    default_output: str | None,
    isolate_cache: bool | None,
    disabled: bool | None,
) -> dict[str, Any]:
    """What was given, as a merge patch of the team's document."""
    if on_model is not None and not limits:
        raise UserError(f"--on-model {on_model}: give the limits on it too, such as --rpm 60")
    if on_model is not None and "models" in limits:
        raise UserError("--models is about all of a team's models: leave out --on-model")
    output = amounts.count("--default-output", default_output) if default_output else None
    given = {
        "tier": tier,
        "timezone": timezone,
        "default_output": output,
        "isolate_cache": isolate_cache,
        "disabled": disabled,
    }
    patch: dict[str, Any] = {word: value for word, value in given.items() if value is not None}
    if on_model is not None:
        return patch | {"models": {on_model: limits}}
    return patch | ({"limits": limits} if limits else {})


def _patched(name: str, document: TeamDocument, patch: Mapping[str, Any]) -> Team:
    try:
        return document.patched(patch).team(_NAME.validate_python(name))
    except ValidationError as error:
        where, what = fault(error)
        if "[key]" in where:
            raise UserError(f"--on-model: {what}") from None
        words = [part for part in where if isinstance(part, str)]
        raise UserError(f"{option(words[-1]) if words else f'team {name!r}'}: {what}") from None


def _document(team: Team) -> dict[str, Any]:
    document = TeamDocument.of(team).model_dump(mode="json", exclude_none=True)
    return {"name": team.name, **document}


def _row(team: Team) -> tuple[str, ...]:
    on_models = [
        f"{model}: {', '.join(f'{name} {text}' for name, text in limit_words(limits).items())}"
        for model, limits in sorted(team.model_limits.items())
    ]
    return (
        team.name,
        team.tier,
        team.timezone,
        "\n".join(f"{name} {text}" for name, text in limit_words(team.limits).items()),
        "\n".join(on_models),
        "disabled" if team.disabled else "active",
    )
