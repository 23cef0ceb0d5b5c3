"""`gptoss grace`: the grace periods that follow from the drain time."""

import json
from typing import Annotated

import typer

from service import settings
from service.grace import Grace

_MEANINGS = {
    "notice": "gateway: unready, and takes requests (GPTOSS_NOTICE)",
    "drain": "gateway: open streams may end (GPTOSS_DRAIN)",
    "gateway_termination": "gateway: SIGTERM to SIGKILL (terminationGracePeriodSeconds)",
    "engine_pre_stop": "engine: sleep before SIGTERM (preStop)",
    "engine_shutdown": "engine: SIGTERM to abort (vLLM's shutdown-timeout)",
    "engine_termination": "engine: preStop to SIGKILL (terminationGracePeriodSeconds)",
}


def grace(
    drain: Annotated[
        float | None, typer.Option(min=0.1, help="drain time, s; default: that of the settings")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Print the grace periods of gateways and engines, in seconds: what to tell the platform."""
    periods = Grace(settings.load().drain if drain is None else drain)
    if as_json:
        typer.echo(json.dumps({name: getattr(periods, name) for name in _MEANINGS}, indent=2))
        return
    width = max(map(len, _MEANINGS.values()))
    for name, meaning in _MEANINGS.items():
        typer.echo(f"{meaning:{width}}  {getattr(periods, name):g}")
