"""`gptoss-loadtest find-limit`: how much load keeps the objectives."""

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from loadtest.cli import options, said
from loadtest.client.progress import Display
from loadtest.errors import UserError
from loadtest.limit import Observe, Trials, at_rate, rate_of, with_clients
from loadtest.scenario.document import Scenario
from loadtest.scenario.load import load
from loadtest.search.find import Found, Rules, find_concurrency, find_rate

_UNRESOLVED = 4


class Axis(StrEnum):
    """What is raised."""

    RATE = "rate"
    CLIENTS = "clients"


def find_limit(
    source: options.Source,
    axis: Annotated[
        Axis, typer.Option(help="requests per second, or clients that wait for their answers")
    ] = Axis.RATE,
    low: Annotated[float, typer.Option(min=0.0, help="where to begin; else the scenario's")] = 0.0,
    high: Annotated[float, typer.Option(min=0.0, help="where to end; else 64 times that")] = 0.0,
    each: Annotated[float, typer.Option(min=1.0, help="time of a first trial, s")] = 60.0,
    longest: Annotated[
        float, typer.Option(min=1.0, help="how many times that a level is tried in all")
    ] = 8.0,
    resolution: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="how near the answer is to be, by itself")
    ] = 0.05,
    url: options.URL = "",
    model: options.ModelName = "",
    seed: options.Seed = None,
    given: options.Changes = [],  # noqa: B006 - typer copies it
    out: Annotated[Path | None, typer.Option(help="a file for the answer and all trials")] = None,
) -> None:
    """Find the highest load that keeps the scenario's objectives.

    The level is doubled until a trial fails, then halved in on. Each is judged by an interval, and
    repeated for longer where that is not enough: status 0 if the limit is found, 4 if it is not.
    """
    scenario = load(source, options.changes(given, url, model, "", seed))
    rules = Rules(_share(scenario), each, longest, resolution)
    low = low or (rate_of(scenario) if axis is Axis.RATE else 1.0)
    at, console = _at(axis), Console(stderr=True)
    with ExitStack() as stack:
        trials = Trials(
            lambda level, seconds: at(scenario, level, seconds),
            os.environ,
            lambda one: _shown(one, console, stack),
            lambda line: console.print(f"note: {line}", markup=False),
        )
        found = asyncio.run(_find(axis, trials, low, high or low * 64, rules))
    typer.echo(said.found(found, axis.value))
    if out:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if not found.resolved:
        raise typer.Exit(_UNRESOLVED)


async def _find(axis: Axis, trials: Trials, low: float, high: float, rules: Rules) -> Found:
    if axis is Axis.RATE:
        return await find_rate(trials, low, high, rules)
    return await find_concurrency(trials, round(low), round(high), rules)


def _at(axis: Axis) -> Callable[[Scenario, float, float], Scenario]:
    return at_rate if axis is Axis.RATE else with_clients


def _share(scenario: Scenario) -> float:
    """What is promised to all teams, of 1. Raises `UserError` where they are promised different
    shares."""
    shares = {scenario.slo_of(team).percent for team in scenario.teams}
    if len(shares) > 1:
        raise UserError("the limit is searched for one promise: teams here have different percents")
    return shares.pop() / 100


def _shown(scenario: Scenario, console: Console, stack: ExitStack) -> Observe:
    """Each trial under the one before."""
    stack.close()
    return stack.enter_context(Display(_title(scenario), console)).show


def _title(scenario: Scenario) -> str:
    levels = ", ".join(
        f"{getattr(team.arrivals, 'rate', None) or getattr(team.arrivals, 'clients', 0):g}"
        for team in scenario.teams.values()
    )
    return f"{scenario.name} at {levels}"
