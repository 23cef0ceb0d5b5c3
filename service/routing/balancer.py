"""Which replica of a pool gets a request.

A conversation goes where its prefix is cached: to the first replica from its place on a ring of
hashes that is not loaded. *Loaded* is bounded: more than `BOUND` times the average work, and some
requests beyond (consistent hashing with bounded loads, Mirrokni et al., arXiv:1608.01350). What
has no conversation, or finds its replicas loaded, goes to the one with less work of two drawn at
random (power of two choices): it never piles up on one that looked best in a late report, and
costs the same with three replicas and a thousand.
"""

import random
from collections.abc import Collection, Sequence

from service.routing.replica import Replica
from service.routing.ring import Ring

BOUND = 1.25
# Requests of average work by which a replica may be above the average all the same: an engine
# computes some more in the same step at almost no cost, a cold prefix at a real one.
SLACK = 4
# Replicas from a conversation's place that are looked at. With a bound of 1.25 one in five can be
# above it at most, so that three in a row are rare.
_NEIGHBOURS = 3
_DRAWS = 6
_FIRST_WORK = 1000.0
_LEARNING_RATE = 0.02


class Balancer:
    """Picks among the replicas of one pool. Everything it does is O(log n) of their number."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._ring: Ring[Replica] = Ring()
        self._candidates: Sequence[Replica] = ()
        self._foreign = 0.0
        self._own = 0
        self.work = _FIRST_WORK
        """The average work of a request, tokens."""

    def set_members(self, replicas: Sequence[Replica]) -> None:
        """All of the pool, whatever their health: a replica that is out for a moment keeps its
        place on the ring."""
        self._ring = Ring(replicas)

    def set_candidates(self, replicas: Sequence[Replica]) -> None:
        """Those that may get requests at present, and the work of others on them. O(n)."""
        self._candidates = replicas
        self._foreign = sum(replica.foreign for replica in replicas)
        self._own = sum(replica.tokens for replica in replicas)

    def began(self, work: int) -> None:
        """A request was sent to one of the candidates."""
        self._own += work
        self.work += _LEARNING_RATE * (work - self.work)

    def ended(self, work: int) -> None:
        """It has ended."""
        self._own -= work

    def pick(
        self, now: float, key: int | None, work: int, tried: Collection[Replica] = ()
    ) -> Replica | None:
        """A replica for a request of that much work; None where none takes one more."""
        if key is not None:
            found = self._at_home(now, key, work, tried)
            if found is not None:
                return found
        return self._of_two(now, tried) or self._of_all(now, tried)

    def _at_home(
        self, now: float, key: int, work: int, tried: Collection[Replica]
    ) -> Replica | None:
        most = self._most(work)
        for replica in self._ring.walk(key, _NEIGHBOURS):
            if not _takes(replica, now, tried) or replica.is_queueing:
                continue
            if (replica.load + work) / replica.health.share(now) <= most:
                return replica
        return None

    def _most(self, work: int) -> float:
        total = max(self._own, 0) + self._foreign + work
        return BOUND * total / max(len(self._candidates), 1) + SLACK * self.work

    def _of_two(self, now: float, tried: Collection[Replica]) -> Replica | None:
        first: Replica | None = None
        if not self._candidates:
            return None
        for _ in range(_DRAWS):
            drawn = self._candidates[int(self._random.random() * len(self._candidates))]
            if drawn is first or not _takes(drawn, now, tried):
                continue
            if first is None:
                first = drawn
            else:
                return min(first, drawn, key=lambda replica: self._rank(replica, now))
        return None  # hardly any has room: look at them all

    def _of_all(self, now: float, tried: Collection[Replica]) -> Replica | None:
        taking = [replica for replica in self._candidates if _takes(replica, now, tried)]
        return min(taking, key=lambda replica: self._rank(replica, now), default=None)

    def _rank(self, replica: Replica, now: float) -> float:
        """How long a request would wait there, as it were. One that starts slowly counts for
        less than a replica; an idle one is still better than a loaded one."""
        return (replica.load + self.work) / replica.health.share(now)


def _takes(replica: Replica, now: float, tried: Collection[Replica]) -> bool:
    return (
        replica.in_flight < replica.slots
        and replica not in tried
        and replica.is_member
        and replica.health.admits(now)
    )
