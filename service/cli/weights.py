"""`gptoss weights`: fetch and verify a model's published weights."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
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
from service.cli.waiting import WaitOption, patiently
from service.engine import tiny
from service.engine import weights as published_weights
from service.engine.weights import DEFAULT_REVISION
from service.engine.weights.manifest import check_revision
from service.errors import UserError
from service.models import Model

INTERRUPTED = 130
_LOG_STEP = 5  # percent
_EVERY, _AGAIN = 3.0, 60.0  # between two looks while waiting, and two lines that say so, s


def weights(
    model: Annotated[str, typer.Argument(help="gpt-oss-20b, gpt-oss-120b or gpt-oss-tiny")],
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit; a commit never changes")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="use what was verified here; no network")
    ] = False,
    wait: WaitOption = 0,
) -> None:
    """Fetch a model's weights into the Hugging Face cache, verify them and print the folder.

    An interrupted download continues when run again. HF_HOME, HF_TOKEN and HF_ENDPOINT count. The
    tiny model is built, in the cache folder of the settings. With --offline and --wait it waits
    until another process has done all that, and writes nothing.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted, cache_dir = models.find(model), settings.load().cache_dir
    if wait and not offline:
        raise UserError("--wait is for what another process fetches: give --offline, too")
    if revision and wanted.repo is None:
        raise UserError(f"{wanted.name} is built, and has no revisions: leave out --revision")
    check_revision(revision or DEFAULT_REVISION)  # another would be waited for in vain
    try:
        if wait:
            look = partial(_found, wanted, revision, cache_dir)
            folder = patiently(look, wait, every=_EVERY, again=_AGAIN)
        else:
            folder = _provided(wanted, revision, cache_dir, offline=offline)
    except KeyboardInterrupt:
        typer.echo("gptoss: interrupted: run again, it continues where it was", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(folder)


def _provided(model: Model, revision: str | None, cache_dir: Path, *, offline: bool) -> Path:
    """The folder, fetched or built where it may be."""
    if model.repo is None:
        return tiny.found(cache_dir) if offline else _built(cache_dir)
    with drawn(model.repo) as progress:
        return published_weights.fetch(
            model.repo,
            revision=revision,
            stamps=cache_dir / "weights",
            offline=offline,
            progress=progress,
        )


def _found(model: Model, revision: str | None, cache_dir: Path) -> Path:
    """The folder that another process has made; UserError while it has not."""
    if model.repo is None:
        return tiny.found(cache_dir)
    return published_weights.found(model.repo, revision=revision, stamps=cache_dir / "weights")


def _built(cache_dir: Path) -> Path:
    said = -1

    def say(fraction: float, note: str) -> None:
        nonlocal said
        if (step := int(100 * fraction) // _LOG_STEP) != said:
            said = step
            typer.echo(f"{fraction:4.0%} {note}", err=True)

    return tiny.ensure(cache_dir, say)


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
