"""A Ray cluster, as far as a fleet needs it: the only place that knows Ray's own names and errors.

Of Ray this uses what Serve would add nothing to: named actors that outlive who made them, and a
placement group for each. Serve would route requests, restart by its own idea of health and scale by
requests that pass through it; here none do.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

import ray
from ray.experimental import internal_kv
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from service.errors import UserError
from service.fleet.room import ACCELERATOR, Ask, Node

KEEPER: Final = "keeper"
_NAMESPACE = "gptoss-fleet-"
_STORE = b"gptoss-fleet"
_DEFAULT_ADDRESS = "127.0.0.1:6379"
_NODE_LABEL = "ray.io/node-id"
# Ray's own label of resources: there is one of it, on the head.
_HEAD = {"node:__internal_head__": 0.001}
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_RESERVE_SECONDS = 20.0


def connect(address: str | None, fleet: str) -> None:
    """Become a part of the cluster whose head is at `address`, in the fleet's namespace.

    Raises `UserError` for a head that is not there, or has another version of Ray or Python.
    """
    host, port = _split(address or os.environ.get("RAY_ADDRESS") or _DEFAULT_ADDRESS)
    if host in ("localhost", "127.0.0.1", "::1"):  # Ray's own reading of them
        host = ray.util.get_node_ip_address()
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the latter for what can be no name
        reason = getattr(error, "strerror", "") or error
        raise UserError(
            f"no Ray head answers at {host}:{port} ({reason}): start it with"
            " `ray start --head`, or name another with --address or RAY_ADDRESS"
        ) from None
    # Ray prints whatever it hears of the cluster, such as that a node died, into what a command
    # says, JSON and all. Its own debugger turns that off like this.
    ray._private.worker._worker_logs_enabled = False
    try:
        ray.init(
            address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            namespace=_NAMESPACE + fleet,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except RuntimeError as error:
        raise UserError(_refused(str(error))) from None
    except (ConnectionError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the Ray cluster at {host}:{port} cannot be joined ({reason}): run this on one of its"
            " nodes, as the user who ran `ray start` there"
        ) from None


def fleets() -> list[str]:
    """The names of all fleets on the cluster."""
    return sorted(
        actor["namespace"].removeprefix(_NAMESPACE)
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["name"] == KEEPER and actor["namespace"].startswith(_NAMESPACE)
    )


def nodes() -> list[Node]:
    """Those that are alive."""
    # Ray has no public way to ask what is free on each node.
    free = ray._private.state.available_resources_per_node()
    return [_node(entry, free.get(entry["NodeID"], {})) for entry in ray.nodes() if entry["Alive"]]


def _node(entry: Mapping[str, Any], free: Mapping[str, float]) -> Node:
    resources = entry["Resources"]
    return Node(
        id=entry["NodeID"],
        name=entry["NodeName"],
        address=entry["NodeManagerAddress"],
        cards=int(resources.get("GPU", 0)),
        free_cards=free.get("GPU", 0.0),
        free_cores=free.get("CPU", 0.0),
        free_memory=free.get("memory", 0.0),
        accelerators=frozenset(
            name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)
        ),
        labels=tuple(sorted(entry["Labels"].items())),
    )


class Reservation:
    """A node's resources for one engine: a placement group, packed on that node alone."""

    def __init__(self, name: str, ask: Ask, node: Node) -> None:
        self._ask = ask
        self._group = placement_group(
            [ask.bundle],
            strategy="STRICT_PACK",
            name=name,
            lifetime="detached",
            bundle_label_selector=[{_NODE_LABEL: node.id}],
        )

    async def made(self) -> bool:
        """Whether it could be made; what could not is given back."""
        if await asyncio.to_thread(self._group.wait, _RESERVE_SECONDS):
            return True
        remove_placement_group(self._group)
        return False

    def options(self) -> dict[str, Any]:
        """Of the actor that is to use it: all of it."""
        return {
            "num_cpus": self._ask.cores,
            "num_gpus": self._ask.cards,
            "memory": self._ask.memory,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=0
            ),
        }


def release(name: str) -> None:
    """Give back what was reserved under that name, if anything was."""
    with contextlib.suppress(ValueError):
        remove_placement_group(get_placement_group(name))


def reserved(fleet: str) -> list[str]:
    """The names of a fleet's reservations."""
    table = placement_group_table()
    return [
        entry["name"]
        for entry in table.values()
        if entry["name"].startswith(f"{fleet}/") and entry["state"] != "REMOVED"
    ]


def make(kind: type, name: str, fleet: str, *arguments: object, options: Mapping[str, Any]) -> Any:
    """An actor that outlives who made it."""
    return (
        ray.remote(kind)
        .options(name=name, namespace=_NAMESPACE + fleet, lifetime="detached", **options)
        .remote(*arguments)
    )


def make_keeper(kind: type, fleet: str, *arguments: object) -> Any:
    """The fleet's keeper, on the head, where Ray starts it again whenever it ends."""
    options = {"num_cpus": 0, "resources": _HEAD, "max_restarts": -1, "max_task_retries": 0}
    try:
        return make(kind, KEEPER, fleet, *arguments, options=options)
    except ValueError:  # that name is taken
        raise UserError(
            f"somebody starts fleet {fleet!r} at this moment: look at it with `gptoss fleet status`"
        ) from None


def actor(name: str, fleet: str) -> Any | None:
    """The actor of that name, or None."""
    try:
        return ray.get_actor(name, namespace=_NAMESPACE + fleet)
    except ValueError:
        return None


def actors(fleet: str) -> list[str]:
    """The names of a fleet's engines."""
    return [
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == _NAMESPACE + fleet and actor["name"] != KEEPER
    ]


def end(handle: Any) -> None:
    """End an actor at once, for good."""
    ray.kill(handle, no_restart=True)


async def asked(call: Any, seconds: float) -> Any:
    """What an actor answers. Raises `Gone` for one that is no more, and `TimeoutError`."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(call.future()), seconds)
    except ray.exceptions.ActorUnavailableError:  # it may be there again
        raise TimeoutError from None
    except (
        ray.exceptions.RayActorError,
        ray.exceptions.ActorUnschedulableError,
        ray.exceptions.ActorPlacementGroupRemoved,
    ) as error:
        raise Gone(_first_line(error)) from None


class Gone(Exception):
    """The actor is no more; says why."""


def answer(call: Any, seconds: float = _ANSWER_SECONDS, who: str = "the fleet's keeper") -> Any:
    """What an actor answers, for a command. Raises `UserError` for none."""
    try:
        return ray.get(call, timeout=seconds)
    except ray.exceptions.GetTimeoutError:
        raise UserError(
            f"{who} does not answer: see that the Ray head and its node are up"
        ) from None
    except ray.exceptions.RayActorError as error:
        raise UserError(f"{who} is gone: {_first_line(error)}") from None


def on_each(kind: Any, chosen: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[str, str]]:
    """Run a function on nodes, by id, each with its arguments: what each said, one line."""
    calls = {
        ray.remote(kind)
        .options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote(*arguments): node
        for node, arguments in chosen.items()
    }
    for call, node in calls.items():
        try:
            yield node, str(ray.get(call, timeout=_ANSWER_SECONDS))
        except ray.exceptions.RayTaskError as error:
            yield node, _not_run(error)
        except (ray.exceptions.RayError, TimeoutError) as error:
            yield node, f"does not answer ({_first_line(error)}): see that `ray start` runs there"


def stored(fleet: str) -> bytes | None:
    """What is kept for a fleet with the cluster's own state."""
    # Serve keeps its state there, too; with a head that is fault tolerant it outlives the head.
    found: bytes | None = internal_kv._internal_kv_get(fleet.encode(), namespace=_STORE)
    return found


def store(fleet: str, value: bytes | None) -> None:
    """Keep it; None: nothing any more."""
    if value is None:
        internal_kv._internal_kv_del(fleet.encode(), namespace=_STORE)
    else:
        internal_kv._internal_kv_put(fleet.encode(), value, overwrite=True, namespace=_STORE)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise UserError(
            f"{address!r} is no address of a Ray head: write host:port, such as 10.0.0.5:6379, and"
            " run this on a node of the cluster"
        )
    return host.strip("[]"), int(port)


def _refused(error: str) -> str:
    """Ray's complaint of versions, in one line."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    versions = [line for line in lines if line.startswith(("Ray:", "Python:"))]
    if "Version mismatch" in error and len(versions) >= 4:
        theirs, ours = ", ".join(versions[:2]), ", ".join(versions[2:4])
        return (
            f"the cluster runs {theirs}, and this is {ours}: Ray takes only the same; install that"
            " here (`pip install ray==…`), or the cluster anew"
        )
    return f"Ray refuses: {lines[0] if lines else 'no reason given'}"


def _not_run(error: Any) -> str:
    """Why a function of ours could not even begin."""
    text = str(error)
    if any(sign in text for sign in ("ModuleNotFoundError", "ImportError", "Can't get attribute")):
        return (
            "has no gptoss-serving of this version beside its Ray: install it there into the"
            " environment that runs `ray start` (pip install 'gptoss-serving[engine,fleet]')"
        )
    return _last_line(text)


def _first_line(error: BaseException) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), "no reason given"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
