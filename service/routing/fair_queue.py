"""Which claim on a pool of engines is next: fair between teams, in work. Pure: time is handed in.

This is start-time fair queueing, as VTC does it for language models. Every team has an account in
virtual time, which is work divided by the team's weight. The first claim of a team that waits is
tagged with the team's account; the smallest tag is served next, and what is served is put on the
account. A team that comes back from having nothing waiting starts at the queue's virtual time: it
has saved nothing up, and pays for nothing that was free. What holds:

- The virtual time is never later than the tag of a team that waits. So a claim of a team that had
  nothing waiting, and owes nothing, is next, whatever the others have waiting. It goes after
  other such claims that came before it, one of each team at most.
- Of two teams that both wait all through some interval, with weights f and g and claims of at most
  F and G, the work that is served differs by |Wf/f - Wg/g| <= F/f + G/g: one claim each. This is
  for estimates that are right. One that was wrong is corrected when its request ends, so what
  was served before may be made up for by as much as the requests then running were wrong.
- Only what was served is charged: a claim that is removed costs its team nothing.
- A claim is refused or displaced for want of room only if all that wait would be served before it.
  A flood of one team thus fills the queue for that team alone.

A team that has claims of two tiers has an account for each, so that its batches do not hold up its
own people.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from service.quota.limits import Tier
from service.routing.lazy_heap import LazyHeap
from service.routing.pace import Pace
from service.settings import QueueSettings

# Shares are compared in floats: equal ones must not differ by a rounding.
_ROUNDING = 1e-9


class State(Enum):
    """Where a claim is."""

    WAITING = "waiting"
    GRANTED = "granted"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Claim:
    """One request's claim on the pool. `work` is an estimate; times are s of one clock."""

    account: "_Account"
    work: int
    number: int
    since: float
    """When it began to wait."""
    deadline: float
    state: State = State.WAITING
    waited: float = 0.0
    """For how long it had to wait until it was granted, s."""
    granted: float = 0.0
    """When it was."""
    tag: float = 0.0
    charged: bool = False
    """Whether its work is on its team's account: from when it was first granted."""
    place: int = -1
    """Its entry in the order; only the first of a team has one, and those that were put back."""
    alarm: int = -1
    """Its entry among the deadlines."""

    @property
    def team(self) -> str:
        """Whose it is."""
        return self.account.team

    @property
    def tier(self) -> Tier:
        """How urgent it is."""
        return self.account.tier


@dataclass(slots=True, eq=False)
class _Account:
    team: str
    tier: Tier
    weight: float
    time: float = 0.0
    """Virtual: what was served, by weight. The tag of the first claim that waits."""
    queue: OrderedDict[int, Claim] = field(default_factory=OrderedDict)
    """What waits and is not charged yet, by number, in order."""
    queued: int = 0
    """The work of it."""
    claims: int = 0
    """How many wait or are granted."""
    work: int = 0
    """The work of those."""
    owing: int = -1
    """Its entry among those that have no claims and are ahead of the virtual time."""

    @property
    def end(self) -> float:
        """The tag that one more claim would have, in virtual time."""
        return self.time + self.queued / self.weight

    @property
    def last(self) -> float:
        """The tag that its newest claim will have."""
        return self.end - self.queue[next(reversed(self.queue))].work / self.weight


class FairQueue:
    """The claims on one pool: those that wait, in order, and those that were granted."""

    def __init__(self, settings: QueueSettings) -> None:
        self._max_waiting = settings.max_waiting
        self._weights = {
            Tier.INTERACTIVE: settings.interactive_weight,
            Tier.STANDARD: settings.standard_weight,
            Tier.BATCH: settings.batch_weight,
        }
        self.longest = {
            Tier.INTERACTIVE: settings.interactive_wait,
            Tier.STANDARD: settings.standard_wait,
            Tier.BATCH: settings.batch_wait,
        }
        """The longest that a claim waits, s."""
        self.granted = 0
        """How many claims are granted and have not ended."""
        self.waiting_work = 0
        """The work of the claims that wait, as estimated."""
        self._number = 0
        self._time = 0.0  # virtual
        self._accounts: dict[tuple[str, Tier], _Account] = {}
        self._active_weight = 0.0  # of the accounts that have claims
        self._active_work = 0
        self._queues: dict[_Account, None] = {}  # those that have claims waiting, uncharged
        self._queued_weight = 0.0
        self._order: LazyHeap[Claim] = LazyHeap()
        self._deadlines: LazyHeap[Claim] = LazyHeap()
        self._owing: LazyHeap[_Account] = LazyHeap()
        self._pace = Pace()

    @property
    def waiting(self) -> int:
        """How many claims wait."""
        return len(self._deadlines)

    @property
    def teams(self) -> int:
        """How many accounts are remembered."""
        return len(self._accounts)

    @property
    def deadline(self) -> float | None:
        """The earliest deadline of a claim that waits."""
        claim = self._deadlines.first()
        return claim.deadline if claim else None

    def take(self, team: str, tier: Tier, work: int, now: float) -> Claim:
        """A claim that is granted at once. Only where none waits: it would be passed by."""
        claim = self._claim(team, tier, work, now)
        account = claim.account
        account.time = claim.tag = max(account.time, self._time)
        account.time += claim.work / account.weight
        self._grant(claim, now)
        return claim

    def has_room(self, team: str, tier: Tier) -> bool:
        """Whether one more claim of `team` may wait, or there is one that has to go for it."""
        return self.waiting < self._max_waiting or self._last_after(team, tier) is not None

    def make_room(self, team: str, tier: Tier) -> Claim | None:
        """Remove the claim that has to go for one more of `team`, if one has to. Returns it."""
        if self.waiting < self._max_waiting:
            return None
        claim = self._last_after(team, tier)
        if claim is not None:
            self.remove(claim)
        return claim

    def push(self, team: str, tier: Tier, work: int, now: float) -> Claim:
        """A claim that waits. Room was made for it before."""
        claim = self._claim(team, tier, work, now)
        account = claim.account
        account.queue[claim.number] = claim
        account.queued += claim.work
        if len(account.queue) == 1:
            account.time = max(account.time, self._time)
            self._queues[account] = None
            self._queued_weight += account.weight
            self._tag_first(account)
        self._wait(claim)
        return claim

    def pop(self, now: float) -> Claim | None:
        """Grant the claim that is next."""
        claim = self._order.first()
        if claim is None:
            return None
        self._stop_waiting(claim)
        if not claim.charged:
            account = claim.account
            self._unqueue(claim)
            account.time += claim.work / account.weight
            self._tag_first(account)
        self._grant(claim, now)
        return claim

    def put_back(self, claim: Claim, now: float) -> None:
        """Let a granted claim wait once more: its tag and its deadline are what they were.

        It has its place already, so there need be no room for it and it is not displaced.
        """
        self.granted -= 1
        claim.state = State.WAITING
        claim.since = now
        claim.place = self._order.add(claim.tag, claim.number, claim)
        self._wait(claim)

    def remove(self, claim: Claim) -> None:
        """Drop a claim that waits; whatever it was charged is given back."""
        self._stop_waiting(claim)
        if claim.charged:
            self._correct(claim.account, -claim.work)
        else:
            self._unqueue(claim)
            self._tag_first(claim.account)
        self._forget(claim)

    def expire(self, now: float) -> list[Claim]:
        """Drop the claims whose deadline has come. Returns them."""
        expired = []
        while (claim := self._deadlines.first()) and claim.deadline <= now:
            self.remove(claim)
            expired.append(claim)
        return expired

    def end(self, claim: Claim, work: int, now: float, busy: bool = False) -> None:
        """The request of a granted claim ended: charge the work that it was.

        `busy` says whether every place was taken until now. No work tells nothing of the pace: the
        engine was not asked, or has failed.
        """
        self.granted -= 1
        if busy and work > 0:
            self._pace.add(claim.work, now - claim.granted, now)
        self._correct(claim.account, max(work, 0) - claim.work)
        self._forget(claim)

    def wait(self, team: str, tier: Tier, places: int) -> float | None:
        """How long one more claim of `team` will wait, s; None where that is not known.

        Before it come what its team has waiting or owes, what the others get served meanwhile by
        weight, and one claim of each of them; at most all that waits. Until a place is free at all
        is not counted: to be next is never too late.
        """
        if not self.waiting:
            return 0.0
        pace = self._pace.of(places)
        if pace is None:
            return None
        account = self._accounts.get((team, tier))
        queued = account is not None and bool(account.queue)
        weights = self._queued_weight + (0.0 if queued else self._weights[tier])
        others = len(self._queues) - queued
        ahead = (self._end(account) - self._time) * weights
        ahead += others * self.waiting_work / self.waiting
        return min(ahead, self.waiting_work) / pace

    def is_crowded_by(self, team: str, tier: Tier) -> bool:
        """Whether a team has its fair share, or more, of all work that waits or is granted."""
        account = self._accounts.get((team, tier))
        if account is None or not account.claims:
            return False
        share = account.weight / self._active_weight
        return account.work >= share * self._active_work * (1 - _ROUNDING)

    def _last_after(self, team: str, tier: Tier) -> Claim | None:
        """The claim that is last in order; None where one more of `team` would be after it.

        Looks through the teams that wait: done only where all room is taken.
        """
        account = self._accounts.get((team, tier))
        longest = max(self._queues, key=lambda one: one.last, default=None)
        if longest is None or longest is account or longest.last <= self._end(account):
            return None
        return longest.queue[next(reversed(longest.queue))]

    def _end(self, account: _Account | None) -> float:
        """The tag of one more claim."""
        return max(account.end, self._time) if account else self._time

    def _claim(self, team: str, tier: Tier, work: int, now: float) -> Claim:
        account = self._accounts.get((team, tier))
        if account is None:
            account = self._accounts[team, tier] = _Account(team, tier, self._weights[tier])
        if not account.claims:
            self._owing.discard(account.owing)
            self._active_weight += account.weight
        self._number += 1
        # No work at all would be served first for ever.
        claim = Claim(account, max(work, 1), self._number, now, now + self.longest[tier])
        account.claims += 1
        account.work += claim.work
        self._active_work += claim.work
        return claim

    def _wait(self, claim: Claim) -> None:
        self.waiting_work += claim.work
        claim.alarm = self._deadlines.add(claim.deadline, claim.number, claim)

    def _stop_waiting(self, claim: Claim) -> None:
        self.waiting_work -= claim.work
        self._deadlines.discard(claim.alarm)
        self._order.discard(claim.place)

    def _unqueue(self, claim: Claim) -> None:
        account = claim.account
        del account.queue[claim.number]
        account.queued -= claim.work
        if not account.queue:
            del self._queues[account]
            self._queued_weight = self._queued_weight - account.weight if self._queues else 0.0

    def _tag_first(self, account: _Account) -> None:
        """Give the first claim of a team its place in the order, or a new one."""
        if account.queue:
            first = account.queue[next(iter(account.queue))]
            self._order.discard(first.place)
            first.tag = account.time
            first.place = self._order.add(first.tag, first.number, first)

    def _grant(self, claim: Claim, now: float) -> None:
        claim.state = State.GRANTED
        claim.charged = True
        claim.waited += now - claim.since
        claim.granted = now
        self.granted += 1
        self._time = max(self._time, claim.tag)
        self._forgive()

    def _correct(self, account: _Account, work: int) -> None:
        """Put work on an account, or take it off."""
        account.time += work / account.weight
        if account.queue and work:
            # The virtual time follows: who comes now must not wait for what is given back.
            self._time = min(self._time, account.time)
            self._tag_first(account)

    def _forget(self, claim: Claim) -> None:
        """A claim is gone, and perhaps its team with it."""
        account = claim.account
        claim.state = State.GONE
        account.claims -= 1
        account.work -= claim.work
        self._active_work -= claim.work
        if not account.claims:
            self._active_weight = self._active_weight - account.weight if self._active_work else 0.0
            if self._owes(account):
                account.owing = self._owing.add(account.time, claim.number, account)
            else:
                del self._accounts[account.team, account.tier]
        self._forgive()

    def _owes(self, account: _Account) -> bool:
        """Whether others that wait are behind. Where none waits, what was used was free."""
        return bool(self._queues) and account.time > self._time

    def _forgive(self) -> None:
        """Forget the teams that have no claims and owe nothing any more."""
        while (account := self._owing.first()) and not self._owes(account):
            self._owing.discard(account.owing)
            del self._accounts[account.team, account.tier]
        if not self._accounts:
            self._time = 0.0
