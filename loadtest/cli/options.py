"""What several commands take."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from loadtest.errors import UserError

Source = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="a file, or the name of a ready-made scenario")
]
URL = Annotated[
    str, typer.Option(help="the endpoint, with /v1 or without, instead of the scenario's")
]
ModelName = Annotated[str, typer.Option("--model", help="instead of the scenario's")]
Duration = Annotated[str, typer.Option(help="instead of the scenario's: 90, 90s, 5m")]
Seed = Annotated[int | None, typer.Option(help="instead of the scenario's")]
Changes = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="another value, such as teams.main.arrivals.rate=5, or of a list by its number from 0:"
        " teams.main.workloads.0.output=5",
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="the folder to leave; else one in loadtest-results/")
]
RESULTS = Path("loadtest-results")


def changes(
    given: list[str], url: str = "", model: str = "", duration: str = "", seed: int | None = None
) -> dict[str, Any]:
    """What options change of a scenario. Raises `UserError`."""
    found: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UserError(f"--set {one}: write KEY=VALUE, such as teams.main.arrivals.rate=5")
        found[key] = _value(one, value)
    named = {"target.url": url, "target.model": model, "duration": _plain(duration), "seed": seed}
    return found | {key: value for key, value in named.items() if value not in ("", None)}


def _value(given: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {given}: the value is no YAML") from None


def _plain(duration: str) -> str | float:
    """Without a unit it is a number."""
    try:
        return float(duration)
    except ValueError:
        return duration
