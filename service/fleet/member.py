"""One engine, as its keeper knows it from one look to the next."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.fleet import rollout
from service.fleet.document import Pool
from service.fleet.order import Order, Report
from service.fleet.rollout import Phase
from service.fleet.room import Ask, Node


@dataclass
class Member:
    """Its order, where it is, and what it last said."""

    name: str
    order: Order
    ask: Ask | None = None
    """What it takes; None for one that was found running."""
    node: Node | None = None
    """None for one that was found running, until it is known."""
    actor: Any = None
    """None until it is made."""
    report: Report | None = None
    lost: str = ""
    """Why it is gone."""
    draining: bool = False
    """Whether it was told to end."""
    served: bool = False
    """Whether it was ready once."""
    made: float = field(default_factory=time.time)

    @property
    def phase(self) -> Phase:
        """What is true of it now."""
        if self.lost:
            return Phase.LOST
        if self.report is not None and self.report.phase is Phase.FAILED:
            return Phase.FAILED
        if self.draining:
            return Phase.DRAINING
        return self.report.phase if self.report else Phase.PLACING

    @property
    def is_being_placed(self) -> bool:
        """Whether Ray may not count yet what it takes."""
        return self.report is None and not self.lost

    @property
    def why(self) -> str:
        """Why it is not ready."""
        said = self.report.why if self.report else ""
        return self.lost or said or ("its node is being prepared" if not self.report else "")

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to wait for."""
        return bool(self.lost) or (self.report is not None and self.report.ended)

    def seen(self, generation: str) -> rollout.Engine:
        """What a rollout decides by, where `generation` is what the document says now."""
        report = self.report
        return rollout.Engine(
            self.name,
            self.phase,
            self.order.generation == generation,
            self.node.id if self.node else "",
            report.running + report.waiting if report else 0,
        )

    def row(self, now: float, generation: str, pools: Mapping[str, Pool]) -> "Row":
        """What people see of it, where `generation` is what the document says now."""
        report, pool = self.report, pools.get(self.order.pool)
        return Row(
            name=self.name,
            pool=self.order.pool,
            node=self.node.name if self.node else "",
            node_id=self.node.id if self.node else "",
            cards=Ask.of(pool).cards if pool else 0,
            phase=self.phase,
            url=report.url if report else "",
            process=report.process if report else 0,
            running=report.running if report else 0,
            waiting=report.waiting if report else 0,
            age=now - self.made,
            why=self.why,
            current=self.order.generation == generation,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """An engine, for people."""

    name: str
    pool: str
    node: str
    node_id: str
    cards: int
    phase: str
    url: str
    process: int
    """On the node; 0 before there is one."""
    running: int
    waiting: int
    age: float
    """s."""
    why: str
    current: bool


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool, for people."""

    name: str
    model: str
    profile: str
    wanted: int
    ready: int
    why: str
    """What is in the way of more."""
    last_failure: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole fleet, for people."""

    name: str
    origin: str
    board: str
    pools: tuple[PoolRow, ...]
    engines: tuple[Row, ...]
    asks: Mapping[str, Ask]
    """What an engine takes of its node, by pool."""
    ending: bool
    fault: str
    """What is wrong with the keeper itself."""
