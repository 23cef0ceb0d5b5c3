"""`gptoss upstreams`: each replica as a running gateway sees it."""

import json
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from service import settings
from service.errors import UserError

_COLUMNS = ("pool", "replica", "state", "in flight", "tokens", "running", "queued", "KV", "why")


def upstreams(
    url: Annotated[
        str | None,
        typer.Option(help="the gateway's operators' port; default: that of the settings"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="all of it, as JSON")] = False,
) -> None:
    """Show each replica: state, load, and why it is out. Counts are of the gateway that is asked.

    *running*, *queued* and *KV* are what the engine says of all gateways' requests.
    """
    gateway = settings.load().gateway
    base = url or f"http://{gateway.ops_host}:{gateway.ops_port}"
    picture = _ask(base.rstrip("/"))
    if as_json:
        typer.echo(json.dumps(picture, indent=2))
        return
    console = Console()
    console.print(_table(picture["pools"]))
    for line in _notes(picture):
        console.print(line, style="dim", highlight=False)


def _ask(base: str) -> dict[str, Any]:
    try:
        answer = httpx.get(f"{base}/upstreams", timeout=5, trust_env=False)
        answer.raise_for_status()
        picture: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UserError(
            f"no gateway answers at {base} ({type(error).__name__}): start one, or name its"
            " operators' port with --url"
        ) from None
    return picture


def _table(pools: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading in _COLUMNS:
        table.add_column(heading, overflow="fold")
    for pool in pools:
        for replica in pool["replicas"]:
            table.add_row(pool["name"], *_cells(replica))
    return table


def _cells(replica: dict[str, Any]) -> list[str]:
    usage = replica["kv_usage"]
    cells = [
        replica["url"],
        replica["state"],
        f"{replica['in_flight']}/{replica['slots']}",
        replica["tokens_in_flight"],
        replica["engine_running"],
        replica["engine_waiting"],
        None if usage is None else f"{usage:.0%}",
        replica["reason"] or replica["last_error"],
    ]
    return ["-" if cell in (None, "") else str(cell) for cell in cells]


def _notes(picture: dict[str, Any]) -> list[str]:
    notes = [
        f"{pool['name']}: {pool['waiting']} requests wait ({pool['waiting_work']} tokens)"
        for pool in picture["pools"]
        if pool["waiting"]
    ]
    for pool in picture["pools"]:
        notes += [f"{pool['name']}: {error}" for error in pool["discovery_errors"]]
        if not pool["replicas"]:
            notes.append(f"{pool['name']}: no replica is known")
    for name, model in picture["models"].items():
        pools = model["pools"]
        if list(pools) != [name] or model["fallback"]:
            shares = ", ".join(f"{pool}: {share:g}" for pool, share in pools.items())
            fallback = f", else {model['fallback']}" if model["fallback"] else ""
            notes.append(f"{name} is served by {shares}{fallback}")
    return notes
