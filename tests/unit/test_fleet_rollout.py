"""What may be started and ended, in a simulated world in which engines start, fail and are lost."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from service.fleet.document import Rollout
from service.fleet.rollout import LIVING, Engine, Phase, Steps, next_steps

MOST: Final = 6
NODES: Final = "abc"
rollouts = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)


@dataclass(eq=False)
class Known:
    """An engine of the world."""

    name: str
    generation: int
    node: str
    phase: Phase = Phase.PLACING
    load: int = 0


class World:
    """What a keeper sees and does. `works` is whether engines of the document ever become ready."""

    def __init__(self, replicas: int, surge: int, unavailable: int) -> None:
        self.replicas = replicas
        self.rollout = Rollout(surge=surge, unavailable=unavailable)
        self.generation = 0
        self.works = True
        self.engines: dict[str, Known] = {}
        self.made = 0

    def seen(self) -> list[Engine]:
        return [
            Engine(one.name, one.phase, one.generation == self.generation, one.node, one.load)
            for one in self.engines.values()
        ]

    def those(self, *phases: Phase, current: bool | None = None) -> list[Known]:
        return [
            one
            for one in self.engines.values()
            if one.phase in phases and current in (None, one.generation == self.generation)
        ]

    @property
    def least(self) -> int:
        """Ready engines that there have to be for an old one to go."""
        return max(self.replicas - self.rollout.unavailable, 0)

    def look(self) -> Steps:
        """One look of the keeper, against the rules."""
        steps = next_steps(self.replicas, self.rollout, self.seen())
        self.check(steps)
        for name in steps.clear:
            del self.engines[name]
        for name in steps.drain:
            self.engines[name].phase = Phase.DRAINING
        for _ in range(steps.start):
            self.made += 1
            name = f"engine-{self.made}"
            node = NODES[self.made % len(NODES)]
            self.engines[name] = Known(name, self.generation, node)
        return steps

    def check(self, steps: Steps) -> None:
        living, old = self.those(*LIVING), self.those(*LIVING, current=False)
        current = self.those(*LIVING, current=True)
        drained = [self.engines[name] for name in steps.drain]
        ready = self.those(Phase.READY)

        # What is broken, all of it and nothing else, goes.
        broken = self.those(Phase.FAILED, Phase.LOST)
        assert sorted(steps.clear) == sorted(one.name for one in broken)

        # No engine is told twice, and none that runs no more.
        assert len(set(steps.drain)) == len(steps.drain)
        assert set(drained) <= set(living)

        # Never more than there may be, nor more than are wanted.
        if steps.start:
            surge = self.rollout.surge if old else 0
            assert len(living) + steps.start <= self.replicas + surge
            assert len(current) + steps.start <= self.replicas

        # Only those go that are old, or too many.
        gone = [one for one in drained if one in current]
        assert len(gone) == max(len(current) - self.replicas, 0)
        if any(one.phase is Phase.READY for one in gone):
            left = [one for one in current if one not in gone]
            assert all(one.phase is Phase.READY for one in left), "first what serves nobody"

        # By our own doing there are never fewer that serve than the document allows.
        serving = len([one for one in ready if one not in drained])
        assert serving >= min(len(ready), self.least)
        if not old:
            assert serving >= min(len(ready), self.replicas)

    def step(self) -> None:
        """Everything gets on, and nothing fails."""
        for one in list(self.engines.values()):
            match one.phase:
                case Phase.PLACING:
                    one.phase = Phase.STARTING
                case Phase.STARTING if one.generation < self.generation or self.works:
                    one.phase = Phase.READY
                case Phase.DRAINING:
                    del self.engines[one.name]

    def settle(self) -> None:
        """Until nothing changes any more; that comes after a bounded number of looks."""
        for _ in range(6 * (len(self.engines) + self.replicas) + 20):
            before = {one.name: one.phase for one in self.engines.values()}
            self.look()
            self.step()
            if before == {one.name: one.phase for one in self.engines.values()}:
                return
        raise AssertionError(f"it never settles: {self.engines.values()}")


class AnyFate(RuleBasedStateMachine):
    """Looks, documents and fates, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(2, 0, 1)

    @rule()
    def look(self) -> None:
        self.world.look()

    @rule()
    def get_on(self) -> None:
        self.world.step()

    @rule(works=st.booleans(), rollout=rollouts)
    def take_a_document(self, works: bool, rollout: tuple[int, int]) -> None:
        surge, unavailable = rollout
        self.world.generation += 1
        self.world.works = works
        self.world.rollout = Rollout(surge=surge, unavailable=unavailable)

    @rule(replicas=st.integers(0, MOST))
    def scale(self, replicas: int) -> None:
        self.world.replicas = replicas

    @precondition(lambda self: self.world.engines)
    @rule(data=st.data(), phase=st.sampled_from([Phase.FAILED, Phase.LOST]))
    def lose(self, data: st.DataObject, phase: Phase) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.engines)))
        self.world.engines[name].phase = phase

    @precondition(lambda self: self.world.engines)
    @rule(data=st.data(), load=st.integers(0, 50))
    def work(self, data: st.DataObject, load: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.engines)))
        self.world.engines[name].load = load

    @rule(node=st.sampled_from(NODES))
    def lose_a_node(self, node: str) -> None:
        for one in self.world.engines.values():
            if one.node == node:
                one.phase = Phase.LOST

    @rule()
    def be_left_alone(self) -> None:
        """It comes to what the document says, or keeps what serves."""
        world = self.world
        served = len(world.those(Phase.READY))
        world.settle()
        ready = world.those(Phase.READY)
        if world.works:
            assert len(ready) == len(world.engines) == world.replicas
            assert len(world.those(Phase.READY, current=True)) == world.replicas
        else:
            assert len(ready) >= min(served, world.least)
            assert not world.those(Phase.FAILED, Phase.LOST, Phase.DRAINING)
        assert world.look() == Steps(0, (), ())


TestAnyFate = AnyFate.TestCase
TestAnyFate.settings = settings(max_examples=150, stateful_step_count=30)


@settings(max_examples=300)
@given(
    st.integers(0, MOST),
    rollouts,
    st.lists(
        st.tuples(
            st.sampled_from(Phase),
            st.integers(0, 1),
            st.sampled_from(NODES),
            st.integers(0, 9),
        ),
        max_size=9,
    ),
)
def test_every_step_is_allowed_whatever_there_is(
    replicas: int, rollout: tuple[int, int], there: list[tuple[Phase, int, str, int]]
) -> None:
    """Also what no keeper would have brought about, and from there it comes right."""
    world = World(replicas, *rollout)
    world.generation = 1
    for number, (phase, generation, node, load) in enumerate(there):
        name = f"found-{number}"
        world.engines[name] = Known(name, generation, node, phase, load)
    world.look()
    world.settle()
    assert len(world.those(Phase.READY, current=True)) == len(world.engines) == replicas


def settled(replicas: int, surge: int = 0, unavailable: int = 1) -> World:
    """A world in which all runs."""
    world = World(replicas, surge, unavailable)
    world.settle()
    return world


@given(st.integers(0, MOST), rollouts)
def test_a_pool_begins_with_all_that_it_should_have(
    replicas: int, rollout: tuple[int, int]
) -> None:
    world = World(replicas, *rollout)
    assert world.look() == Steps(replicas, (), ())
    assert world.look() == Steps(0, (), ()), "what is placed already is not started twice"


@given(st.integers(1, MOST), rollouts)
def test_a_rollout_replaces_all_and_no_more_are_away_than_may_be(
    replicas: int, rollout: tuple[int, int]
) -> None:
    world = settled(replicas, *rollout)
    world.generation += 1
    fewest, most = replicas, replicas
    for _ in range(10 * replicas):
        world.look()
        fewest = min(fewest, len(world.those(Phase.READY)))
        most = max(most, len(world.those(*LIVING)))
        world.step()
    assert len(world.those(Phase.READY, current=True)) == replicas
    assert len(world.engines) == replicas
    assert fewest >= replicas - world.rollout.unavailable
    assert most <= replicas + world.rollout.surge


@given(st.integers(1, MOST), rollouts)
def test_a_document_whose_engines_never_start_leaves_the_others_running(
    replicas: int, rollout: tuple[int, int]
) -> None:
    world = settled(replicas, *rollout)
    world.generation, world.works = world.generation + 1, False
    for _ in range(10 * replicas):
        world.look()
        world.step()
        for one in world.those(Phase.STARTING):
            one.phase = Phase.FAILED
    assert len(world.those(Phase.READY, current=False)) >= replicas - world.rollout.unavailable
    world.works = True
    world.generation += 1  # mended
    world.settle()
    assert len(world.those(Phase.READY, current=True)) == len(world.engines) == replicas


@given(st.integers(1, MOST), rollouts, st.booleans())
def test_a_document_that_is_taken_back_ends_nothing_that_runs(
    replicas: int, rollout: tuple[int, int], looked: bool
) -> None:
    world = settled(replicas, *rollout)
    world.generation += 1
    if looked:
        world.look()
    served = len(world.those(Phase.READY))
    for one in world.engines.values():  # what was of the new one is of an old one now
        one.generation = 2 if one.generation == 0 else 1
    world.generation = 2
    steps = world.look()
    assert all(world.engines[name].generation == 1 for name in steps.drain)
    assert len(world.those(Phase.READY)) == served


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.LOST])
def test_what_is_broken_is_cleared_and_replaced_at_once(phase: Phase) -> None:
    engines = [Engine("good", Phase.READY, True, "a"), Engine("bad", phase, True, "b")]
    assert next_steps(2, Rollout(), engines) == Steps(1, (), ("bad",))


def test_engines_that_drain_are_left_alone_and_do_not_count() -> None:
    engines = [
        Engine("ends", Phase.DRAINING, True, "a", 5),
        Engine("old", Phase.DRAINING, False, "b"),
    ]
    assert next_steps(1, Rollout(), engines) == Steps(1, (), ())
    assert next_steps(0, Rollout(), engines) == Steps(0, (), ())


def test_old_engines_that_serve_nobody_go_first() -> None:
    engines = [
        Engine("starts", Phase.STARTING, False, "a"),
        Engine("serves", Phase.READY, False, "b"),
        Engine("is-placed", Phase.PLACING, False, "c"),
    ]
    steps = next_steps(3, Rollout(surge=1, unavailable=0), engines)
    assert set(steps.drain) == {"starts", "is-placed"}


def test_the_one_with_the_fewest_requests_goes() -> None:
    engines = [Engine(f"e{load}", Phase.READY, True, f"n{load}", load) for load in (7, 3, 5)]
    assert next_steps(2, Rollout(), engines).drain == ("e3",)
    assert next_steps(1, Rollout(), engines).drain == ("e3", "e5")


def test_the_one_on_the_fullest_node_goes() -> None:
    engines = [
        Engine("alone", Phase.READY, True, "a", 0),
        Engine("beside", Phase.READY, True, "b", 9),
        Engine("too", Phase.READY, True, "b", 4),
    ]
    assert next_steps(2, Rollout(), engines).drain == ("too",)


@given(st.integers(1, 4), st.integers(0, 12), st.integers(0, 12))
def test_what_is_left_of_a_pool_is_as_spread_as_it_was(
    count: int, running: int, replicas: int
) -> None:
    engines = [
        Engine(f"engine-{number:02}", Phase.READY, True, f"node-{number % count}")
        for number in range(running)
    ]
    drained = next_steps(replicas, Rollout(), engines).drain
    on = Counter({f"node-{number}": 0 for number in range(count)})
    on.update(one.node for one in engines if one.name not in drained)
    assert sum(on.values()) == min(running, replicas)
    assert max(on.values()) - min(on.values()) <= 1
