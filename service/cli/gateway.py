"""`gptoss gateway`: the OpenAI-compatible endpoint in front of the engines."""

import sys
from typing import Annotated

import typer

from service import settings
from service.telemetry import logs


def gateway(
    processes: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="gateways on this machine that share the port; needs a quota store"
        ),
    ] = 1,
) -> None:
    """Serve the OpenAI-compatible endpoint until SIGTERM or Ctrl-C.

    Everything it needs comes from the settings: see `gptoss settings`. With several processes, each
    has an operators' port of its own: the configured one, and the next ones.
    """
    logs.configure()
    if processes > 1:
        from service.embedded import processes as several

        sys.exit(several.run(settings.load(), processes))
    from service.gateway import server  # the server's imports are of no use to other commands

    server.run(settings.load())
