"""That no place is lost or given twice, whoever is cancelled, displaced or late, and when.

The event loop here has a clock of its own, which goes on to the next timer when nothing is left to
do: the tests wait for deadlines without waiting.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.quota.limits import Tier
from service.routing.turnstile import Crowded, Turn, Turnstile
from service.settings import QueueSettings

T = TypeVar("T")


class Clock(selectors.SelectSelector):
    """Time that passes in the loop's waits, and takes none."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and no timer is set"
        self.now += max(timeout, 0.0)
        return super().select(0)


class Place:
    """A turnstile in a loop of its own, with so many places."""

    def __init__(self, places: int = 1, **queue: float) -> None:
        self.clock = Clock()
        self.loop = asyncio.SelectorEventLoop(self.clock)
        self.loop.time = lambda: self.clock.now  # type: ignore[method-assign]
        self.places = places
        self.turnstile = Turnstile(
            lambda: self.places, QueueSettings.model_validate(queue), self.loop.time
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def enter(
        self, team: str = "a", tier: Tier = Tier.STANDARD, work: int = 100
    ) -> asyncio.Task[Turn]:
        """One that has begun to wait, or has its turn."""
        task = self.loop.create_task(self.turnstile.enter(team, tier, work))
        self.settle()
        return task

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        for _ in range(3):
            self.run(asyncio.sleep(0))

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()


def crowded(task: asyncio.Task[Any]) -> Crowded:
    """What it was refused with, by now."""
    assert task.done()
    error = task.exception()
    assert isinstance(error, Crowded)
    return error


class AnyOrder(RuleBasedStateMachine):
    """Arrivals, ends, cancellations, deadlines and lost replicas, between any two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place(2, max_waiting=5)
        self.turnstile = self.place.turnstile
        self.entering: list[asyncio.Task[Turn]] = []
        self.again: dict[asyncio.Task[None], Turn] = {}
        self.turns: list[Turn] = []
        self.granted = 0
        self.was_none = False

    @rule(
        team=st.sampled_from("abc"),
        tier=st.sampled_from(Tier),
        work=st.integers(0, 500),
        settles=st.booleans(),
    )
    def enter(self, team: str, tier: Tier, work: int, settles: bool) -> None:
        self.entering.append(self.place.loop.create_task(self.turnstile.enter(team, tier, work)))
        self.was_none = self.was_none and not settles
        if settles:
            self.step()

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), work=st.integers(0, 1_000), twice=st.booleans())
    def leave(self, data: st.DataObject, work: int, twice: bool) -> None:
        turn = self.turns.pop(data.draw(st.integers(0, len(self.turns) - 1)))
        turn.leave(work)
        self.was_none = False
        if twice:
            turn.leave(work)

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def wait_again(self, data: st.DataObject) -> None:
        turn = self.turns.pop(data.draw(st.integers(0, len(self.turns) - 1)))
        self.again[self.place.loop.create_task(turn.again())] = turn
        self.step()
        self.was_none = True

    @precondition(lambda self: self.entering or self.again)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Perhaps before it began to wait, or after it was granted and before it knows."""
        data.draw(st.sampled_from([*self.entering, *self.again])).cancel()

    @rule(places=st.integers(0, 4), tells=st.booleans())
    def change(self, places: int, tells: bool) -> None:
        more = places > self.place.places
        self.place.places = places
        if tells or more:
            self.turnstile.opened()
            self.was_none = False

    @rule(seconds=st.floats(0, 100))
    def time(self, seconds: float) -> None:
        self.place.run(asyncio.sleep(seconds))
        self.collect()

    @rule()
    def step(self) -> None:
        self.place.run(asyncio.sleep(0))
        self.collect()

    def collect(self) -> None:
        for task in [task for task in self.entering if task.done()]:
            self.entering.remove(task)
            if not task.cancelled() and task.exception() is None:
                self.turns.append(task.result())
            elif not task.cancelled():
                crowded(task)
        for again in [task for task in self.again if task.done()]:
            turn = self.again.pop(again)
            if again.cancelled() or again.exception() is not None:
                turn.leave(10)  # as a `finally` does
            else:
                self.turns.append(turn)

    @invariant()
    def no_turn_is_given_beyond_the_places(self) -> None:
        assert self.turnstile.granted <= max(self.place.places, self.granted)
        self.granted = self.turnstile.granted

    @invariant()
    def no_place_is_free_while_somebody_waits(self) -> None:
        if self.turnstile.waiting and not self.was_none:
            assert self.turnstile.granted >= self.place.places

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert self.turnstile.waiting <= 5 + len(self.again)
        assert self.turnstile.oldest_wait <= 300

    @invariant()
    def every_place_has_somebody(self) -> None:
        self.place.settle()
        self.collect()
        assert self.turnstile.granted == len(self.turns)
        assert self.turnstile.waiting == len(self.entering) + len(self.again)
        self.granted = self.turnstile.granted

    def teardown(self) -> None:
        for turn in self.turns:
            turn.leave(1)
        self.place.close()
        self.collect()
        for turn in self.turns:
            turn.leave(1)
        assert (self.turnstile.granted, self.turnstile.waiting) == (0, 0)
        assert self.turnstile.waiting_work == 0


class AnyOrderAtOnce(AnyOrder):
    """The same, but for the loop's steps, which are rules of their own."""

    @invariant()
    def every_place_has_somebody(self) -> None:
        owned = len(self.turns)
        assert owned <= self.turnstile.granted <= owned + len(self.entering) + len(self.again)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyOrderAtOnce = AnyOrderAtOnce.TestCase
TestAnyOrderAtOnce.settings = settings(max_examples=150, stateful_step_count=40)


def test_a_burst_gets_as_many_turns_as_there_are_places() -> None:
    place = Place(3)
    tasks = [place.loop.create_task(place.turnstile.enter("a", Tier.BATCH, 10)) for _ in range(10)]
    place.settle()
    assert sum(task.done() for task in tasks) == place.turnstile.granted == 3
    assert (place.turnstile.waiting, place.turnstile.waiting_work) == (7, 70)
    place.close()


def test_nothing_is_set_up_for_a_turn_that_is_free() -> None:
    place = Place(1)
    turn = place.enter().result()
    assert turn.waited == 0.0
    turn.leave(100)
    assert place.turnstile.granted == 0
    assert place.turnstile._timer is None
    place.close()


def test_who_waited_knows_how_long() -> None:
    place = Place(1)
    first, second = place.enter(), place.enter()
    place.run(asyncio.sleep(7.5))
    assert place.turnstile.oldest_wait == pytest.approx(7.5)
    first.result().leave(100)
    place.settle()
    assert second.result().waited == pytest.approx(7.5)
    assert place.turnstile.oldest_wait == 0.0
    place.close()


@pytest.mark.parametrize("steps", range(4))
def test_a_turn_that_is_granted_to_a_client_that_is_gone_is_given_on(steps: int) -> None:
    place = Place(1)
    first, gone, next = place.enter(), place.enter(), place.enter()
    for part in range(4):
        if part == steps:
            gone.cancel()
        if part == 1:
            first.result().leave(100)
        if part == 2:
            place.run(asyncio.sleep(0))
    place.settle()
    if gone.cancelled():
        assert next.result()
    else:
        gone.result().leave(1)
        place.settle()
    next.result().leave(100)
    assert (place.turnstile.granted, place.turnstile.waiting) == (0, 0)
    place.close()


def test_each_waits_as_long_as_its_tier_may() -> None:
    place = Place(1, interactive_wait=15, standard_wait=60, batch_wait=300)
    turn = place.enter().result()
    tasks = {tier: place.enter(tier.value, tier) for tier in reversed(Tier)}
    for tier, longest in (Tier.INTERACTIVE, 15), (Tier.STANDARD, 60), (Tier.BATCH, 300):
        place.run(asyncio.wait([tasks[tier]]))
        assert place.clock.now == pytest.approx(1_000 + longest)
        assert crowded(tasks[tier]).reason == "expired"
    turn.leave(100)
    assert (place.turnstile.granted, place.turnstile.waiting) == (0, 0)
    place.close()


def test_there_is_one_timer_however_many_wait() -> None:
    place = Place(1)
    for tier in [Tier.BATCH] * 50 + [Tier.STANDARD] * 50 + [Tier.INTERACTIVE] * 50:
        place.enter(tier.value, tier)
    timers: list[asyncio.TimerHandle] = place.loop._scheduled  # type: ignore[attr-defined]
    assert len([timer for timer in timers if not timer.cancelled()]) == 1
    place.close()


def test_while_no_replica_is_there_they_wait_until_one_is_back() -> None:
    place = Place(0)
    first = place.enter("a")
    second = place.enter("b", Tier.INTERACTIVE)
    place.run(asyncio.sleep(5))
    place.enter("b", Tier.INTERACTIVE, 1_000)
    place.run(asyncio.sleep(10))
    assert crowded(second).reason == "expired"
    assert not crowded(second).by_own_team
    place.places = 1
    place.turnstile.opened()
    place.settle()
    assert first.result().waited == pytest.approx(15)
    place.close()


def test_a_lost_replica_takes_no_turn_away() -> None:
    place = Place(2)
    turns, waits = [place.enter().result() for _ in range(2)], place.enter()
    place.places = 1
    turns[0].leave(100)
    place.settle()
    assert not waits.done()
    turns[1].leave(100)
    place.settle()
    assert waits.result()
    place.close()


def test_who_finds_no_room_is_refused_at_once() -> None:
    place = Place(1, max_waiting=2)
    for _ in range(3):
        place.enter("a")
    assert place.turnstile.would_refuse("a", Tier.STANDARD)
    refused = crowded(place.enter("a"))
    assert (refused.reason, refused.by_own_team) == ("full", True)
    assert place.clock.now == 1_000
    place.close()


def test_who_has_the_longest_queue_makes_room_for_others() -> None:
    place = Place(1, max_waiting=2)
    tasks = [place.enter("a") for _ in range(3)]
    assert not place.turnstile.would_refuse("b", Tier.BATCH)
    other = place.enter("b", Tier.BATCH)
    refused = crowded(tasks[2])
    assert (refused.reason, refused.by_own_team) == ("displaced", True)
    assert not tasks[1].done()
    tasks[0].result().leave(100)
    place.settle()
    assert other.result()  # `a` has had its turn
    place.close()


def test_what_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    place = Place(1)
    first = place.enter(work=1_000)
    waiting = [place.enter("a", Tier.INTERACTIVE, 1_000) for _ in range(3)]
    place.run(asyncio.sleep(10))
    first.result().leave(1_000)  # 10 s, as long as each of the two that wait still
    assert place.turnstile.would_refuse("a", Tier.INTERACTIVE)
    refused = crowded(place.enter("a", Tier.INTERACTIVE, 1_000))
    assert (refused.reason, refused.by_own_team) == ("late", True)
    assert refused.retry_after == pytest.approx(20)
    assert not place.turnstile.would_refuse("b", Tier.INTERACTIVE)
    assert not place.enter("b", Tier.INTERACTIVE, 1_000).done()
    assert waiting[0].done()
    assert not waiting[1].done()
    place.close()


def test_later_is_said_the_more_wait() -> None:
    said = []
    for waiting in (1, 3, 8, 30):
        place = Place(1, max_waiting=waiting)
        first = place.enter(work=1_000)
        for _ in range(waiting):
            place.enter(work=1_000)
        place.run(asyncio.sleep(4))
        first.result().leave(1_000)
        place.enter(work=1_000)
        said.append(crowded(place.enter(work=1_000)).retry_after)
        place.close()
    assert said == pytest.approx([4, 12, 32, 60])


def test_a_turn_that_finds_no_room_waits_at_its_old_place() -> None:
    place = Place(2)
    first, second = place.enter("a"), place.enter("b")
    third = place.enter("c")
    again = place.loop.create_task(first.result().again())
    place.settle()
    assert not again.done()
    assert (place.turnstile.granted, place.turnstile.waiting) == (1, 2)
    place.places = 1
    second.result().leave(100)
    place.settle()
    assert again.done()
    assert not third.done()
    first.result().leave(100)
    place.settle()
    assert third.result()
    place.close()


def test_to_wait_again_does_not_go_round_in_a_circle() -> None:
    """The pool believes that there is a place; the engine says that there is none."""
    place = Place(1)
    turn = place.enter().result()
    tries = 0

    async def insist() -> None:
        nonlocal tries
        while True:
            tries += 1
            await turn.again()

    task = place.loop.create_task(insist())
    place.settle()
    assert tries == 1
    place.turnstile.opened()
    place.settle()
    assert tries == 2
    place.run(asyncio.sleep(60))
    assert crowded(task).reason == "expired"
    assert (place.turnstile.granted, place.turnstile.waiting) == (0, 0)
    turn.leave(100)
    assert place.turnstile.granted == 0
    with pytest.raises(RuntimeError):
        place.run(turn.again())
    place.close()


def test_a_deadline_that_has_passed_is_not_extended_by_waiting_again() -> None:
    place = Place(1, standard_wait=60)
    first, second = place.enter(), place.enter()
    place.run(asyncio.sleep(59))
    first.result().leave(100)
    place.settle()
    place.run(asyncio.sleep(30))
    again = place.loop.create_task(second.result().again())
    place.run(asyncio.wait([again]))
    assert crowded(again).reason == "expired"
    assert place.clock.now == pytest.approx(1_089)
    place.close()


def test_a_light_team_is_served_behind_a_flood() -> None:
    place = Place(4, max_waiting=1_000)
    flood = [place.enter("flood", Tier.INTERACTIVE) for _ in range(4)]
    for _ in range(1_500):
        place.loop.create_task(place.turnstile.enter("flood", Tier.INTERACTIVE, 100))
    place.settle()
    light = place.enter("light", Tier.BATCH, 5_000)
    flood[0].result().leave(100)
    flood[1].result().leave(100)
    place.settle()
    assert light.result()
    place.close()
