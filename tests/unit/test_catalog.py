"""A public name leads to a pool: by weight, for good, and around what does not work."""

import random

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.routing.catalog import Catalog, Entry
from service.routing.pool import Pool
from service.routing.ring import hashed
from service.settings import RoutingSettings

MODEL = "gpt-oss-120b"
KEYS = [hashed(b"conversation %d" % number) for number in range(10_000)]
WEIGHTS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.floats(0.1, 100), min_size=1, max_size=3
)


def pool(name: str, *, works: bool = True) -> Pool:
    made = Pool(name, MODEL, RoutingSettings(), lambda: 0.0, random.Random(1))
    made.set_members(["http://10.0.0.1:8000"] if works else [], lambda url: 8)
    return made


POOLS = {name: pool(name) for name in ("stable", "canary", "a", "b", "c")}


def places(weights: dict[str, float], pools: dict[str, Pool] | None = None) -> list[str]:
    """The pools of all keys."""
    catalog = Catalog({MODEL: Entry(weights)}, pools or POOLS)
    found = [catalog.pool(MODEL, key) for key in KEYS]
    return [pool.name for pool in found if pool is not None]


def test_a_canary_gets_its_share_of_conversations() -> None:
    share = places({"stable": 95, "canary": 5}).count("canary") / len(KEYS)
    assert share == pytest.approx(0.05, abs=0.007)


def test_weights_are_relative() -> None:
    assert places({"stable": 95, "canary": 5}) == places({"stable": 0.95, "canary": 0.05})


def test_a_conversation_stays_in_its_pool() -> None:
    assert places({"stable": 95, "canary": 5}) == places({"canary": 5, "stable": 95})


def test_a_larger_canary_takes_what_it_needs_and_gives_nothing_back() -> None:
    before, after = places({"stable": 95, "canary": 5}), places({"stable": 90, "canary": 10})
    moves = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert set(moves) == {("stable", "canary")}
    assert len(moves) / len(KEYS) == pytest.approx(0.05, abs=0.007)


@given(weights=WEIGHTS, key=st.integers(0, 2**64 - 1), factor=st.floats(1.1, 10))
@examples(max_examples=100)
def test_a_pool_that_grows_takes_from_others_and_no_others_swap(
    weights: dict[str, float], key: int, factor: float
) -> None:
    grown = min(weights)
    catalogs = [
        Catalog({MODEL: Entry(entry)}, POOLS)
        for entry in (weights, {**weights, grown: weights[grown] * factor})
    ]
    before, after = (catalog.pool(MODEL, key) for catalog in catalogs)
    assert after is before or after is POOLS[grown]


def test_the_place_in_a_pool_has_nothing_to_do_with_the_pool() -> None:
    # Else a canary's conversations would all lie on the same part of its ring.
    chosen = [
        key
        for key, name in zip(KEYS, places({"stable": 50, "canary": 50}), strict=True)
        if name == "canary"
    ]
    upper = sum(key >> 63 for key in chosen)
    assert upper / len(chosen) == pytest.approx(0.5, abs=0.03)


def test_a_pool_without_weight_gets_nothing_even_if_no_other_works() -> None:
    pools = {"stable": pool("stable", works=False), "canary": pool("canary")}
    assert set(places({"stable": 1, "canary": 0}, pools)) == {"stable"}


def test_others_take_the_place_of_a_pool_that_does_not_work_and_it_gets_its_own_back() -> None:
    weights = {"a": 1.0, "b": 1.0, "c": 1.0}
    pools = {name: pool(name, works=name != "b") for name in weights}
    before, without = places(weights), places(weights, pools)
    assert set(without) == {"a", "c"}
    for old, new in zip(before, without, strict=True):
        assert new == old or old == "b"
    pools["b"].set_members(["http://10.0.0.2:8000"], lambda url: 8)
    assert places(weights, pools) == before


def test_where_no_pool_works_it_is_still_known_which_one_should() -> None:
    weights = {"a": 1.0, "b": 1.0}
    assert places(weights, {name: pool(name, works=False) for name in weights}) == places(weights)


def test_a_pool_that_no_name_hides_is_asked_for_by_its_own() -> None:
    catalog = Catalog({MODEL: Entry({"stable": 1.0})}, {n: POOLS[n] for n in ("stable", "a")})
    assert sorted(catalog.models) == ["a", MODEL]
    assert catalog.pool("a", KEYS[0]) is POOLS["a"]
    assert catalog.pool("stable", KEYS[0]) is None


def test_a_name_has_the_fallback_that_was_set_for_it_and_no_other() -> None:
    catalog = Catalog({MODEL: Entry({"stable": 1.0}, fallback="a")}, POOLS)
    assert [catalog.fallback(name) for name in (MODEL, "a", "nothing")] == ["a", "", ""]
    assert catalog.described(MODEL) == {"pools": {"stable": 1.0}, "fallback": "a"}
    assert catalog.described("a") == {"pools": {"a": 1.0}, "fallback": None}
