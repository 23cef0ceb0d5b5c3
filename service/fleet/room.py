"""Which node an engine goes to, and what a cluster lacks. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from service.fleet.document import Pool
from service.models.model import GIB
from service.profiles.placement import label, place
from service.profiles.profile import Vendor

ACCELERATOR: Final = "accelerator_type:"
"""Ray counts each kind of card under that and its name, beside all of them as `GPU`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one engine takes of a node."""

    cards: int
    cores: int
    memory: int
    """Bytes."""
    products: tuple[str, ...] = ()
    """The cards that will do, with `-` for each space; empty: any, as far as is known here."""
    kind: str = ""
    """The cards in words."""
    labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, pool: Pool) -> Self:
        """What an engine of a pool takes."""
        asked, profile = place(pool.card), pool.card
        # What AMD's cards are called is known as PCI ids alone, which Ray does not tell.
        named = profile.products if profile.vendor is Vendor.NVIDIA else ()
        return cls(
            asked.cards,
            asked.cores,
            asked.memory_gib * GIB,
            tuple(map(label, named)),
            profile.cards if asked.cards else "",
            tuple(sorted(pool.node_selector.items())),
        )

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray's resources."""
        cards = {"GPU": float(self.cards)} if self.cards else {}
        return {"CPU": float(self.cores), "memory": float(self.memory), **cards}

    def takes(self, accelerator: str) -> bool:
        """Whether cards that Ray calls so may do: `H100` is a word of `NVIDIA-H100-80GB-HBM3`.

        It tells no size, and cards of 40 and of 80 GB apart only the node's own look at them.
        """
        return not self.products or any(f"-{accelerator}-" in f"-{one}-" for one in self.products)

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        cards = f"{self.cards} GPU{'s' * (self.cards > 1)}{kind}, " if self.cards else ""
        return f"{cards}{self.cores} CPUs and {self.memory / GIB:.0f} GiB"


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: all that it has, and what of it is free."""

    id: str
    name: str
    address: str
    cards: int
    free_cards: float
    free_cores: float
    free_memory: float
    accelerators: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()

    def may_run(self, ask: Ask) -> bool:
        """Whether it is of the right kind, however much of it is taken."""
        kinds = self.accelerators if ask.cards else ()
        kind = not kinds or any(map(ask.takes, kinds))
        return self.cards >= ask.cards and kind and set(ask.labels) <= set(self.labels)

    def has_room(self, ask: Ask) -> bool:
        """Whether an engine fits now."""
        return (
            self.may_run(ask)
            and self.free_cards >= ask.cards
            and self.free_cores >= ask.cores
            and self.free_memory >= ask.memory
        )

    def less(self, ask: Ask, times: int = 1) -> "Node":
        """With so many engines on it."""
        return replace(
            self,
            free_cards=self.free_cards - ask.cards * times,
            free_cores=self.free_cores - ask.cores * times,
            free_memory=self.free_memory - ask.memory * times,
        )

    def __str__(self) -> str:
        cards = f"{self.free_cards:g} of {self.cards} GPUs" if self.cards else "no GPU"
        kind = f" {'/'.join(sorted(self.accelerators))}" if self.accelerators else ""
        return (
            f"{self.name} ({cards}{kind}, {self.free_cores:g} CPUs,"
            f" {self.free_memory / GIB:.0f} GiB free)"
        )


def choose(nodes: Iterable[Node], ask: Ask, engines: Mapping[str, int]) -> Node | None:
    """The node for one more engine of a pool, which has so many `engines` on each node.

    Spread first, since a node that dies takes all of them with it; then the fullest that has room,
    which leaves whole nodes to profiles that take many cards.
    """
    able = [node for node in nodes if node.has_room(ask)]
    return min(
        able, key=lambda node: (engines.get(node.id, 0), node.free_cards, node.id), default=None
    )


def placed(
    nodes: Sequence[Node], ask: Ask, number: int, engines: Mapping[str, int] | None = None
) -> list[Node]:
    """Where that many engines go; fewer where there is no room for all."""
    free, counts = {node.id: node for node in nodes}, Counter(engines or {})
    chosen: list[Node] = []
    while len(chosen) < number and (node := choose(free.values(), ask, counts)):
        chosen.append(node)
        counts[node.id] += 1
        free[node.id] = node.less(ask)
    return chosen


def shortage(nodes: Sequence[Node], pools: Mapping[str, tuple[Ask, int]]) -> str:
    """What the cluster lacks for that many engines of each pool, and where; empty: nothing."""
    free = {node.id: node for node in nodes}
    asks = {name: ask for name, (ask, _) in pools.items()}
    for name in hardest_first(asks, nodes):
        ask, number = pools[name]
        there = list(free.values())
        chosen = placed(there, ask, number)
        if len(chosen) < number:
            return _lacking(name, ask, number, len(chosen), there)
        for node in chosen:
            free[node.id] = free[node.id].less(ask)
    return ""


def hardest_first(pools: Mapping[str, Ask], nodes: Sequence[Node]) -> list[str]:
    """First what takes most cards, then what fewest nodes will do for: the rest fits between."""

    def ease(name: str) -> tuple[int, int, str]:
        ask = pools[name]
        return -ask.cards, sum(node.may_run(ask) for node in nodes), name

    return sorted(pools, key=ease)


def _lacking(pool: str, ask: Ask, number: int, room: int, nodes: Sequence[Node]) -> str:
    engines = "1 engine" if number == 1 else f"{number} engines"
    wanted = f"pool {pool}: {engines} of {ask} asked for"
    able = [node for node in nodes if node.may_run(ask)]
    if not able:
        selector = ", ".join(f"{key}={value}" for key, value in ask.labels)
        where = f" with {selector}" if selector else ""
        return f"{wanted}, and no node{where} is made for one: {_listed(nodes)}"
    return (
        f"{wanted}, and there is room for {room}: {_listed(able)};"
        " add nodes, ask for fewer, or end what takes them"
    )


def _listed(nodes: Sequence[Node], most: int = 8) -> str:
    more = f", and {len(nodes) - most} more" if len(nodes) > most else ""
    return ", ".join(map(str, nodes[:most])) + more if nodes else "the cluster has no node"
