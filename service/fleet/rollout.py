"""What to do next for one pool: which engines to start and which to end. Pure.

As a Deployment does it: what is broken goes first; engines of an older document are replaced
within `surge` and `unavailable`; an engine that is not ready counts as away, so a document whose
engines do not start leaves the others running.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.fleet.document import Rollout


class Phase(StrEnum):
    """Of an engine."""

    PLACING = "placing"
    """Its node is being reserved, or its process has not answered yet."""
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """It is on no page any more; streams go on."""
    FAILED = "failed"
    """It ended or hangs; `why` says more."""
    LOST = "lost"
    """Its node, or the process of Ray's that keeps it, is gone."""


LIVING = (Phase.PLACING, Phase.STARTING, Phase.READY)


@dataclass(frozen=True, slots=True)
class Engine:
    """What is known of one engine."""

    name: str
    phase: Phase
    current: bool
    """Whether it runs as the document says now."""
    node: str
    load: float = 0
    """Requests in it."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do now."""

    start: int
    drain: tuple[str, ...]
    """Let them end their streams."""
    clear: tuple[str, ...]
    """Nothing of them is left to wait for."""


def next_steps(replicas: int, rollout: Rollout, engines: Sequence[Engine]) -> Steps:
    """Towards `replicas` engines that run as the document says."""
    clear = tuple(one.name for one in engines if one.phase in (Phase.FAILED, Phase.LOST))
    living = [one for one in engines if one.phase in LIVING]
    current = [one for one in living if one.current]
    old = [one for one in living if not one.current]
    surplus = _least_missed(current)[: max(len(current) - replicas, 0)]
    # Those that drain do not count: whether their cards are free already is for the nodes to say.
    room = replicas + (rollout.surge if old else 0) - len(living)
    start = max(min(replicas - len(current), room), 0)
    return Steps(
        start,
        tuple(one.name for one in [*surplus, *_replaced(replicas, rollout, current, old)]),
        clear,
    )


def _replaced(
    replicas: int, rollout: Rollout, current: Sequence[Engine], old: Sequence[Engine]
) -> list[Engine]:
    """Those of an older document that may go now."""
    unready = [one for one in old if one.phase is not Phase.READY]
    ready = [one for one in old if one.phase is Phase.READY]
    serving = len(ready) + sum(one.phase is Phase.READY for one in current)
    spare = max(serving - max(replicas - rollout.unavailable, 0), 0)
    return [*unready, *_least_missed(ready)[:spare]]


def _least_missed(engines: Iterable[Engine]) -> list[Engine]:
    """In the order in which they can best be done without."""
    left = list(engines)
    on_node = Counter(one.node for one in left)
    order = []
    while left:
        first = min(
            left, key=lambda one: (one.phase is Phase.READY, -on_node[one.node], one.load, one.name)
        )
        left.remove(first)
        on_node[first.node] -= 1  # so that the rest stays spread
        order.append(first)
    return order
