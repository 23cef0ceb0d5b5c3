"""`gptoss weights`: fetch and verify a model's published weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from service import models, settings
from service.engine import weights as published_weights
from service.errors import UserError

INTERRUPTED = 130
_LOG_STEP = 5  # percent


def weights(
    model: Annotated[str, typer.Argument(help="gpt-oss-20b or gpt-oss-120b")],
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit; a commit never changes")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="use what was verified here; no network")
    ] = False,
) -> None:
    """Fetch a model's weights into the Hugging Face cache, verify them and print the folder.

    An interrupted download continues when run again. HF_HOME, HF_TOKEN and HF_ENDPOINT count.
    """
    repo = models.find(model).repo
    if repo is None:
        raise UserError(f"{model} has no published weights: the engine builds it when it starts")
    stamps = settings.load().cache_dir / "weights"
    try:
        with drawn(repo) as progress:
            folder = published_weights.fetch(
                repo, revision=revision, stamps=stamps, offline=offline, progress=progress
            )
    except KeyboardInterrupt:
        typer.echo("gptoss: interrupted: run again, it continues where it was", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(folder)


@contextmanager
def drawn(title: str) -> Iterator[published_weights.Progress]:
    """Progress on standard error: a bar in a terminal, a line now and then in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _logged(title)
        return
    bar = Progress(
        TextColumn(title),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
    )
    with bar:
        # A task per step, so that the speed of one does not colour the next.
        task, step = bar.add_task("", total=None), ""

        def draw(done: int, total: int, note: str) -> None:
            nonlocal task, step
            if total and note != step and done < total:
                bar.remove_task(task)
                task, step = bar.add_task(note, total=total, completed=done), note
            bar.update(task, description=note, total=total or None, completed=done)

        yield draw


def _logged(title: str) -> published_weights.Progress:
    last = ("", -1)

    def log(done: int, total: int, note: str) -> None:
        nonlocal last
        now = (note, 100 * done // total // _LOG_STEP if total else 0)
        if now != last:
            last = now
            size = published_weights.human
            far = f" {size(done)} of {size(total)}" if total else ""
            typer.echo(f"{title}: {note}{far}", err=True)

    return log
