"""What holds for the order of claims, whatever comes, goes and ends in whatever order."""

import heapq
import math
import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.quota.limits import Tier
from service.routing.fair_queue import Claim, FairQueue, State
from service.routing.lazy_heap import LazyHeap
from service.settings import QueueSettings

ROOM = QueueSettings(max_waiting=20_000)
WEIGHTS = {Tier.INTERACTIVE: 4.0, Tier.STANDARD: 2.0, Tier.BATCH: 1.0}
WAITS = {Tier.INTERACTIVE: 15.0, Tier.STANDARD: 60.0, Tier.BATCH: 300.0}
Key = tuple[str, Tier]

teams = st.sampled_from("abcde")
tiers = st.sampled_from(Tier)
works = st.integers(1, 5_000)


def push(queue: FairQueue, team: str, work: int = 100, tier: Tier = Tier.STANDARD) -> Claim:
    assert queue.has_room(team, tier)
    assert queue.make_room(team, tier) is None
    return queue.push(team, tier, work, 0.0)


def order(queue: FairQueue) -> list[str]:
    """The teams of all that wait, as they are served."""
    served = []
    while claim := queue.pop(0.0):
        served.append(claim.team)
    return served


@dataclass(eq=False)
class Known:
    key: Key
    number: int
    work: int
    deadline: float
    state: str
    tag: float = 0.0
    charged: bool = False


class AnyOrder(RuleBasedStateMachine):
    """Every operation, against the rules written down as plainly as they can be."""

    MOST = 6

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(QueueSettings(max_waiting=self.MOST))
        self.now = 0.0
        self.time = 0.0
        self.accounts: dict[Key, float] = {}
        self.known: dict[Claim, Known] = {}

    def claims(self, state: str, key: Key | None = None) -> list[Known]:
        return [k for k in self.known.values() if k.state == state and key in (None, k.key)]

    def queued(self, key: Key | None = None) -> list[Known]:
        return [known for known in self.claims("waiting", key) if not known.charged]

    def tag(self, known: Known) -> float:
        """What the order goes by: the team's account, and what its team has before it."""
        if known.charged:
            return known.tag
        before = sum(one.work for one in self.queued(known.key) if one.number < known.number)
        return self.accounts[known.key] + before / WEIGHTS[known.key[1]]

    def end(self, key: Key) -> float:
        queued = sum(one.work for one in self.queued(key))
        return max(self.accounts.get(key, 0.0) + queued / WEIGHTS[key[1]], self.time)

    def note(self, claim: Claim, key: Key, work: int, state: str) -> Known:
        known = Known(key, len(self.known), work, self.now + WAITS[key[1]], state)
        if not self.queued(key):
            self.accounts[key] = max(self.accounts.get(key, 0.0), self.time)
        self.known[claim] = known
        return known

    def charge(self, known: Known, work: int) -> None:
        self.accounts[known.key] += work / WEIGHTS[known.key[1]]
        if self.queued(known.key):
            self.time = min(self.time, self.accounts[known.key])

    def drop(self, known: Known) -> None:
        known.state = "gone"
        if known.charged:
            self.charge(known, -known.work)

    def forgive(self) -> None:
        for key, time in list(self.accounts.items()):
            active = self.claims("waiting", key) or self.claims("granted", key)
            if not active and (time <= self.time or not self.queued()):
                del self.accounts[key]
        if not self.accounts:
            self.time = 0.0

    @rule(team=teams, tier=tiers, work=works)
    def enter(self, team: str, tier: Tier, work: int) -> None:
        key = team, tier
        waiting = self.claims("waiting")
        if len(waiting) >= self.MOST:
            last = max(self.queued(), key=self.tag, default=None)
            fits = last is not None and last.key != key and self.tag(last) > self.end(key)
            assert self.queue.has_room(team, tier) == fits
            displaced = self.queue.make_room(team, tier)
            if displaced is None:
                assert not fits
                return
            assert last is not None
            assert math.isclose(self.tag(self.known[displaced]), self.tag(last))
            self.drop(self.known[displaced])
            self.forgive()
        self.note(self.queue.push(team, tier, work, self.now), key, work, "waiting")

    @precondition(lambda self: not self.queue.waiting)
    @rule(team=teams, tier=tiers, work=works)
    def take(self, team: str, tier: Tier, work: int) -> None:
        claim = self.queue.take(team, tier, work, self.now)
        known = self.note(claim, (team, tier), work, "granted")
        known.tag, known.charged = self.accounts[known.key], True
        self.charge(known, work)
        self.time = max(self.time, known.tag)
        self.forgive()

    @rule()
    def pop(self) -> None:
        claim = self.queue.pop(self.now)
        waiting = self.claims("waiting")
        if claim is None:
            assert not waiting
            return
        first = min(waiting, key=lambda one: (self.tag(one), one.number))
        known = self.known[claim]
        assert claim.state is State.GRANTED
        assert known is first
        known.tag, known.state = self.tag(known), "granted"
        if not known.charged:
            known.charged = True
            self.accounts[known.key] += known.work / WEIGHTS[known.key[1]]
        self.time = max(self.time, known.tag)
        self.forgive()

    @precondition(lambda self: self.claims("granted"))
    @rule(data=st.data(), work=st.none() | st.integers(0, 10_000))
    def end_or_put_back(self, data: st.DataObject, work: int | None) -> None:
        claim = self.draw(data, "granted")
        known = self.known[claim]
        if work is None:
            self.queue.put_back(claim, self.now)
            known.state = "waiting"
            return
        self.queue.end(claim, work, self.now, busy=True)
        known.state = "gone"
        self.charge(known, work - known.work)
        self.forgive()

    @precondition(lambda self: self.claims("waiting"))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        claim = self.draw(data, "waiting")
        self.queue.remove(claim)
        self.drop(self.known[claim])
        self.forgive()

    @rule(seconds=st.floats(0, 100))
    def expire(self, seconds: float) -> None:
        self.now += seconds
        due = [known for known in self.claims("waiting") if known.deadline <= self.now]
        expired = [self.known[claim] for claim in self.queue.expire(self.now)]
        assert {one.number for one in expired} == {one.number for one in due}
        for known in expired:
            self.drop(known)
            self.forgive()

    def draw(self, data: st.DataObject, state: str) -> Claim:
        return data.draw(st.sampled_from([c for c, k in self.known.items() if k.state == state]))

    @invariant()
    def it_counts_right(self) -> None:
        waiting = self.claims("waiting")
        assert self.queue.waiting == len(waiting)
        assert self.queue.waiting_work == sum(one.work for one in waiting)
        assert self.queue.granted == len(self.claims("granted"))
        assert self.queue.deadline == min((one.deadline for one in waiting), default=None)
        assert len(self.queued()) <= self.MOST

    @invariant()
    def nobody_who_comes_anew_is_behind_one_that_waits(self) -> None:
        assert all(self.tag(one) >= self.time - 1e-6 for one in self.queued())

    @invariant()
    def only_active_teams_and_those_that_owe_are_remembered(self) -> None:
        assert self.queue.teams == len(self.accounts)
        if not self.claims("waiting") and not self.claims("granted"):
            assert self.queue.teams == 0

    @invariant()
    def the_estimated_wait_is_of_what_waits(self) -> None:
        for tier in Tier:
            wait = self.queue.wait("a", tier, 3)
            assert wait is None or wait >= 0
            assert self.queue.waiting or wait == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(tiers, st.integers(1, 3_000)), min_size=2, max_size=5),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_teams_that_wait_are_served_by_weight_within_one_claim_each(
    kinds: list[tuple[Tier, int]], places: int, chance: random.Random
) -> None:
    """|Wf/f - Wg/g| <= F/f + G/g over every interval: so for its largest and smallest value."""
    queue = FairQueue(ROOM)
    for _ in range(3):
        for team, (tier, most) in enumerate(kinds):
            push(queue, str(team), chance.randint(1, most), tier)
    served = [0.0] * len(kinds)
    history = [list(served)]
    running: list[Claim] = []
    for _ in range(200):
        if len(running) == places:
            ended = running.pop(chance.randrange(places))
            queue.end(ended, ended.work, 0.0)
        claim = queue.pop(0.0)
        assert claim is not None
        running.append(claim)
        tier, most = kinds[int(claim.team)]
        push(queue, claim.team, chance.randint(1, most), tier)
        served[int(claim.team)] += claim.work / WEIGHTS[tier]
        history.append(list(served))
    for f, (tier_f, most_f) in enumerate(kinds):
        for g, (tier_g, most_g) in enumerate(kinds[:f]):
            ahead = [work[f] - work[g] for work in history]
            bound = most_f / WEIGHTS[tier_f] + most_g / WEIGHTS[tier_g]
            assert max(ahead) - min(ahead) <= bound * (1 + 1e-9)


def test_estimates_that_are_wrong_gain_and_cost_nothing_in_the_long_run() -> None:
    queue, chance = FairQueue(ROOM), random.Random(1)
    actual = {"exact": (300, 300), "over": (300, 4_000), "under": (300, 30)}
    for _ in range(20):
        for team, (_, estimate) in actual.items():
            push(queue, team, estimate)
    used = dict.fromkeys(actual, 0)
    running: list[Claim] = []
    for _ in range(6_000):
        if len(running) == 16:
            ended = running.pop(chance.randrange(16))
            used[ended.team] += actual[ended.team][0]
            queue.end(ended, actual[ended.team][0], 0.0)
        claim = queue.pop(0.0)
        assert claim is not None
        running.append(claim)
        push(queue, claim.team, claim.work)
    # What is running may be off by its whole estimate; the rest is even.
    for one, other in pairwise(used.values()):
        assert abs(one - other) <= 16 * 4_000


@pytest.mark.parametrize("before", [0, 1, 128, 5_000])
def test_a_claim_behind_a_flood_of_another_team_is_next(before: int) -> None:
    queue = FairQueue(ROOM)
    for _ in range(10_000):
        push(queue, "flood", 700, Tier.INTERACTIVE)
    for _ in range(before):
        assert queue.pop(0.0)
    push(queue, "light", 3_000, Tier.BATCH)
    assert "light" in order(queue)[:2]


def test_a_claim_is_next_even_if_what_the_others_were_charged_was_given_back() -> None:
    queue = FairQueue(ROOM)
    for _ in range(100):
        push(queue, "flood", 4_000)
    running = [queue.pop(0.0) for _ in range(50)]
    push(queue, "early")
    for claim in running:
        assert claim
        queue.end(claim, 10, 0.0)  # the places went with a replica: nobody was served for them
    push(queue, "late")
    assert "late" in order(queue)[:2]


def test_shares_go_by_weight() -> None:
    queue = FairQueue(ROOM)
    for _ in range(70):
        for team, tier in ("i", Tier.INTERACTIVE), ("s", Tier.STANDARD), ("b", Tier.BATCH):
            push(queue, team, 100, tier)
    served = order(queue)[:70]
    assert [served.count(team) for team in "isb"] == [40, 20, 10]


def test_a_team_that_was_away_has_saved_nothing_up() -> None:
    queue = FairQueue(ROOM)
    for _ in range(1_000):
        push(queue, "a")
    for _ in range(500):
        assert queue.pop(0.0)
    for _ in range(3):
        push(queue, "b")
    assert "".join(order(queue)[:6]) in ("bababa", "ababab")


def test_a_team_pays_for_no_claim_that_was_not_served() -> None:
    queue = FairQueue(ROOM)
    for claim in [push(queue, "a") for _ in range(50)]:
        queue.remove(claim)
    taken = queue.take("a", Tier.STANDARD, 100, 0.0)
    queue.put_back(taken, 0.0)
    queue.remove(taken)
    push(queue, "a")
    push(queue, "b")
    assert order(queue) == ["a", "b"]


def test_what_a_request_was_is_charged_once_it_ends() -> None:
    queue = FairQueue(ROOM)
    running = {team: queue.take(team, Tier.STANDARD, 100, 0.0) for team in "abc"}
    for team in "aaabbbccc":
        push(queue, team)
    for team, work in ("a", 100), ("b", 300), ("c", 0):
        queue.end(running[team], work, 0.0)
    assert order(queue) == list("cacacabbb")


def test_a_claim_that_is_put_back_is_before_all_that_came_later() -> None:
    queue = FairQueue(ROOM)
    for team in "abab":
        push(queue, team)
    first, second = queue.pop(0.0), queue.pop(0.0)
    assert first and second
    deadline = first.deadline
    queue.put_back(second, 7.0)
    queue.put_back(first, 9.0)
    assert queue.pop(9.0) is first
    assert queue.pop(9.0) is second
    assert first.deadline == deadline
    assert (first.waited, second.waited) == (0.0, 2.0)


@settings(max_examples=100)
@given(st.lists(st.sampled_from("xxxxxxabcd."), max_size=400), works, tiers)
def test_a_flood_takes_no_room_of_a_team_that_is_under_its_share(
    arrivals: list[str], work: int, tier: Tier
) -> None:
    queue = FairQueue(QueueSettings(max_waiting=40))
    own = dict.fromkeys("abcd", 0)
    for team in arrivals:
        if team == ".":
            if claim := queue.pop(0.0):
                own[claim.team] = own.get(claim.team, 1) - 1
        elif team == "x":
            if queue.has_room(team, tier):
                displaced = queue.make_room(team, tier)
                assert displaced is None
                queue.push(team, tier, work, 0.0)
        elif own[team] < 40 // 5 - 2:  # two claims are what accounts differ by, between two grants
            assert queue.has_room(team, tier)
            displaced = queue.make_room(team, tier)
            assert displaced is None or displaced.team == "x"
            queue.push(team, tier, work, 0.0)
            own[team] += 1
        assert queue.waiting <= 40


def test_what_is_big_has_room_as_well() -> None:
    queue = FairQueue(QueueSettings(max_waiting=10))
    flood = [push(queue, "flood", 10) for _ in range(10)]
    assert not queue.has_room("flood", Tier.STANDARD)
    assert queue.make_room("big", Tier.BATCH) is flood[-1]


def test_there_may_be_no_room_at_all() -> None:
    queue = FairQueue(QueueSettings(max_waiting=0))
    assert not queue.has_room("a", Tier.INTERACTIVE)
    assert queue.make_room("a", Tier.INTERACTIVE) is None


def test_nothing_is_remembered_of_teams_that_are_gone() -> None:
    queue = FairQueue(ROOM)
    names = [f"team {number}" for number in range(2_000)]
    for name in names:
        queue.end(queue.take(name, Tier.STANDARD, 100, 0.0), 5_000, 0.0)
    assert queue.teams == 0
    for name in names:
        push(queue, name)
    for _ in names:
        claim = queue.pop(0.0)
        assert claim
        queue.end(claim, 100, 0.0)
    assert queue.teams == 0


@pytest.mark.parametrize("places", [1, 4, 32])
@pytest.mark.parametrize("overestimate", [1.0, 8.0])
def test_the_estimated_wait_is_what_it_then_is(places: int, overestimate: float) -> None:
    """On average, within 15 % and what two requests take, 2 s: of a busy and of a light team."""
    queue, chance, now = FairQueue(ROOM), random.Random(places), 0.0
    estimates: dict[Claim, float] = {}
    waits: dict[str, list[tuple[float, float]]] = {"busy": [], "light": []}
    running: list[tuple[float, int, int, Claim]] = []
    for step in range(3_000):
        while queue.waiting < 20 + step % 130:
            team = chance.choice(["busy"] * 9 + ["light"])
            estimate = queue.wait(team, Tier.STANDARD, places)
            work = int(chance.randint(500, 1_500) * overestimate)
            claim = queue.push(team, Tier.STANDARD, work, now)
            if estimate is not None:
                estimates[claim] = estimate
        while len(running) < places and (next := queue.pop(now)):
            actual = int(next.work / overestimate)
            heapq.heappush(running, (now + actual / 1_000, next.number, actual, next))
            if next in estimates:
                waits[next.team].append((estimates[next], next.waited))
        now, _, actual, ended = heapq.heappop(running)  # 1,000 take a second
        queue.end(ended, actual, now, busy=True)
    for known in waits.values():
        said, was = (sum(times) / len(known) for times in zip(*known, strict=True))
        assert len(known) > 100
        assert abs(said - was) < 0.15 * was + 2


def test_the_wait_is_unknown_until_a_request_has_ended_or_without_places() -> None:
    queue = FairQueue(ROOM)
    taken = queue.take("a", Tier.STANDARD, 1_000, 0.0)
    assert queue.wait("a", Tier.STANDARD, 1) == 0.0  # it would be next
    push(queue, "a", 1_000)
    assert queue.wait("a", Tier.STANDARD, 1) is None
    queue.end(taken, 0, 2.0, busy=True)  # it failed, which is no pace
    assert queue.wait("a", Tier.STANDARD, 1) is None
    taken = queue.pop(2.0) or taken
    push(queue, "a", 1_000)
    queue.end(taken, 1_000, 4.0, busy=False)  # a place was free
    assert queue.wait("a", Tier.STANDARD, 1) is None
    taken = queue.pop(4.0) or taken
    push(queue, "a", 1_000)
    queue.end(taken, 1_000, 6.0, busy=True)
    assert queue.wait("a", Tier.STANDARD, 1) == pytest.approx(2.0)
    assert queue.wait("a", Tier.STANDARD, 2) == pytest.approx(1.0)
    assert queue.wait("a", Tier.STANDARD, 0) is None


@given(st.text("abcde", min_size=1, max_size=50), works)
def test_the_estimated_wait_grows_with_what_waits(others: str, work: int) -> None:
    queue = FairQueue(ROOM)
    queue.end(queue.take("z", Tier.STANDARD, 1_000, 0.0), 1_000, 1.0, busy=True)
    for other in others:
        before = queue.wait("a", Tier.STANDARD, 1) or 0.0
        push(queue, other, work)
        after = queue.wait("a", Tier.STANDARD, 1) or 0.0
        assert before <= after + 1e-9
        assert after <= queue.waiting_work / 1_000 + 1e-9


def test_a_new_team_waits_for_one_claim_of_each_of_the_others() -> None:
    queue = FairQueue(ROOM)
    queue.end(queue.take("z", Tier.STANDARD, 1_000, 0.0), 1_000, 1.0, busy=True)
    for team in "b" * 50 + "c" * 50:
        push(queue, team, 1_000)
    assert queue.wait("a", Tier.STANDARD, 1) == pytest.approx(2.0)
    push(queue, "a", 1_000)
    assert queue.wait("a", Tier.STANDARD, 1) == pytest.approx(5.0)
    assert queue.wait("b", Tier.STANDARD, 1) == pytest.approx(101.0)


def test_who_crowds_the_pool_has_its_share_of_it() -> None:
    queue = FairQueue(ROOM)
    assert not queue.is_crowded_by("a", Tier.STANDARD)
    running = queue.take("a", Tier.STANDARD, 1_000, 0.0)
    assert queue.is_crowded_by("a", Tier.STANDARD)
    push(queue, "b", 1_000)
    assert queue.is_crowded_by("a", Tier.STANDARD)
    assert queue.is_crowded_by("b", Tier.STANDARD)
    push(queue, "b", 1)
    assert not queue.is_crowded_by("a", Tier.STANDARD)
    push(queue, "c", 400, Tier.BATCH)
    assert not queue.is_crowded_by("c", Tier.BATCH)
    push(queue, "c", 400, Tier.BATCH)
    assert queue.is_crowded_by("c", Tier.BATCH)
    queue.end(running, 1_000, 0.0)
    assert not queue.is_crowded_by("a", Tier.STANDARD)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=600))
def test_a_lazy_heap_is_an_order_and_holds_little_more_than_what_is_in(
    operations: list[tuple[int, bool]],
) -> None:
    heap: LazyHeap[tuple[int, int]] = LazyHeap()
    inside: dict[tuple[int, int], int] = {}
    for number, (key, adds) in enumerate(operations):
        if adds:
            inside[key, number] = heap.add(key, number, (key, number))
        elif inside:
            gone = list(inside)[key % len(inside)]
            heap.discard(inside[gone])
            heap.discard(inside.pop(gone))
        assert heap.first() == min(inside, default=None)
        assert len(heap) == len(inside)
        assert len(heap.entries) <= 2 * len(inside) + 65


def test_deadlines_of_claims_that_were_served_hold_no_memory() -> None:
    heap: LazyHeap[int] = LazyHeap()
    for number in range(10_000):
        heap.discard(heap.add(number, number, number))
    assert len(heap.entries) <= 65
