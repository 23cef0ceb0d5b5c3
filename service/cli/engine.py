"""`gptoss engine`: become one vLLM server, configured for this machine's GPUs."""

import os
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from service import settings
from service.cli.weights import drawn
from service.engine import hardware, launcher, tiny
from service.engine import weights as published_weights
from service.errors import UserError
from service.grace import Grace, check
from service.models import Model
from service.models import find as find_model
from service.profiles import GPU, Choice, Vendor, choose, plan
from service.profiles import find as find_profile

ModelOption = Annotated[
    str | None, typer.Option(envvar="MODEL", help="default: the largest that fits")
]
ProfileOption = Annotated[
    str | None, typer.Option(envvar="PROFILE", help="default: by the GPUs found")
]


def engine(
    model: ModelOption = None,
    profile: ProfileOption = None,
    model_path: Annotated[
        Path | None,
        typer.Option("--model-path", "--weights", help="folder of the weights; default: fetched"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="of the published weights: branch, tag or commit")
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1024, max=65535)] = launcher.DEFAULT_PORT,
    served_model_name: Annotated[
        str | None, typer.Option(help="name in the API; default: the model's")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="for the rendered files; default: see `gptoss settings`")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline/--online", help="no network, once the weights are there")
    ] = True,
    expert_parallel: Annotated[
        bool, typer.Option("--expert-parallel", help="whole experts per card; slower as measured")
    ] = False,
    executor: Annotated[
        launcher.Executor | None,
        typer.Option(
            help="what starts the processes of its cards: ray for cards of several nodes of a Ray"
            " cluster (with --profile; never measured); default: vLLM's choice"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the files; needs no GPU, vLLM or weights")
    ] = False,
) -> None:
    """Serve a model with vLLM 0.32.0: choose, prove that it fits, and become vLLM."""
    configured = settings.load()
    grace = Grace(configured.drain)
    check("engine", grace.engine_termination, configured.termination_grace)
    if executor is launcher.Executor.RAY:
        _check_ray(profile)
    # What Ray's cards are is for the cluster to say: they need not be this machine's.
    elsewhere = executor is launcher.Executor.RAY
    choice = select(model, profile, dry_run=dry_run or elsewhere)
    if expert_parallel:
        choice = with_expert_parallel(choice)
    if not dry_run:
        launcher.preflight(choice.plan, host, port, os.environ)
    launch = launcher.render(
        choice.plan,
        model_path=model_path
        or (
            _expected(choice.model, configured)
            if dry_run
            else _provide(choice.model, revision, configured)
        ),
        state_dir=state_dir or configured.state_dir,
        host=host,
        port=port,
        served_name=served_model_name,
        offline=offline,
        devices=choice.devices,
        drain=grace.engine_shutdown,
        executor=executor,
    )
    if dry_run:
        _show(launch)
        return
    launcher.check(launch, os.environ)
    typer.echo(choice.reason, err=True)
    typer.echo(choice.plan.explain(), err=True)
    launcher.become(launch)


def select(model: str | None, profile: str | None, *, dry_run: bool = False) -> Choice:
    """What to run here. The hardware is asked only when the answer depends on it."""
    if dry_run and profile:
        chosen = find_profile(profile)
        proven = plan(find_model(model or next(iter(chosen.models))), chosen)
        return Choice(proven.model, chosen, proven, f"profile {chosen.name} was asked for")
    return choose(_cards(model, profile), model, profile)


def _check_ray(profile: str | None) -> None:
    if not profile:
        raise UserError(
            "--executor ray needs --profile: this machine's cards do not say which others there are"
        )
    if find_spec("ray") is None:
        raise UserError(
            "--executor ray needs Ray here: pip install ray==… in the version of the cluster"
        )


def with_expert_parallel(choice: Choice) -> Choice:
    """The same choice with whole experts on each card, proven anew."""
    profile = replace(choice.profile, expert_parallel=True)
    return replace(choice, profile=profile, plan=plan(choice.model, profile))


def _cards(model: str | None, profile: str | None) -> tuple[GPU, ...]:
    """The machine's cards; none, without asking, for what runs on the CPU."""
    if profile and find_profile(profile).vendor is Vendor.CPU:
        return ()
    if model and not profile and find_model(model).repo is None:
        return ()
    return hardware.detect()


def _provide(model: Model, revision: str | None, configured: settings.Settings) -> Path:
    """The folder of the weights, fetched and verified, or built for the tiny model."""
    if model.repo is None:
        return tiny.ensure(configured.cache_dir, _say)
    stamps = configured.cache_dir / "weights"
    with drawn(model.repo) as progress:
        return published_weights.fetch(
            model.repo, revision=revision, stamps=stamps, progress=progress
        )


def _expected(model: Model, configured: settings.Settings) -> Path | str:
    """What a dry run shows for a folder that need not exist."""
    if model.repo is not None:
        return model.repo
    try:
        return tiny.location(configured.cache_dir)
    except PackageNotFoundError:
        return configured.cache_dir / model.name


def _say(fraction: float, note: str) -> None:
    typer.echo(f"{fraction:4.0%} {note}", err=True)


def _show(launch: launcher.Launch) -> None:
    typer.echo(f"# {launch.config_path}\n{launch.config_text}")
    typer.echo(f"# {launch.env_path}\n{launch.env_text}")
    typer.echo(f"# {' '.join(launch.argv)}")
