"""A key finds its member: evenly, the same in every process, and whoever else comes or goes."""

import statistics
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.routing.ring import POINTS, Ring, hashed

KEYS = [hashed(b"conversation %d" % number) for number in range(2_000)]
numbers = st.sets(st.integers(0, 30), min_size=1, max_size=8)


@dataclass(frozen=True)
class Member:
    url: str


def members(numbers: Collection[int]) -> list[Member]:
    return [Member(f"http://10.0.0.{number}:8000") for number in numbers]


def ring_of(numbers: Collection[int]) -> Ring[Member]:
    ring: Ring[Member] = Ring()
    ring.set_members(members(numbers))
    return ring


def owner(ring: Ring[Member], key: int) -> Member:
    return next(ring.walk(key, 1))


def test_a_key_finds_the_same_member_in_every_process_and_release() -> None:
    # What this says may only change on purpose: it empties the prefix caches of every installation.
    ring = ring_of(range(5))
    assert (
        "".join(owner(ring, key).url[len("http://10.0.0.")] for key in KEYS[:12]) == "041031340310"
    )


def test_the_order_in_which_members_became_known_does_not_matter() -> None:
    one, other = ring_of(range(8)), ring_of([])
    for number in (5, 2, 7):
        other.set_members(members(range(number, 8)))
    other.set_members(members([*reversed(range(8))]))
    assert [owner(one, key) for key in KEYS] == [owner(other, key) for key in KEYS]


@given(before=numbers, after=numbers)
@examples(max_examples=50)
def test_a_change_moves_no_key_but_those_of_the_members_that_changed(
    before: set[int], after: set[int]
) -> None:
    ring = ring_of(before)
    places = {key: owner(ring, key) for key in KEYS[:300]}
    ring.set_members(members(after))
    gone, new = members(before - after), members(after - before)
    for key, place in places.items():
        now = owner(ring, key)
        assert now not in gone
        assert now == place or place in gone or now in new


def test_one_that_comes_takes_its_share_and_no_more() -> None:
    ring = ring_of(range(9))
    places = [owner(ring, key) for key in KEYS]
    ring.set_members(members(range(10)))
    moved = sum(owner(ring, key) != place for key, place in zip(KEYS, places, strict=True))
    assert 0.05 < moved / len(KEYS) < 0.15


@given(there=numbers, key=st.integers(0, 2**64 - 1), most=st.integers(1, 10))
@examples(max_examples=100)
def test_a_walk_meets_each_member_once(there: set[int], key: int, most: int) -> None:
    met = list(ring_of(there).walk(key, most))
    assert len(met) == len(set(met)) == min(most, len(there))


def test_an_empty_ring_has_nobody() -> None:
    assert list(ring_of([]).walk(KEYS[0], 3)) == []


def test_shares_are_even_within_what_the_number_of_points_promises() -> None:
    size = 100
    ring: Ring[Member] = Ring()
    ring.set_members([Member(f"http://10.0.{number}.1:8000") for number in range(size)])
    keys = (hashed(b"%d" % number) for number in range(50_000))
    shares = Counter(owner(ring, key) for key in keys)
    assert len(shares) == size
    deviation = statistics.pstdev(shares.values()) / statistics.fmean(shares.values())
    assert deviation < 1.3 / POINTS**0.5
    assert max(shares.values()) < 1.5 * statistics.fmean(shares.values())
