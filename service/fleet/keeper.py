"""Keeps a fleet as its document says: an actor of Ray, on the head, started again by Ray.

Every second it asks each engine how it is, and starts, drains and clears what `rollout` says. What
runs outlives it: one that was started again finds the engines by their names. Requests pass neither
through it nor through Ray, so they go on while the head is away.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from service.errors import UserError
from service.fleet import cluster, document, room
from service.fleet.board import Board
from service.fleet.care import Care
from service.fleet.demand import Demand, Scale, ask
from service.fleet.document import Fleet, Pool
from service.fleet.member import Member, Picture, PoolRow
from service.fleet.order import Order, Report
from service.fleet.replica import Replica
from service.fleet.rollout import LIVING, Phase, next_steps
from service.fleet.room import Ask, Node
from service.telemetry import logs

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_DEMAND_SECONDS = 10.0
# For the process of a new actor to be there.
_ACTOR_SECONDS = 300.0


class Keeper:
    """The fleet that `text` describes, which came from `origin`: user, host and file."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, name: str, text: str, origin: str
    ) -> None:
        logs.configure()
        # What was told to one that ran before is newer than what this one was made with.
        by_hand: dict[str, int] = {}
        self._ending = False
        if (kept := cluster.stored(name)) is not None:
            text, origin, by_hand, self._ending = json.loads(kept)
        self._fleet: Fleet = document.parse(text)
        self._origin = origin
        self._members: dict[str, Member] = {}
        self._care: dict[str, Care] = {}
        for pool, replicas in by_hand.items():
            self._of(pool).by_hand = replicas
        self._board = Board(self._known)
        self._told: set[asyncio.Task[Any]] = set()
        self._demand_at = -_DEMAND_SECONDS
        self._found = False
        """Whether it was looked for what runs already."""
        self._complete = False
        """Whether all of that was heard once."""
        self._listened = False
        """Whether gateways could be told, once: before that nothing is started."""
        self._fault = ""
        self._keep()
        self._loop = asyncio.create_task(self._run())

    async def apply(self, text: str, origin: str, take_over: bool) -> str:
        """Take another document. Returns why it cannot, or nothing."""
        if origin != self._origin and not take_over:
            return (
                f"a fleet {self._fleet.name!r} runs already, from {self._origin}: give this one"
                " another name, or take that one over with --take-over"
            )
        if self._ending:
            return f"fleet {self._fleet.name!r} is being ended: `gptoss fleet down` waits for that"
        fleet = document.parse(text)
        if fault := await self._listen(fleet.board):
            return fault
        self._fleet, self._origin = fleet, origin
        for name, care in self._care.items():
            care.by_hand = None
            care.worked()
            if name in self._fleet.pools and not self._fleet.pools[name].autoscaling.enabled:
                care.scale = None
        self._keep()
        return ""

    async def scale(self, pool: str, replicas: int) -> str:
        """Have that many engines in a pool until the next document. Returns why not, or nothing."""
        if self._ending:
            return f"fleet {self._fleet.name!r} is being ended"
        if pool not in self._fleet.pools:
            return f"no pool is called {pool!r}: there are {', '.join(self._fleet.pools) or 'none'}"
        if self._fleet.pools[pool].autoscaling.enabled:
            return (
                f"pool {pool!r} is scaled by demand: change its minReplicas and maxReplicas with"
                " `gptoss fleet up`"
            )
        growth = replicas - self._wanted(pool)
        asked = Ask.of(self._fleet.pools[pool])
        if growth > 0 and (lack := room.shortage(cluster.nodes(), {pool: (asked, growth)})):
            return lack
        self._of(pool).by_hand = replicas
        self._of(pool).worked()
        self._keep()
        return ""

    async def end(self) -> None:
        """Drain all engines and give everything back."""
        self._ending = True
        self._keep()  # or one that is started again in the midst would begin anew

    async def listening(self) -> str:
        """Why the board is not there, or nothing."""
        return await self._listen(self._fleet.board)

    async def picture(self) -> Picture:
        """All of it, for people."""
        fleet, now = self._fleet, time.time()
        members = sorted(self._members.values(), key=lambda one: (one.order.pool, one.made))
        ready = Counter(one.order.pool for one in members if one.phase is Phase.READY)
        return Picture(
            name=fleet.name,
            origin=self._origin,
            board=f"{fleet.board.host}:{fleet.board.port}",
            pools=tuple(
                PoolRow(
                    name,
                    pool.model_name,
                    pool.card.name,
                    self._wanted(name),
                    ready[name],
                    self._of(name).why,
                    self._of(name).last_failure,
                )
                for name, pool in fleet.pools.items()
            ),
            engines=tuple(
                one.row(now, self._generation(one.order.pool), fleet.pools) for one in members
            ),
            asks={name: Ask.of(pool) for name, pool in fleet.pools.items()},
            ending=self._ending,
            fault=self._fault,
        )

    async def _run(self) -> None:
        while not (self._ending and self._found and not self._members):
            try:
                if not self._found:
                    self._find()
                fault = "" if self._ending else await self._listen(self._fleet.board)
                if self._listened or self._ending:
                    await self._look()
                self._fault = fault
            except Exception as error:  # whatever it is: a keeper that ends keeps nothing
                fault = f"{type(error).__name__}: {error}"
                if fault != self._fault:  # else it is said already
                    log.exception("the fleet could not be looked after")
                self._fault = fault
            await asyncio.sleep(_LOOK_SECONDS)
        await self._board.close()

    def _find(self) -> None:
        """What runs already: engines, and reservations of which nothing came."""
        fleet = self._fleet.name
        for name in cluster.actors(fleet):
            if (actor := cluster.actor(name, fleet)) is not None:
                self._members[name] = Member(name, _nobodys(fleet), actor=actor)
        for reservation in cluster.reserved(fleet):
            if reservation.partition("/")[2] not in self._members:
                cluster.release(reservation)
        self._found = True

    async def _look(self) -> None:
        await asyncio.gather(*(self._ask(one) for one in self._members.values() if one.actor))
        self._complete = self._complete or all(
            one.report or one.lost for one in self._members.values()
        )
        if not self._complete:  # what is not known yet might be started twice
            return
        await self._scale_by_demand()
        # From here on nothing is waited for: what is free stays so while it is given out.
        nodes = cluster.nodes()
        self._locate(nodes)
        free = self._free(nodes)
        for pool in self._hardest_first(nodes):
            self._steer(pool, free)

    async def _ask(self, member: Member) -> None:
        """How an engine is. One that is late is taken to be as it was."""
        try:
            report: Report = await cluster.asked(member.actor.report.remote(), _ANSWER_SECONDS)
        except cluster.Gone as gone:
            member.lost = f"its node or Ray's process there is gone: {gone}"
            return
        except TimeoutError:
            if member.report is None and time.time() - member.made > _ACTOR_SECONDS:
                member.lost = f"Ray did not start its process within {_ACTOR_SECONDS:g} s"
            return
        except Exception as error:  # of this one, and no reason to leave the others alone
            member.lost = f"it cannot be asked: {type(error).__name__}: {error}"
            return
        if not member.served and report.phase is Phase.READY:
            member.served = True
            self._of(report.order.pool).worked()
        member.report, member.order, member.made = report, report.order, report.since
        member.draining = member.draining or report.phase is Phase.DRAINING
        # Once more, since a call may be lost with the keeper that made it.
        if report.phase is Phase.PLACING:
            member.actor.start.remote()
        if member.draining and report.phase in LIVING:
            member.actor.drain.remote()

    def _hardest_first(self, nodes: Sequence[Node]) -> list[str]:
        """All pools, those that are gone from the document first: they give back."""
        gone = {one.order.pool for one in self._members.values()} - self._fleet.pools.keys()
        asks = {name: Ask.of(pool) for name, pool in self._fleet.pools.items()}
        return [*sorted(gone), *room.hardest_first(asks, nodes)]

    def _free(self, nodes: Sequence[Node]) -> dict[str, Node]:
        """The nodes by id, less what is being placed there."""
        free = {node.id: node for node in nodes}
        for one in self._members.values():
            if one.is_being_placed and one.node and one.ask and one.node.id in free:
                free[one.node.id] = free[one.node.id].less(one.ask)
        return free

    def _locate(self, nodes: Sequence[Node]) -> None:
        """Put engines that were found running to their nodes."""
        at = {node.address: node for node in nodes}
        for member in self._members.values():
            if member.node is None and member.report and member.report.url:
                member.node = at.get(_host(member.report.url))

    async def _scale_by_demand(self) -> None:
        scaled = {n: pool for n, pool in self._fleet.pools.items() if pool.autoscaling.enabled}
        now = time.monotonic()
        if not scaled or now - self._demand_at < _DEMAND_SECONDS:
            return
        self._demand_at = now
        requests, complete = await ask(self._fleet.gateways)
        for name, pool in scaled.items():
            waiting = sum(m.report.waiting for m in self._pool(name) if m.report)
            # A gateway that has the pool says so without requests, too; one that calls it by
            # another name does not say that there are none.
            known = complete and name in requests
            demand = Demand(requests.get(name, 0.0), waiting, known)
            self._scale(name, pool).look(now, pool, demand)

    def _scale(self, name: str, pool: Pool) -> Scale:
        """Of a pool that goes by demand. It begins with what runs."""
        care = self._of(name)
        if care.scale is None:
            living = sum(one.phase in LIVING for one in self._pool(name))
            care.scale = Scale(max(living, pool.autoscaling.min_replicas))
        return care.scale

    def _steer(self, name: str, free: dict[str, Node]) -> None:
        """One pool towards what the document says. What it takes is no more `free`."""
        pool, care = self._fleet.pools.get(name), self._of(name)
        wanted = 0 if pool is None or self._ending else self._wanted(name)
        generation = self._generation(name)
        rollout = pool.rollout if pool else document.Rollout()
        steps = next_steps(wanted, rollout, [one.seen(generation) for one in self._pool(name)])
        for each in steps.clear:
            member = self._members[each]
            if not member.has_ended:  # what hangs is ended first, or its cards would not be free
                continue
            if not member.draining:
                care.last_failure = f"{each}: {member.why}"
                if not member.served:
                    care.failed(care.last_failure)
            self._clear(member)
        for each in steps.drain:
            self._drain(self._members[each])
        for member in self._pool(name):
            if member.draining and member.has_ended:
                self._clear(member)
        care.why = ""
        if pool is not None and steps.start and time.monotonic() >= care.not_before:
            self._start(name, pool, steps.start, free)

    def _start(self, name: str, pool: Pool, number: int, free: dict[str, Node]) -> None:
        asked, there = Ask.of(pool), list(free.values())
        on = Counter(one.node.id for one in self._pool(name) if one.node)
        chosen = room.placed(there, asked, number, on)
        for node in chosen:
            free[node.id] = free[node.id].less(asked)
            order = Order.of(self._fleet, name, pool)
            member = Member(f"{name}-{secrets.token_hex(3)}", order, asked, node)
            self._members[member.name] = member
            self._do(self._place(member, asked))
        if len(chosen) < number:
            self._of(name).why = room.shortage(there, {name: (asked, number)})

    async def _place(self, member: Member, asked: Ask) -> None:
        """Reserve the node and have an actor there start the engine."""
        assert member.node is not None, "it was chosen"
        fleet = self._fleet.name
        try:
            reservation = cluster.Reservation(f"{fleet}/{member.name}", asked, member.node)
            if not await reservation.made():
                raise UserError(f"{member.node.name} has no room any more")
            if self._members.get(member.name) is not member:  # it was not needed meanwhile
                cluster.release(f"{fleet}/{member.name}")
                return
            member.actor = cluster.make(
                Replica,
                member.name,
                fleet,
                *(member.name, member.order, member.node.address),
                options=reservation.options(),
            )
            member.actor.start.remote()
        except Exception as error:  # of Ray, which has many
            member.lost = f"it could not be placed: {error}"

    def _drain(self, member: Member) -> None:
        if member.draining:
            return
        member.draining = True
        if member.actor is None:
            member.lost = "it was not needed any more"
        else:
            member.actor.drain.remote()

    def _clear(self, member: Member) -> None:
        """Give back what it had."""
        del self._members[member.name]
        if member.actor is not None:
            with contextlib.suppress(Exception):  # it may be gone
                cluster.end(member.actor)
        cluster.release(f"{self._fleet.name}/{member.name}")

    async def _listen(self, board: document.Board) -> str:
        try:
            await self._board.listen(board.host, board.port)
            self._listened = True
        except OSError as error:
            return (
                f"the board cannot listen on {board.host}:{board.port} of the head"
                f" ({error.strerror or error}): end what is there, or set `board`"
            )
        return ""

    def _known(self) -> Mapping[str, list[str]] | None:
        """For the board: by pool where its ready engines are."""
        if not self._complete:
            return None
        # Of a pool that is gone from the document there are none, as long as its engines end.
        names = [*self._fleet.pools, *(one.order.pool for one in self._members.values())]
        return {
            name: [
                one.report.url
                for one in self._pool(name)
                if one.report and one.phase is Phase.READY and name in self._fleet.pools
            ]
            for name in names
        }

    def _wanted(self, name: str) -> int:
        pool, care = self._fleet.pools[name], self._of(name)
        if not pool.autoscaling.enabled:
            return pool.replicas if care.by_hand is None else care.by_hand
        return self._scale(name, pool).replicas

    def _generation(self, name: str) -> str:
        """Of engines that run as the document says now; empty for a pool that is gone from it."""
        pool = self._fleet.pools.get(name)
        return Order.of(self._fleet, name, pool).generation if pool else ""

    def _pool(self, name: str) -> list[Member]:
        return [one for one in self._members.values() if one.order.pool == name]

    def _of(self, pool: str) -> Care:
        return self._care.setdefault(pool, Care())

    def _keep(self) -> None:
        by_hand = {n: c.by_hand for n, c in self._care.items() if c.by_hand is not None}
        kept = json.dumps([document.written(self._fleet), self._origin, by_hand, self._ending])
        cluster.store(self._fleet.name, kept.encode())

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._told.add(task)
        task.add_done_callback(self._told.discard)


def _host(url: str) -> str:
    return url.removeprefix("http://").rpartition(":")[0].strip("[]")


def _nobodys(fleet: str) -> Order:
    """Of an engine that was found and has not said yet what it was told."""
    return Order(fleet, "", "", "", "", "", False, 1, 1, 0, 0, 0, 0, {}, {})
