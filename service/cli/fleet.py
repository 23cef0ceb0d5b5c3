"""`gptoss fleet`: engines on a Ray cluster. Run on one of its nodes."""

import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.errors import UserError
from service.fleet import document
from service.grace import Grace

if TYPE_CHECKING:  # what Ray is needed for is imported where it is used: not all have it
    from service.fleet.member import Picture

app = typer.Typer(
    help="Keep engines on a Ray cluster. Run on one of its nodes.", no_args_is_help=True
)

Address = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="host:port of the Ray head; default: this machine"),
]
Name = Annotated[str, typer.Option("--name", help="of the fleet")]
File = Annotated[Path, typer.Argument(help="fleet.yaml; its words: `gptoss fleet schema`")]

_COLUMNS = ("pool", "engine", "node", "GPUs", "state", "running", "waiting", "age", "why")


@app.command()
def up(
    file: File,
    address: Address = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="until every engine has answered")
    ] = True,
    if_none: Annotated[
        bool, typer.Option("--if-none", help="do nothing where that fleet is there already")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="a fleet of that name that another file began")
    ] = False,
) -> None:
    """Have a fleet be as a file says: started, or changed without cutting a stream."""
    fleet = document.read(file)
    _connect(address, fleet.name)
    from service.fleet import start

    if if_none and start.is_there(fleet.name):
        typer.echo(f"fleet {fleet.name} is there already")
        return
    new = start.up(fleet, start.origin(file), take_over=take_over)
    if not wait:
        typer.echo(f"fleet {fleet.name} is told; `gptoss fleet status` shows it")
        return
    try:
        picture = start.wait(fleet.name, _longest(fleet), _teller())
    except UserError as error:
        if not new:
            raise UserError(f"{error}; what ran before goes on") from None
        typer.echo(f"{error}: the fleet is ended again")
        start.down(fleet.name, _ending(fleet), _teller())
        raise
    except KeyboardInterrupt:
        raise UserError(
            f"fleet {fleet.name} goes on without this command: `gptoss fleet status` shows it"
        ) from None
    _show(picture)
    typer.echo(f"\n{_upstreams(fleet, address)}")


@app.command()
def status(
    name: Name = "gptoss",
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="all of it, as JSON")] = False,
) -> None:
    """Show each engine: node, GPUs, state, load, and why it is not ready."""
    _connect(address, name)
    from service.fleet import start

    picture = start.status(name)
    if as_json:
        typer.echo(json.dumps(asdict(picture), indent=2))
    else:
        _show(picture)


@app.command()
def scale(
    pool: Annotated[str, typer.Argument(help="of the fleet's pools")],
    replicas: Annotated[int, typer.Argument(min=0, max=4096, help="engines")],
    name: Name = "gptoss",
    address: Address = None,
) -> None:
    """Have another number of engines in a pool, until the next `up`."""
    _connect(address, name)
    from service.fleet import start

    start.scale(name, pool, replicas)
    typer.echo(f"pool {pool} goes to {replicas}; `gptoss fleet status` shows it")


@app.command()
def logs(
    engine: Annotated[str, typer.Argument(help="as `gptoss fleet status` calls it")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 100,
    name: Name = "gptoss",
    address: Address = None,
) -> None:
    """Print the end of what an engine printed."""
    _connect(address, name)
    from service.fleet import start

    typer.echo(start.log(name, engine, lines))


@app.command()
def down(name: Name = "gptoss", address: Address = None) -> None:
    """End a fleet: its engines leave the board, their streams end, then they do."""
    _connect(address, name)
    from service.fleet import start

    # As long as the longest grace period there can be, and then some.
    start.down(name, Grace(3600, 600).engine_termination, _teller())
    typer.echo(f"fleet {name} is ended")


@app.command()
def schema() -> None:
    """Print the JSON schema of fleet.yaml, for editors."""
    typer.echo(json.dumps(document.schema(), indent=2))


def _connect(address: str | None, fleet: str) -> None:
    if find_spec("ray") is None:
        raise UserError(
            "Ray is not installed here: pip install 'gptoss-serving[fleet]' ray==… in the version"
            " of the cluster"
        )
    from service.fleet import cluster

    cluster.connect(address, fleet)


def _longest(fleet: document.Fleet) -> float:
    """For all engines to be replaced, one after the other."""
    engines = sum(
        max(pool.replicas, pool.autoscaling.max_replicas * pool.autoscaling.enabled)
        for pool in fleet.pools.values()
    )
    start = max((pool.startup_seconds for pool in fleet.pools.values()), default=0)
    return (start + _ending(fleet)) * max(engines, 1)


def _ending(fleet: document.Fleet) -> float:
    grace = Grace(fleet.drain_seconds, fleet.notice_seconds)
    return 2 * grace.engine_termination + 60


def _teller() -> Callable[["Picture"], None]:
    """Says what has changed since it last spoke."""
    said: dict[str, str] = {}

    def tell(picture: "Picture") -> None:
        for engine in picture.engines:
            line = f"{engine.phase} on {engine.node}"
            if said.get(engine.name) != line:
                said[engine.name] = line
                typer.echo(f"{engine.name}  {line}")
        troubles = {pool.name: pool.why for pool in picture.pools} | {"keeper": picture.fault}
        for what, why in troubles.items():
            if why and said.get(what) != why:
                said[what] = why
                typer.echo(f"{what}  {why}")

    return tell


def _show(picture: "Picture") -> None:
    table = Table()
    for heading in _COLUMNS:
        table.add_column(heading, overflow="fold")
    for one in picture.engines:
        old = "" if one.current else " (old)"
        cells = (one.pool, one.name, one.node, one.cards, f"{one.phase}{old}", one.running)
        table.add_row(*map(str, cells), str(one.waiting), _age(one.age), one.why or "-")
    console = Console()
    console.print(table)
    for pool in picture.pools:
        line = f"{pool.name}: {pool.model} with {pool.profile}, {pool.ready} of {pool.wanted} ready"
        notes = [pool.why, pool.last_failure and f"last failure: {pool.last_failure}"]
        console.print("; ".join([line, *filter(None, notes)]), highlight=False)
    ending = "is being ended, " if picture.ending else ""
    console.print(
        f"fleet {picture.name}: {ending}from {picture.origin}; board {picture.board}"
        + (f"; {picture.fault}" if picture.fault else ""),
        style="dim",
        highlight=False,
    )


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _upstreams(fleet: document.Fleet, address: str | None) -> str:
    """The setting for gateways."""
    board = fleet.board
    anywhere = ip_address(board.host).is_unspecified
    head = (address or "HEAD:").rpartition(":")[0] if anywhere else board.host
    upstreams = [
        {
            "model": pool.model_name,
            "pool": name,
            "url": f"sd+http://{head}:{board.port}/pools/{name}",
            "slots": pool.settings.max_num_seqs,
        }
        for name, pool in fleet.pools.items()
    ]
    return f"# For gateways:\nexport GPTOSS_GATEWAY__UPSTREAMS='{json.dumps(upstreams)}'"
