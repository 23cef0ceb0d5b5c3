"""Which replica of a pool gets a request.

A conversation goes where its prefix is cached: to the first replica from its place on a ring of
hashes that is not loaded. *Loaded* is bounded: more than `BOUND` times the average work, and some
requests beyond (consistent hashing with bounded loads, Mirrokni et al., arXiv:1608.01350). What
has no conversation, or finds its replicas loaded, goes to the one with the least work of a few
drawn at random (power of two choices, of four in fact): it never piles up on one that looked best
in a late report, and costs the same with three replicas and a thousand.

BALANCING.md has the simulation from which the constants are.
"""

import random
from collections.abc import Collection, Sequence
from itertools import islice

from service.routing.replica import Replica
from service.routing.ring import Ring

# A lower bound sends conversations away from their cache for what is only chance, and computing
# prompts anew is most of what engines do then; with a higher one, a key that many requests share
# floods its replica.
BOUND = 2.0
# Requests of average work by which a replica may be above that all the same: where there are few
# requests, one more or less says nothing.
SLACK = 4
# Replicas from a conversation's place that are looked at. Fewer than half can be above the bound.
NEIGHBOURS = 8
# Replicas of which the best is taken, and draws to find so many that have room.
CHOICES = 4
_DRAWS = 8
# How much the work of others counts when replicas are compared. It was reported some time ago, and
# to all gateways: in full it would send all of them to the same replicas.
HEARSAY = 0.25
_FIRST_WORK = 1000.0
_LEARNING_RATE = 0.02


class Balancer:
    """Picks among the replicas of one pool, in O(log n) of their number."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._ring: Ring[Replica] = Ring()
        self._candidates: Sequence[Replica] = ()
        self._foreign = 0.0
        self._own = 0
        self.work = _FIRST_WORK
        """The average work of a request, tokens."""

    @property
    def bound(self) -> float:
        """The work above which a replica gets no conversation for its cache's sake, tokens."""
        total = max(self._own, 0) + self._foreign
        return BOUND * total / max(len(self._candidates), 1) + SLACK * self.work

    def set_members(self, replicas: Sequence[Replica]) -> None:
        """All of the pool, whatever their health: a replica that is out for a moment keeps its
        place on the ring."""
        self._ring.set_members(replicas)

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
            found = self._at_home(now, key, tried)
            if found is not None:
                return found
        return self._of_some(now, work, tried) or self._of_all(now, work, tried)

    def _at_home(self, now: float, key: int, tried: Collection[Replica]) -> Replica | None:
        # Its own work does not count: a long conversation is the last that should lose its cache.
        most = self.bound
        for replica in self._ring.walk(key, NEIGHBOURS):
            if replica.load / replica.health.share(now) <= most and _takes(replica, now, tried):
                return replica
        return None

    def _of_some(self, now: float, work: int, tried: Collection[Replica]) -> Replica | None:
        drawn = self._random.sample(self._candidates, min(_DRAWS, len(self._candidates)))
        taking = islice((replica for replica in drawn if _takes(replica, now, tried)), CHOICES)
        return min(taking, key=lambda replica: _rank(replica, now, work), default=None)

    def _of_all(self, now: float, work: int, tried: Collection[Replica]) -> Replica | None:
        """Where hardly any has room. The only thing here that is O(n)."""
        taking = [replica for replica in self._candidates if _takes(replica, now, tried)]
        return min(taking, key=lambda replica: _rank(replica, now, work), default=None)


def _rank(replica: Replica, now: float, work: int) -> float:
    """How long a request of that much work would take there, as it were. One that starts slowly
    counts for less than a replica; idle, it is still better than a loaded one."""
    load = replica.tokens + HEARSAY * replica.foreign
    return (load + work) / replica.health.share(now)


def _takes(replica: Replica, now: float, tried: Collection[Replica]) -> bool:
    return (
        replica.in_flight < replica.slots
        and replica not in tried
        and replica.is_member
        and replica.health.admits(now)
    )
