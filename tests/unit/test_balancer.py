"""Which replica gets a request: where its cache is, unless that one has clearly too much."""

import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.routing.balancer import NEIGHBOURS, Balancer
from service.routing.health import Health
from service.routing.replica import Replica, Report
from service.routing.ring import hashed
from service.settings import HealthSettings

NOW = 1000.0
HEALTH = HealthSettings(ejection=2, slow_start=10)
WORK = 1000
KEYS = [hashed(b"%d" % number) for number in range(200)]


def replicas_of(size: int, *, slots: int = 1000) -> list[Replica]:
    return [
        Replica(
            "p",
            "m",
            f"http://10.0.{number // 250}.{number % 250}:8000",
            slots,
            Health(HEALTH, NOW, jitter=lambda: 0.0, known_good=True),
        )
        for number in range(size)
    ]


def balancer_of(replicas: Sequence[Replica]) -> Balancer:
    balancer = Balancer(random.Random(1))
    balancer.set_members(replicas)
    balancer.set_candidates(replicas)
    return balancer


def begin(balancer: Balancer, replica: Replica, work: int = WORK) -> None:
    replica.in_flight += 1
    replica.tokens += work
    balancer.began(work)


def end(balancer: Balancer, replica: Replica, work: int) -> None:
    replica.in_flight -= 1
    replica.tokens -= work
    balancer.ended(work)


def eject(replica: Replica) -> None:
    replica.health.failed(NOW, replica.health.began(NOW), "refused", unreachable=True)


def picked(balancer: Balancer, key: int | None, work: int = WORK) -> Replica:
    replica = balancer.pick(NOW, key, work)
    assert replica is not None
    return replica


def test_a_conversation_stays_where_its_cache_is() -> None:
    balancer = balancer_of(replicas_of(10))
    homes = {key: picked(balancer, key) for key in KEYS}
    assert len(set(homes.values())) == 10
    for key in KEYS * 3:
        assert picked(balancer, key) is homes[key]


def test_all_gateways_send_it_to_the_same_replica() -> None:
    one, other = (balancer_of(replicas_of(10)) for _ in range(2))
    assert [picked(one, key).url for key in KEYS] == [picked(other, key).url for key in KEYS]


def test_it_leaves_a_replica_that_has_clearly_more_work_and_comes_back() -> None:
    balancer = balancer_of(replicas_of(4))
    home = picked(balancer, KEYS[0])
    while home.load <= balancer.bound:
        begin(balancer, home)
    away = picked(balancer, KEYS[0])
    assert away is not home
    assert picked(balancer, KEYS[0]) is away  # and so its second cache is of use too
    for _ in range(home.in_flight):
        end(balancer, home, WORK)
    assert picked(balancer, KEYS[0]) is home


def test_the_work_of_others_counts_for_that_as_well() -> None:
    replicas = replicas_of(4)
    balancer = balancer_of(replicas)
    home = picked(balancer, KEYS[0])
    home.take_in(Report(50, 0, 0.5, 1, NOW), WORK)
    balancer.set_candidates(replicas)
    assert picked(balancer, KEYS[0]) is not home


def test_a_long_conversation_does_not_lose_its_cache_for_being_long() -> None:
    balancer = balancer_of(replicas_of(10))
    home = picked(balancer, KEYS[0])
    for replica in (home, picked(balancer, KEYS[1])):
        begin(balancer, replica)
    assert picked(balancer, KEYS[0], 130 * WORK) is home


def test_it_comes_back_with_its_replica() -> None:
    replicas = replicas_of(5)
    balancer = balancer_of(replicas)
    home = picked(balancer, KEYS[0])
    eject(home)
    balancer.set_candidates([replica for replica in replicas if replica is not home])
    others = [picked(balancer, KEYS[0]) for _ in range(5)]
    assert home not in others
    assert len(set(others)) == 1
    home.health.checked(NOW, None)
    later = NOW + 100
    home.health.succeeded(later, home.health.began(later))
    balancer.set_candidates(replicas)
    assert balancer.pick(later + HEALTH.slow_start, KEYS[0], WORK) is home


class Traffic:
    """Requests that begin and end, of whatever length and key."""

    def __init__(self, size: int) -> None:
        self.replicas = replicas_of(size)
        self.balancer = balancer_of(self.replicas)
        self.open: list[tuple[Replica, int]] = []

    def begin(self, key: int, work: int) -> None:
        bound = self.balancer.bound
        replica = picked(self.balancer, key, work)
        assert replica.load <= bound
        begin(self.balancer, replica, work)
        self.open.append((replica, work))

    def end(self, place: int) -> None:
        if self.open:
            replica, work = self.open.pop(place % len(self.open))
            end(self.balancer, replica, work)


@given(
    size=st.integers(1, NEIGHBOURS),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 50_000))),
)
@examples(max_examples=100)
def test_no_conversation_goes_where_more_than_the_bound_is(
    size: int, steps: list[tuple[bool, int, int]]
) -> None:
    traffic = Traffic(size)
    for begins, number, work in steps:
        if begins:
            traffic.begin(KEYS[number], work)
        else:
            traffic.end(number)


def test_nor_in_a_large_pool_that_all_ask_the_same() -> None:
    traffic = Traffic(200)
    for number in range(3_000):
        traffic.begin(KEYS[0], WORK)
        if number > 1_000:
            traffic.end(number)
    most = max(replica.load for replica in traffic.replicas)
    assert most <= traffic.balancer.bound + WORK


@given(
    states=st.lists(st.sampled_from(["fine", "full", "out", "tried", "gone"]), max_size=12),
    key=st.none() | st.sampled_from(KEYS[:5]),
    known=st.booleans(),
)
@examples(max_examples=150)
def test_what_cannot_take_it_never_gets_it_and_what_can_always_does(
    states: list[str], key: int | None, known: bool
) -> None:
    replicas = replicas_of(len(states), slots=2)
    balancer = balancer_of(replicas)
    fine = []
    for state, replica in zip(states, replicas, strict=True):
        if state == "fine":
            fine.append(replica)
        elif state == "full":
            for _ in range(replica.slots):
                begin(balancer, replica)
        elif state == "out":
            eject(replica)
        elif state == "gone":
            replica.is_member = False
    if known:  # else it happened after the last look
        balancer.set_candidates([replica for replica in replicas if replica.health.admits(NOW)])
    tried = [r for r, state in zip(replicas, states, strict=True) if state == "tried"]
    for _ in range(5):
        choice = balancer.pick(NOW, key, WORK, tried)
        assert choice in fine if fine else choice is None


def test_the_only_one_of_a_hundred_that_has_room_is_found() -> None:
    replicas = replicas_of(100, slots=0)
    replicas[77].slots = 1
    assert {picked(balancer_of(replicas), key) for key in [None, *KEYS[:20]]} == {replicas[77]}


def test_one_replica_on_trial_gets_one_request() -> None:
    replicas = replicas_of(1)
    balancer = balancer_of(replicas)
    eject(replicas[0])
    over = NOW + HEALTH.ejection
    assert balancer.pick(NOW, None, WORK) is None
    assert balancer.pick(over, None, WORK) is replicas[0]
    replicas[0].health.began(over)
    assert balancer.pick(over, None, WORK) is None


def test_what_has_no_cache_goes_where_little_is_to_do() -> None:
    replicas = replicas_of(50)
    balancer = balancer_of(replicas)
    for _ in range(1_000):
        begin(balancer, picked(balancer, None))
    loads = [replica.in_flight for replica in replicas]
    assert max(loads) <= 20 + 3  # at random it would be some 33


def test_no_two_choose_alike_by_the_same_late_report() -> None:
    replicas = replicas_of(20)
    for replica in replicas[1:]:
        replica.take_in(Report(10, 0, 0.5, 1, NOW), WORK)
    balancer = balancer_of(replicas)
    choices = Counter(picked(balancer, None) for _ in range(1_000))
    assert choices[replicas[0]] < 500


def test_one_that_is_back_is_not_flooded() -> None:
    replicas = replicas_of(4)
    back = replicas[0]
    back.health = Health(HEALTH, NOW, jitter=lambda: 0.0)
    balancer = balancer_of(replicas)
    for number in range(200):
        begin(balancer, picked(balancer, KEYS[number]))
    shares = [replica.in_flight for replica in replicas]
    assert 0 < shares[0] < min(shares[1:]) / 2


@pytest.mark.parametrize("by_key", [True, False])
def test_choosing_among_a_thousand_costs_about_what_it_costs_among_ten(by_key: bool) -> None:
    few, many = (balancer_of(replicas_of(size)) for size in (10, 1_000))
    keys = [key if by_key else None for key in KEYS * 10]
    assert min(_seconds(many, keys) for _ in range(3)) < 5 * min(
        _seconds(few, keys) for _ in range(3)
    )


def _seconds(balancer: Balancer, keys: Sequence[int | None]) -> float:
    began = time.process_time()
    for key in keys:
        balancer.pick(NOW, key, WORK)
    return time.process_time() - began
