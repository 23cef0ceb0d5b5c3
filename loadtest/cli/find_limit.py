"""`gptoss-loadtest find-limit`: how much load keeps the objectives."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from loadtest.cli import options, said
from loadtest.client.progress import Display, Screen
from loadtest.client.signals import Signals
from loadtest.errors import UserError
from loadtest.limit import (
    Observe,
    Trials,
    advice,
    at_rate,
    rate_of,
    unit_of,
    with_clients,
)
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
        Axis,
        typer.Option(
            help="requests per second (conversations, where they have several turns), or clients"
            " that wait for their answers"
        ),
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
    Ctrl-C or SIGTERM ends the search with what was found until then.
    """
    scenario = load(source, options.changes(given, url, model, "", seed))
    rules = Rules(_share(scenario), each, longest, resolution)
    low = low or (rate_of(scenario) if axis is Axis.RATE else 1.0)
    at, console = _at(axis), Screen(stderr=True)
    at(scenario, low, each)  # what cannot be searched is said before anything else
    _check(out)
    with ExitStack() as stack:
        signals = Signals()
        trials = Trials(
            lambda level, seconds: at(scenario, level, seconds),
            os.environ,
            lambda one: _shown(one, console, stack),
            lambda line: _note(console, line),
            signals,
        )
        for line in advice(scenario):
            _note(console, line)
        search = _search(axis, trials, low, high or low * 64, rules, unit_of(scenario))
        answer = trials.answer(asyncio.run(_heard(search, signals)))
    if out:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(answer)) + b"\n")
    typer.echo(said.answer(answer, axis.value))
    if not answer.resolved:
        raise typer.Exit(_UNRESOLVED)


async def _heard(search: Coroutine[Any, Any, Found], signals: Signals) -> Found:
    """A search that signals end in order."""
    with signals:
        return await search


async def _search(
    axis: Axis, trials: Trials, low: float, high: float, rules: Rules, unit: str
) -> Found:
    if axis is Axis.RATE:
        return await find_rate(trials, low, high, rules, unit)
    return await find_concurrency(trials, round(low), round(high), rules)


def _check(out: Path | None) -> None:
    """Before the search, so that hours of it are not lost. Raises `UserError`."""
    if out is None:
        return
    place = out if out.exists() else out.parent
    if out.is_dir() or not out.parent.is_dir() or not os.access(place, os.W_OK):
        raise UserError(f"{out} cannot be written: name a file in a folder that is there")


def _note(console: Screen, line: str) -> None:
    console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)


def _at(axis: Axis) -> Callable[[Scenario, float, float], Scenario]:
    return at_rate if axis is Axis.RATE else with_clients


def _share(scenario: Scenario) -> float:
    """What is promised to all teams, of 1. Raises `UserError` where they are promised different
    shares."""
    percents = {team: scenario.slo_of(team).percent for team in scenario.teams}
    percent = scenario.slo.percent
    others = [team for team, its in percents.items() if its != percent]
    if len(set(percents.values())) > 1:
        each = ", ".join(f"{team} {its:g}" for team, its in percents.items())
        raise UserError(
            f"the limit is searched for one slo.percent, and teams have different ones ({each}):"
            f" give all the same, such as --set teams.{others[0]}.expect.slo.percent={percent:g}"
        )
    return next(iter(percents.values())) / 100


def _shown(scenario: Scenario, console: Screen, stack: ExitStack) -> Observe:
    """Each trial under the one before."""
    stack.close()
    return stack.enter_context(Display(_title(scenario), console)).show


def _title(scenario: Scenario) -> str:
    levels = ", ".join(
        f"{getattr(team.arrivals, 'rate', None) or getattr(team.arrivals, 'clients', 0):g}"
        for team in scenario.teams.values()
    )
    return f"{scenario.name} at {levels}"
