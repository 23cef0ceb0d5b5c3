"""Where requests wait for a place in a pool of engines.

The pool says how many places it has in all, and the turnstile counts the turns it has given: from
the moment one is granted, even if its task has not run since, until `leave`. So a burst never gets
more than there is. All of it runs in one event loop, and nothing here is awaited but the wait
itself.

What holds, whatever is cancelled when:

- A turn is given only while fewer are out than there are places.
- No place is free while somebody waits, as far as the turnstile was told; but for the place of a
  turn that had to wait `again`, which turned out to be none.
- Every turn that was granted is given back exactly once: by `leave`, or by `enter` itself where
  its task was cancelled before it could return the turn.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from service.quota.limits import Tier
from service.routing.fair_queue import Claim, FairQueue, State
from service.settings import QueueSettings

_SOONEST_RETRY = 1.0
_LATEST_RETRY = 60.0
# Said while nothing is known of the pace: no request has ended yet, or no replica is there.
_USUAL_RETRY = 5.0

Reason = Literal["full", "late", "displaced", "expired"]


@dataclass(slots=True, eq=False)
class Crowded(Exception):
    """There is no turn for a request, at least not in time."""

    retry_after: float
    """When one that is sent again may be served, s."""
    by_own_team: bool
    """Whether its own team has its share of the pool already; else others do, or it is out."""
    reason: Reason
    """There was no room to wait; or the wait would be too long; or the claim had to go for one of
    a team that has less waiting; or it waited as long as its tier may."""


class Turn:
    """One place in the pool. Whoever has it must `leave`, whatever happens."""

    __slots__ = ("_claim", "_turnstile")

    def __init__(self, turnstile: "Turnstile", claim: Claim) -> None:
        self._turnstile = turnstile
        self._claim = claim

    @property
    def waited(self) -> float:
        """For how long it had to be waited for, s."""
        return self._claim.waited

    def leave(self, work: int) -> None:
        """Give the place to who is next. `work` is what the request was in the end, 0 for none.

        A second time, and after `again` raised, it does nothing.
        """
        if self._claim.state is State.GRANTED:
            self._turnstile._leave(self._claim, work)

    async def again(self) -> None:
        """Wait once more, because the engine had no room after all. Raises `Crowded`.

        Its place in the order and its deadline are what they were. It is not given a place by this,
        even if one seems to be free: only when another turn is left or asked for, or the pool
        says `opened`. So whoever tries again never does so in a circle.
        """
        if self._claim.state is not State.GRANTED:
            raise RuntimeError("a turn that was left cannot wait again")
        await self._turnstile._again(self._claim)


class Turnstile:
    """The claims on one pool.

    `capacity` says how many places the pool has in all, taken or not. It is asked often and must be
    cheap. It may go down at any time, which takes no turn away, and up, which `opened` tells.
    """

    def __init__(
        self,
        capacity: Callable[[], int],
        settings: QueueSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._queue = FairQueue(settings)
        self._futures: dict[Claim, asyncio.Future[Crowded | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    @property
    def granted(self) -> int:
        """How many turns are given and not left."""
        return self._queue.granted

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.waiting

    @property
    def waiting_work(self) -> int:
        """The estimated work of those."""
        return self._queue.waiting_work

    @property
    def oldest_wait(self) -> float:
        """How long the one has waited that has waited longest, s. Looks at all of them."""
        now = self._clock()
        return max((claim.waited + now - claim.since for claim in self._futures), default=0.0)

    async def enter(self, team: str, tier: Tier, work: int) -> Turn:
        """Wait for a turn. Raises `Crowded`: at once where there is no hope, or at the deadline.

        To be awaited in the task that will leave, not through `asyncio.wait_for` or a task of its
        own: a turn that is lost on the way to its owner is a place that nobody gives back.
        """
        if self._futures:
            self._serve()  # there may be more places since, and deadlines may have come
        now = self._clock()
        if not self._futures and self._queue.granted < self._capacity():
            return Turn(self, self._queue.take(team, tier, work, now))
        if reason := self._reason(team, tier):
            raise self._crowded(team, tier, reason)
        if displaced := self._queue.make_room(team, tier):
            self._refuse(displaced, "displaced")
        claim = self._queue.push(team, tier, work, now)
        await self._wait(claim)
        return Turn(self, claim)

    def would_refuse(self, team: str, tier: Tier) -> bool:
        """Whether `enter` would raise at once. Changes nothing."""
        if not self._futures and self._queue.granted < self._capacity():
            return False
        return self._reason(team, tier) is not None

    def opened(self) -> None:
        """There may be more places now: serve who is next."""
        if self._futures:
            self._serve()

    async def _again(self, claim: Claim) -> None:
        self._queue.put_back(claim, self._clock())
        await self._wait(claim)

    async def _wait(self, claim: Claim) -> None:
        future = self._futures[claim] = asyncio.get_running_loop().create_future()
        self._arm()
        try:
            refusal = await future
        except BaseException:
            self._abandon(claim)
            raise
        if refusal:
            raise refusal

    def _abandon(self, claim: Claim) -> None:
        """Its task was cancelled: it may wait, or have been granted or refused just before."""
        if claim.state is State.WAITING:
            del self._futures[claim]
            self._queue.remove(claim)
        elif claim.state is State.GRANTED:
            self._leave(claim, 0)

    def _leave(self, claim: Claim, work: int) -> None:
        busy = self._queue.granted >= self._capacity()
        self._queue.end(claim, work, self._clock(), busy)
        if self._futures:
            self._serve()

    def _serve(self) -> None:
        """Give the free places to who is next, in time."""
        now = self._clock()
        for claim in self._queue.expire(now):
            self._refuse(claim, "expired")
        places = self._capacity()
        while self._queue.granted < places and (next := self._queue.pop(now)):
            future = self._futures.pop(next)
            if not future.done():  # else its task was cancelled, and gives it back when it runs
                future.set_result(None)

    def _reason(self, team: str, tier: Tier) -> Literal["full", "late"] | None:
        """Why one more claim of `team` may not wait. Its own size does not matter for that."""
        wait = self._queue.wait(team, tier, self._capacity())
        if wait is not None and wait > self._queue.longest[tier]:
            return "late"
        return None if self._queue.has_room(team, tier) else "full"

    def _refuse(self, claim: Claim, reason: Reason) -> None:
        future = self._futures.pop(claim)
        if not future.done():
            future.set_result(self._crowded(claim.team, claim.tier, reason))

    def _crowded(self, team: str, tier: Tier, reason: Reason) -> Crowded:
        places = self._capacity()
        wait = self._queue.wait(team, tier, places)
        retry = _USUAL_RETRY if wait is None else min(max(wait, _SOONEST_RETRY), _LATEST_RETRY)
        return Crowded(retry, places > 0 and self._queue.is_crowded_by(team, tier), reason)

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline. One that is too early does no harm."""
        deadline = self._queue.deadline
        if deadline is None or (self._timer and self._rings <= deadline):
            return
        if self._timer:
            self._timer.cancel()
        self._rings = deadline
        delay = max(deadline - self._clock(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._serve()
        self._arm()
