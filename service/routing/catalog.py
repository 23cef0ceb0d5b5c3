"""The models that clients can ask for, and the pools behind each name."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from service.routing.pool import Pool


@dataclass(frozen=True, slots=True)
class Entry:
    """A public name: its pools with their weights, and what answers in its stead."""

    pools: Mapping[str, float]
    fallback: str = ""


class Catalog:
    """Public names and pools. Replaced as a whole when the settings change."""

    def __init__(self, entries: Mapping[str, Entry], pools: Mapping[str, Pool]) -> None:
        hidden = {name for entry in entries.values() for name in entry.pools}
        own = {name: Entry({name: 1.0}) for name in pools if name not in hidden}
        self._entries = {**own, **entries}
        self._pools = pools

    @property
    def models(self) -> list[str]:
        """The names that can be asked for."""
        return list(self._entries)

    def pool(self, model: str, key: int) -> Pool | None:
        """The pool for a conversation: the same as long as the weights are the same and it works.

        None for a model that is not served.
        """
        entry = self._entries.get(model)
        if entry is None:
            return None
        pools = [self._pools[name] for name in _by_preference(entry.pools, key)]
        return next((pool for pool in pools if pool.works), pools[0])

    def described(self, model: str) -> dict[str, object]:
        """A model's pools and fallback, as JSON."""
        entry = self._entries[model]
        return {"pools": dict(entry.pools), "fallback": entry.fallback or None}

    def fallback(self, model: str) -> str:
        """The name of the model that answers in its stead, or nothing."""
        entry = self._entries.get(model)
        return entry.fallback if entry else ""


def _by_preference(weights: Mapping[str, float], key: int) -> list[str]:
    """Weighted rendezvous hashing: each pool gets its share of keys, and a change of weights moves
    only the keys that it has to. A pool of weight 0 gets none."""
    if len(weights) == 1:
        return list(weights)
    scores = {name: _score(name, weight, key) for name, weight in weights.items() if weight > 0}
    return sorted(scores, key=lambda name: scores[name])


def _score(pool: str, weight: float, key: int) -> float:
    digest = hashlib.blake2b(pool.encode(), digest_size=8, salt=key.to_bytes(8)).digest()
    uniform = (int.from_bytes(digest) + 1) / ((1 << 64) + 1)
    return -math.log(uniform) / weight
