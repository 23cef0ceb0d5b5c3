"""`gptoss profiles` and `gptoss plan`: which cards run what, and the arithmetic behind it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service import models
from service import profiles as known


def profiles() -> None:
    """List the profiles."""
    table = Table("profile", "GPUs", "GiB each", "runs on", "models", "measured")
    for profile in known.PROFILES.values():
        is_cpu = profile.vendor is known.Vendor.CPU
        table.add_row(
            profile.name,
            "-" if is_cpu else str(profile.gpus),
            f"{profile.memory_gib:g}",
            profile.cards,
            "\n".join(profile.models),
            profile.measured or "never",
        )
    Console().print(table)


def plan(
    model: Annotated[str, typer.Option(help="gpt-oss-120b, gpt-oss-20b or gpt-oss-tiny")],
    profile: Annotated[str, typer.Option(help="a name from `gptoss profiles`")],
) -> None:
    """Show how a model fits a profile: weights, KV cache, and the requests it holds."""
    typer.echo(known.plan(models.find(model), known.find(profile)).explain())
