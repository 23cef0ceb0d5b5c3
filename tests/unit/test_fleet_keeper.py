"""What a keeper does about engines, documents and its own restart.

Ray is a stand-in here, by the names that `service.fleet.cluster` has for it: what it does at which
moment, and what it forgets, cannot be told to a real one, and there are no cards. A real Ray with
real engines is in `tests/e2e/test_fleet.py`.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from service.fleet import cluster, keeper
from service.fleet.keeper import Keeper
from service.fleet.order import Order, Report
from service.fleet.rollout import Phase
from service.fleet.room import Ask, Node
from service.models.model import GIB
from tests.process import free_port

HERE = "127.0.0.1"
SECONDS = 20
_numbers = itertools.count(1)


class Call:
    """A method of an actor: what it was called with is done at once."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.remote = work


class Actor:
    """An engine that does as it is told, unless a call of its is lost."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.phase = Phase.PLACING
        self.deaf = False
        self.fault: Exception | None = None
        self.ended = False
        self.url = f"http://10.0.0.{next(_numbers)}:8100"
        self.start = Call(lambda: self._become(Phase.READY))
        self.drain = Call(lambda: self._become(Phase.DRAINING))
        self.report = Call(self._report)

    def _become(self, phase: Phase) -> None:
        if not self.deaf and self.phase is not Phase.FAILED:
            self.phase = phase
            self.ended = phase is Phase.DRAINING

    def _report(self) -> Any:
        if self.fault is not None:
            return self.fault
        return Report(self.order, self.phase, self.url, time.time(), "", 1, ended=self.ended)


class Ray:
    """A cluster of some nodes, and what is kept in it."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = list(nodes)
        self.kept: bytes | None = None
        self.engines: dict[str, Actor] = {}
        self.places: dict[str, tuple[Ask, Node]] = {}
        self.made: list[str] = []
        self.born_deaf = False

    def free(self) -> list[Node]:
        found = {node.id: node for node in self.nodes}
        for ask, node in self.places.values():
            found[node.id] = found[node.id].less(ask)
        return list(found.values())

    def make(self, kind: type, name: str, fleet: str, *told: Any, options: Any) -> Actor:
        self.engines[name] = Actor(told[1])
        self.engines[name].deaf = self.born_deaf
        self.made.append(name)
        return self.engines[name]

    def end(self, actor: Actor) -> None:
        self.engines = {n: one for n, one in self.engines.items() if one is not actor}

    def release(self, name: str) -> None:
        self.places.pop(name, None)

    def store(self, fleet: str, value: bytes | None) -> None:
        self.kept = value

    def of(self, pool: str) -> list[Actor]:
        return [one for one in self.engines.values() if one.order.pool == pool]

    def on(self, pool: str) -> list[str]:
        """The nodes of a pool's engines."""
        return sorted(
            n.name for name, (_, n) in self.places.items() if name.startswith(f"f/{pool}")
        )


async def asked(call: Any, seconds: float) -> Any:
    if isinstance(call, Exception):
        raise call
    return call


def node(name: str, cards: int, cores: int = 64) -> Node:
    kinds = frozenset(["L40S"]) if cards else frozenset()
    return Node(f"id-{name}", name, HERE, cards, cards, cores, 512 * GIB, kinds)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ray]:
    found = Ray(node("a", 0), node("b", 0))

    class Reservation:
        def __init__(self, name: str, ask: Ask, node: Node) -> None:
            found.places[name] = (ask, node)

        async def made(self) -> bool:
            return True

        def options(self) -> dict[str, Any]:
            return {}

    stand_ins = {
        "stored": lambda fleet: found.kept,
        "store": found.store,
        "nodes": found.free,
        "actors": lambda fleet: list(found.engines),
        "actor": lambda name, fleet: found.engines.get(name),
        "reserved": lambda fleet: list(found.places),
        "release": found.release,
        "make": found.make,
        "end": found.end,
        "asked": asked,
        "Reservation": Reservation,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(cluster, name, stand_in)
    monkeypatch.setattr(keeper, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr("service.telemetry.logs.configure", lambda: None)
    yield found


def text(pools: str, port: int = 0, gateways: str = "") -> str:
    board = f"board: {{host: {HERE}, port: {port or free_port()}}}"
    return f"name: f\nengine: {{pools: {{{pools}}}}}\n{board}\ngateways: [{gateways}]"


async def begun(document: str, origin: str = "me") -> Keeper:
    """A keeper whose loop runs."""
    made = Keeper.__new__(Keeper)
    await made.__init__("f", document, origin)  # type: ignore[misc]
    return made


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not yet"
        await asyncio.sleep(0.01)


async def killed(one: Keeper) -> None:
    """As with its process: nothing of it is done any more."""
    one._loop.cancel()
    await one._board.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


CPU = "{profile: cpu-dev, replicas: 2}"


def test_engines_are_started_and_listed(ray: Ray) -> None:
    async def work() -> None:
        one = await begun(text(f"main: {CPU}"))
        await until(lambda: len((one._known() or {}).get("main", [])) == 2)
        assert ray.on("main") == ["a", "b"]
        await killed(one)

    run(work())


def test_nothing_is_started_before_gateways_could_be_told(ray: Ray) -> None:
    async def work() -> None:
        with socket.create_server((HERE, 0)) as taken:
            one = await begun(text(f"main: {CPU}", taken.getsockname()[1]))
            await until(lambda: "cannot listen" in one._fault)
            assert "cannot listen" in await one.listening()
            assert not ray.places
        await until(lambda: len(ray.engines) == 2)
        await killed(one)

    run(work())


def test_a_document_whose_board_cannot_be_there_is_not_taken(ray: Ray) -> None:
    async def work() -> None:
        one = await begun(text(f"main: {CPU}"))
        await until(lambda: len(ray.engines) == 2)
        with socket.create_server((HERE, 0)) as taken:
            port = taken.getsockname()[1]
            refused = await one.apply(text("main: {profile: cpu-dev}", port), "me", False)
        assert "cannot listen" in refused
        assert (await one.picture()).pools[0].wanted == 2
        await killed(one)

    run(work())


def test_one_that_is_started_again_goes_on_with_what_runs_and_was_said(ray: Ray) -> None:
    async def work() -> None:
        ray.nodes.append(node("c", 0))
        document = text(f"main: {CPU}")
        one = await begun(document)
        await until(lambda: len(ray.engines) == 2)
        assert await one.scale("main", 3) == ""
        await until(lambda: len(ray.of("main")) == 3)
        before = set(ray.engines)
        await killed(one)
        ray.places["f/main-half"] = (Ask(0, 2, GIB), ray.nodes[0])  # of which nothing came
        other = await begun(document)
        await until(lambda: len((other._known() or {}).get("main", [])) == 3)
        assert set(ray.engines) == before
        assert "f/main-half" not in ray.places
        await killed(other)

    run(work())


def test_one_that_is_started_again_while_it_ends_goes_on_ending(ray: Ray) -> None:
    async def work() -> None:
        document = text(f"main: {CPU}")
        one = await begun(document)
        await until(lambda: len(ray.engines) == 2)
        for engine in ray.engines.values():
            engine.deaf = True  # it has streams
        await one.end()
        assert "is being ended" in await one.scale("main", 3)
        assert "is being ended" in await one.apply(document, "me", False)
        await killed(one)
        for engine in ray.engines.values():
            engine.deaf = False
        made = len(ray.made)
        other = await begun(document)
        await until(lambda: not ray.engines)
        assert not ray.places
        assert len(ray.made) == made, "nothing is begun anew"
        await killed(other)

    run(work())


def test_a_call_that_was_lost_is_made_again(ray: Ray) -> None:
    async def work() -> None:
        ray.born_deaf = True
        one = await begun(text("main: {profile: cpu-dev, replicas: 1}"))
        await until(lambda: len(ray.engines) == 1)
        (engine,) = ray.engines.values()
        engine.deaf = False
        await until(lambda: engine.phase is Phase.READY)
        engine.deaf = True
        assert await one.scale("main", 0) == ""
        await until(lambda: next(iter(one._members.values())).draining)
        engine.deaf = False
        await until(lambda: not ray.engines)
        await killed(one)

    run(work())


@pytest.mark.parametrize("fault", [TimeoutError(), cluster.Gone("its node died"), ValueError("?")])
def test_only_what_is_gone_is_given_up_and_the_others_are_looked_after(
    ray: Ray, fault: Exception
) -> None:
    async def work() -> None:
        one = await begun(text(f"main: {CPU}"))
        await until(lambda: len((one._known() or {}).get("main", [])) == 2)
        before = set(ray.engines)
        victim = ray.engines[min(before)]
        victim.fault = fault
        other = ray.engines[max(before)]
        if isinstance(fault, TimeoutError):  # a break in the network
            await asyncio.sleep(0.2)
            assert set(ray.engines) == before
        else:
            await until(lambda: len(ray.engines) == 2 and victim not in ray.engines.values())
        assert other in ray.engines.values()
        await killed(one)

    run(work())


def test_engines_that_do_not_start_are_tried_again_ever_more_slowly(ray: Ray) -> None:
    async def work() -> None:
        one = await begun(text("main: {profile: cpu-dev, replicas: 0}"))
        care, pauses = one._of("main"), []
        for _ in range(5000):  # for ever
            care.failed("why")
            pauses.append(care.not_before - time.monotonic())
        assert pauses[0] < 3
        assert 60 < max(pauses) < 70
        await killed(one)

    run(work())


@pytest.mark.parametrize("names", [("small", "large"), ("large", "small")])
def test_pools_that_take_most_are_placed_first(ray: Ray, names: tuple[str, str]) -> None:
    small, large = names
    pools = f"{small}: {{profile: l40s, replicas: 2}}, {large}: {{profile: l40s-x4}}"

    async def work() -> None:
        ray.nodes = [node("a", 4), node("b", 4)]
        one = await begun(text(pools))
        await until(lambda: len(ray.engines) == 3)
        assert len(ray.of(large)) == 1
        await killed(one)

    run(work())


def test_a_pool_that_is_gone_from_the_document_ends(ray: Ray) -> None:
    async def work() -> None:
        one = await begun(text(f"main: {CPU}"))
        await until(lambda: len(ray.engines) == 2)
        assert await one.apply(text("other: {profile: cpu-dev}"), "me", False) == ""
        await until(lambda: len(ray.of("other")) == 1 and not ray.of("main"))
        await killed(one)

    run(work())


def test_a_pool_that_begins_to_go_by_demand_begins_with_what_runs(ray: Ray) -> None:
    """Its one gateway does not answer: nothing says that two are too many."""

    async def work() -> None:
        one = await begun(text(f"main: {CPU}"))
        await until(lambda: len((one._known() or {}).get("main", [])) == 2)
        before = set(ray.engines)
        scaled = "main: {profile: cpu-dev, autoscaling: {enabled: true, minReplicas: 1}}"
        gateway = f"'http://{HERE}:{free_port()}'"
        assert await one.apply(text(scaled, gateways=gateway), "me", False) == ""
        asked_at = one._demand_at
        await until(lambda: one._demand_at > asked_at)
        await asyncio.sleep(0.2)
        assert set(ray.engines) == before
        assert (await one.picture()).pools[0].wanted == 2
        await killed(one)

    run(work())
