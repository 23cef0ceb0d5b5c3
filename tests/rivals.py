"""Other ways to choose a replica than the gateway's, for tests.balancing."""

from collections.abc import Collection, Sequence

from service.routing import balancer as ours
from service.routing.balancer import Balancer
from service.routing.replica import Replica


class WithoutAffinity(Balancer):
    """The less loaded of two, in tokens, whatever the conversation."""

    def pick(
        self, now: float, key: int | None, work: int, tried: Collection[Replica] = ()
    ) -> Replica | None:
        return super().pick(now, None, work, tried)


class Baseline(Balancer):
    """A choice among all that are in; any other where that one takes nothing."""

    def pick(
        self, now: float, key: int | None, work: int, tried: Collection[Replica] = ()
    ) -> Replica | None:
        if not self._candidates:
            return None
        chosen = self.choose()
        if ours._takes(chosen, now, tried):
            return chosen
        taking = [replica for replica in self._candidates if ours._takes(replica, now, tried)]
        return self._random.choice(taking) if taking else None

    def choose(self) -> Replica:
        """One of the candidates."""
        raise NotImplementedError


class RoundRobin(Baseline):
    """One after the other."""

    _turn = 0

    def choose(self) -> Replica:
        self._turn = (self._turn + 1) % len(self._candidates)
        return self._candidates[self._turn]


class Random(Baseline):
    """Any."""

    def choose(self) -> Replica:
        return self._random.choice(self._candidates)


class Shuffled(Baseline):
    """Among equals each gateway prefers others."""

    def set_candidates(self, replicas: Sequence[Replica]) -> None:
        super().set_candidates(self._random.sample(replicas, len(replicas)))


class LeastRequest(Shuffled):
    """That with the fewest requests of this gateway."""

    def choose(self) -> Replica:
        return min(self._candidates, key=lambda replica: replica.in_flight)


class LeastReported(Shuffled):
    """That with the fewest requests by the last report."""

    def choose(self) -> Replica:
        return min(self._candidates, key=_reported)


def _reported(replica: Replica) -> int:
    return replica.report.running + replica.report.waiting if replica.report else 0


POLICIES: dict[str, type[Balancer]] = {
    "ours": Balancer,
    "ours, no affinity": WithoutAffinity,
    "least request": LeastRequest,
    "round robin": RoundRobin,
    "random": Random,
    "least reported": LeastReported,
}
