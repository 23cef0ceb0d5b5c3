"""The replicas that serve one model the same way, and the line of requests in front of them."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from service.routing.balancer import Balancer
from service.routing.health import Health, State
from service.routing.replica import Replica, Report
from service.routing.retry_budget import RetryBudget
from service.routing.turnstile import Turnstile
from service.settings import RoutingSettings

# By this share an ejection may be longer: not all gateways come back at the same moment.
_JITTER = 0.2


class Pool:
    """One pool. `model` is what its engines call the model that they serve."""

    def __init__(
        self,
        name: str,
        model: str,
        settings: RoutingSettings,
        clock: Callable[[], float] = time.monotonic,
        source: random.Random | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.replicas: dict[str, Replica] = {}
        self.turnstile = Turnstile(lambda: self.capacity, settings.queue, clock)
        self.budget = RetryBudget(settings.retry_ratio, settings.retry_floor, clock())
        self._settings = settings
        self._clock = clock
        self._random = source or random.Random()  # noqa: S311  # no secret depends on it
        self._balancer = Balancer(self._random)
        self._candidates: list[Replica] = []
        self._in_flight = 0
        self.capacity = 0
        """Requests that it can have at a time, those it has among them."""
        self.held = 0
        """Requests that wait for a replica to come."""
        self.unserved = 0
        """Requests that were refused since no replica could take them."""
        self._gone_outs: Counter[str] = Counter()
        self._has_members = False
        self._works = asyncio.Event()

    @property
    def now(self) -> float:
        """By its clock, s."""
        return self._clock()

    @property
    def works(self) -> bool:
        """Whether a request could go somewhere, now or after waiting in line."""
        return bool(self._candidates)

    @property
    def seen(self) -> bool:
        """Whether a replica that may get requests has also been seen to answer."""
        return any(replica.answered for replica in self._candidates)

    @property
    def candidates(self) -> int:
        """Replicas that may get requests."""
        return len(self._candidates)

    @property
    def outs(self) -> Mapping[str, int]:
        """How often a replica was taken out, by why: also those that have gone since."""
        total = Counter(self._gone_outs)
        for replica in self.replicas.values():
            total.update(_outs(replica))
        return total

    def set_members(self, urls: Iterable[str], slots: Callable[[str], int]) -> list[Replica]:
        """Make these the replicas. Returns those that are new.

        One that is gone gets nothing new, and finishes what it has.
        """
        wanted, now = set(urls), self._clock()
        for url in self.replicas.keys() - wanted:
            gone = self.replicas.pop(url)
            gone.is_member = False
            self._gone_outs.update(_outs(gone))
        # Those of the first list were there before this gateway, and are warm.
        known_good, self._has_members = not self._has_members, self._has_members or bool(wanted)
        new = [
            Replica(self.name, self.model, url, slots(url), self._new_health(now, known_good))
            for url in sorted(wanted - self.replicas.keys())
        ]
        self.replicas |= {replica.url: replica for replica in new}
        for url, replica in self.replicas.items():
            replica.slots = slots(url)
        self._balancer.set_members(list(self.replicas.values()))
        self.refresh()
        return new

    def refresh(self) -> None:
        """See who may get requests, and how many in all. O(n): once a second, and on changes."""
        now = self._clock()
        members = self.replicas.values()
        self._candidates = [replica for replica in members if _is_in(replica, now)]
        # What is in flight has its place, wherever it is: also at a replica that is out or gone.
        room = sum(_room(replica, now) for replica in self._candidates)
        self.capacity = self._in_flight + room
        self._balancer.set_candidates(self._candidates)
        if self._candidates:
            self._works.set()
            self.turnstile.opened()
        else:
            self._works.clear()

    async def until_it_works(self) -> None:
        """Wait for a replica that may get requests."""
        self.held += 1
        try:
            await self._works.wait()
        finally:
            self.held -= 1

    def arrived(self) -> None:
        """A client's request has come: it pays its part of a retry in."""
        self.budget.deposit(self._clock())

    def may_retry(self) -> bool:
        """Whether one request may be sent once more; it is paid for, if so."""
        return self.budget.take(self._clock())

    def pick(self, key: int | None, work: int, tried: Collection[Replica] = ()) -> Replica | None:
        """The replica for a request that has its turn; None where none has room."""
        return self._balancer.pick(self._clock(), key, work, tried)

    def request(self, replica: Replica, work: int) -> "_Request":
        """Count a request at a replica while it lasts. Its mark is for telling how it went."""
        return _Request(self, replica, work)

    def _count(self, replica: Replica, work: int) -> int:
        self._in_flight += 1
        self._balancer.began(work)
        replica.began(work)
        return replica.health.began(self._clock())

    def _discount(self, replica: Replica, work: int) -> None:
        replica.ended(work)
        self._in_flight -= 1
        self._balancer.ended(work)

    def begun(self, replica: Replica, mark: int) -> None:
        """A replica began to answer. That is enough to end a trial; it is no success yet."""
        now = self._clock()
        replica.answered, replica.heard_at = True, now
        if replica.health.state(now) is State.TRIAL:
            self.succeeded(replica, mark)

    def succeeded(self, replica: Replica, mark: int) -> None:
        """A replica answered in full."""
        self._judge(replica, partial(replica.health.succeeded, mark=mark))

    def abandoned(self, replica: Replica, mark: int) -> None:
        """A request ended in a way that says nothing of its replica."""
        self._judge(replica, partial(replica.health.abandoned, mark=mark))

    def failed(self, replica: Replica, mark: int, error: str, *, unreachable: bool) -> None:
        """A replica failed on a request. The last one that is in stays in, whatever it does: only
        its checks take it out, so that one that nobody reaches is checked at once."""
        if unreachable:
            replica.suspected.set()
        if self._candidates == [replica]:
            replica.health.last_error = error
            self.abandoned(replica, mark)
            return
        verdict = partial(replica.health.failed, mark=mark, error=error, unreachable=unreachable)
        self._judge(replica, verdict)

    def checked(self, replica: Replica, error: str | None) -> None:
        """A replica answered a check, or did not."""
        replica.answered = replica.answered or error is None
        self._judge(replica, partial(replica.health.checked, error=error))

    def reported(self, replica: Replica, report: Report, progress: float) -> None:
        """A replica said how loaded it is. `progress` grows with every step it makes."""
        replica.take_in(report, self._balancer.work)
        running = report.running
        self._judge(
            replica,
            partial(replica.health.progressed, running=running, progress=progress),
        )

    def _new_health(self, now: float, known_good: bool) -> Health:
        return Health(self._settings.health, now, jitter=self._jitter, known_good=known_good)

    def _jitter(self) -> float:
        return self._random.uniform(0, _JITTER)

    def _judge(self, replica: Replica, verdict: Callable[[float], None]) -> None:
        now = self._clock()
        before = replica.health.state(now)
        verdict(now)
        if replica.health.state(now) is not before:
            self.refresh()


class _Request:
    """A request at a replica, for as long as the block lasts."""

    __slots__ = ("_pool", "_replica", "_work")

    def __init__(self, pool: Pool, replica: Replica, work: int) -> None:
        self._pool = pool
        self._replica = replica
        self._work = work

    def __enter__(self) -> int:
        return self._pool._count(self._replica, self._work)

    def __exit__(self, *_: object) -> None:
        self._pool._discount(self._replica, self._work)


def _is_in(replica: Replica, now: float) -> bool:
    return replica.health.state(now) in (State.UP, State.TRIAL)


def _room(replica: Replica, now: float) -> int:
    if replica.health.state(now) is State.TRIAL:
        return int(replica.health.admits(now))
    return max(replica.slots - replica.in_flight, 0)


def _outs(replica: Replica) -> Mapping[str, int]:
    health = replica.health
    return {"ejections": health.ejections, "downs": health.downs, "stalls": health.stalls}
