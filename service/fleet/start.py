"""Begins, changes and ends a fleet: what a command does on a node of the cluster.

Everything that can be known beforehand is looked at before anything is started.
"""

import getpass
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from service.errors import UserError
from service.fleet import cluster, document, room
from service.fleet.document import Fleet
from service.fleet.keeper import Keeper
from service.fleet.member import Picture
from service.fleet.node_check import DISTRIBUTION, complaint
from service.fleet.order import Order
from service.fleet.room import Ask, Node

_LOOK_SECONDS = 1.0
# For Ray to start the keeper's process.
_KEEPER_SECONDS = 120.0
Saying = Callable[[Picture], None]


def origin(path: Path) -> str:
    """Where a document comes from, by which a second fleet of the same name is told apart."""
    return f"{getpass.getuser()}@{platform.node()}:{path.resolve()}"


def up(fleet: Fleet, origin: str, *, take_over: bool = False) -> bool:
    """Have the fleet be as the document says. Returns whether it is new. Raises `UserError`.

    It returns once the keeper has taken the document: `wait` is for the engines.
    """
    keeper = cluster.actor(cluster.KEEPER, fleet.name)
    before = cluster.answer(keeper.picture.remote()) if keeper is not None else None
    check(fleet, before)
    if keeper is None:
        _begin(fleet, origin)
        return True
    if refusal := cluster.answer(keeper.apply.remote(document.written(fleet), origin, take_over)):
        raise UserError(refusal)
    return False


def _begin(fleet: Fleet, origin: str) -> None:
    """Have a keeper that listens, or nothing."""
    told = (fleet.name, document.written(fleet), origin)
    cluster.store(fleet.name, None)  # what one left that is gone for good
    keeper = cluster.make_keeper(Keeper, fleet.name, *told)
    try:
        if fault := cluster.answer(keeper.listening.remote(), _KEEPER_SECONDS):
            raise UserError(fault)
    except UserError:
        _end_now(keeper, fleet.name)
        raise


def check(fleet: Fleet, before: Picture | None) -> None:
    """What is known to be in the way, in one line. Raises `UserError`."""
    nodes = _with_own(cluster.nodes(), before)
    wanted = {name: (Ask.of(pool), _least(pool)) for name, pool in fleet.pools.items()}
    if lack := room.shortage(nodes, wanted):
        raise UserError(lack)
    names = {node.id: node for node in nodes}
    # Ports that engines of this fleet have there are free for those that replace them.
    running = {engine.node_id for engine in before.engines} if before else set()
    for name, pool in fleet.pools.items():
        order, (asked, number) = Order.of(fleet, name, pool), wanted[name]
        chosen = {node.id: node for node in room.placed(nodes, asked, number)}
        ours = version(DISTRIBUTION)
        told = {id: (order, one.address, ours, id in running) for id, one in chosen.items()}
        for id, said in cluster.on_each(complaint, told):
            if said:
                raise UserError(f"node {names[id].name} ({names[id].address}): {said}")


def wait(name: str, seconds: float, saying: Saying) -> Picture:
    """Until every pool has the engines that it should have, all as the document says.

    Raises `UserError` when an engine comes to nothing, or not in time.
    """
    keeper = found(name)
    failures = {pool.name: pool.last_failure for pool in _picture(keeper).pools}
    deadline = time.monotonic() + seconds
    while True:
        picture = _picture(keeper)
        saying(picture)
        if is_whole(picture):
            return picture
        for pool in picture.pools:
            if pool.last_failure != failures.get(pool.name, "") and pool.last_failure:
                raise UserError(f"pool {pool.name}: {pool.last_failure}")
        if time.monotonic() > deadline:
            raise UserError(
                f"fleet {name!r} was not ready after {seconds:g} s: see `gptoss fleet status`"
            )
        time.sleep(_LOOK_SECONDS)


def is_whole(picture: Picture) -> bool:
    """Whether everything runs as the document says, and nothing else."""
    here = [one for one in picture.engines if one.phase == "ready" and one.current]
    return len(here) == len(picture.engines) and all(
        sum(one.pool == pool.name for one in here) == pool.wanted for pool in picture.pools
    )


def down(name: str, seconds: float, saying: Saying) -> None:
    """Drain and end a whole fleet. Raises `UserError` if that takes longer."""
    keeper = found(name)
    cluster.answer(keeper.end.remote())
    deadline = time.monotonic() + seconds
    while (picture := _picture(keeper)).engines:
        saying(picture)
        if time.monotonic() > deadline:
            raise UserError(
                f"fleet {name!r} still ends after {seconds:g} s: the same command waits on"
            )
        time.sleep(_LOOK_SECONDS)
    _end_now(keeper, name)


def scale(name: str, pool: str, replicas: int) -> None:
    """Have that many engines in a pool, until the next document. Raises `UserError`."""
    if refusal := cluster.answer(found(name).scale.remote(pool, replicas)):
        raise UserError(refusal)


def status(name: str) -> Picture:
    """What there is. Raises `UserError` for no such fleet."""
    return _picture(found(name))


def log(name: str, engine: str, lines: int) -> str:
    """The end of what an engine printed. Raises `UserError`."""
    found(name)
    if engine == cluster.KEEPER or (actor := cluster.actor(engine, name)) is None:
        raise UserError(f"no engine is called {engine!r}: `gptoss fleet status` has their names")
    return str(cluster.answer(actor.log.remote(lines), who=f"engine {engine}"))


def is_there(name: str) -> bool:
    """Whether the cluster has such a fleet."""
    return cluster.actor(cluster.KEEPER, name) is not None


def found(name: str) -> Any:
    """The keeper of a fleet. Raises `UserError` where there is none."""
    if (keeper := cluster.actor(cluster.KEEPER, name)) is None:
        there = ", ".join(cluster.fleets())
        raise UserError(
            f"no fleet is called {name!r} on this cluster: "
            + (f"there is {there}" if there else "start one with `gptoss fleet up`")
        )
    return keeper


def _picture(keeper: Any) -> Picture:
    picture: Picture = cluster.answer(keeper.picture.remote())
    return picture


def _least(pool: document.Pool) -> int:
    scaling = pool.autoscaling
    return scaling.min_replicas if scaling.enabled else pool.replicas


def _with_own(nodes: list[Node], before: Picture | None) -> list[Node]:
    """The nodes as if this fleet had nothing yet: what it has can be replaced."""
    if before is None:
        return nodes
    asks: Mapping[str, Ask] = before.asks
    own = {node.id: node for node in nodes}
    for engine in before.engines:
        if engine.node_id in own and engine.pool in asks:
            own[engine.node_id] = own[engine.node_id].less(asks[engine.pool], -1)
    return list(own.values())


def _end_now(keeper: Any, name: str) -> None:
    cluster.store(name, None)
    cluster.end(keeper)
