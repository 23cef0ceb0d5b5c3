"""No node gets more than it has, engines are spread, and what lacks is said in one sentence."""

import time
from collections import Counter
from itertools import product
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fleet.document import Pool
from service.fleet.room import Ask, Node, choose, placed, shortage
from service.models.model import GIB
from service.profiles import PROFILES, Vendor
from service.profiles.placement import place

CARD: Final = Ask(1, 5, 16 * GIB)


def node(
    name: str,
    cards: int = 8,
    cores: float = 64,
    gib: float = 512,
    *,
    free: float | None = None,
    kind: str = "",
    **labels: str,
) -> Node:
    """A node that is empty, but for cards of which so many are free."""
    return Node(
        id=f"id-{name}",
        name=name,
        address="127.0.0.1",
        cards=cards,
        free_cards=cards if free is None else free,
        free_cores=cores,
        free_memory=gib * GIB,
        accelerators=frozenset([kind] if kind else []),
        labels=tuple(sorted(labels.items())),
    )


def ask(profile: str, **selector: str) -> Ask:
    return Ask.of(Pool(profile=profile, node_selector=selector))


KINDS: Final = ("", "H100", "L40S")
nodes = st.lists(
    st.builds(
        node,
        name=st.just("n"),
        cards=st.integers(0, 8),
        cores=st.integers(0, 40),
        gib=st.integers(0, 96),
        kind=st.sampled_from(KINDS),
        rack=st.sampled_from("ab"),
    ),
    max_size=6,
).map(lambda found: [_called(one, number) for number, one in enumerate(found)])
asks = st.builds(
    Ask,
    cards=st.integers(0, 4),
    cores=st.integers(1, 8),
    memory=st.integers(1, 24).map(lambda gib: gib * GIB),
    products=st.sampled_from([(), ("NVIDIA-H100-PCIe",), ("NVIDIA-L40S",)]),
    labels=st.sampled_from([(), (("rack", "a"),)]),
)


def _called(one: Node, number: int) -> Node:
    return Node(
        f"id-{number}",
        f"node-{number}",
        f"127.0.0.{number + 1}",
        one.cards,
        one.free_cards,
        one.free_cores,
        one.free_memory,
        one.accelerators,
        one.labels,
    )


def capacity(one: Node, asked: Ask) -> int:
    """How many such engines a node has room for."""
    if not one.may_run(asked):
        return 0
    each = [one.free_cores // asked.cores, one.free_memory // asked.memory]
    return int(min([*each, *([one.free_cards // asked.cards] if asked.cards else [])]))


# Room


@settings(max_examples=300)
@given(nodes, st.lists(st.tuples(asks, st.integers(0, 12)), max_size=4))
def test_no_node_gets_more_than_it_has(there: list[Node], wanted: list[tuple[Ask, int]]) -> None:
    free = {one.id: one for one in there}
    for asked, number in wanted:
        chosen = placed(list(free.values()), asked, number)
        assert len(chosen) <= number
        for one in chosen:
            assert free[one.id].may_run(asked)
            free[one.id] = free[one.id].less(asked)
    for one in free.values():
        assert min(one.free_cards, one.free_cores, one.free_memory) >= 0


@settings(max_examples=300)
@given(nodes, asks, st.integers(0, 30))
def test_as_many_are_placed_as_there_is_room_for(
    there: list[Node], asked: Ask, number: int
) -> None:
    room = sum(capacity(one, asked) for one in there)
    assert len(placed(there, asked, number)) == min(number, room)
    assert bool(shortage(there, {"main": (asked, number)})) == (number > room)


@given(st.integers(1, 8), st.integers(0, 40))
def test_where_all_have_room_no_node_has_two_more_than_another(count: int, number: int) -> None:
    there = [node(f"n{index}", cards=40, cores=400, gib=4000) for index in range(count)]
    on = Counter({one.id: 0 for one in there})
    on.update(one.id for one in placed(there, CARD, number))
    assert sum(on.values()) == number
    assert max(on.values()) - min(on.values()) <= 1


@given(
    nodes, asks, st.integers(1, 12), st.dictionaries(st.sampled_from("012345"), st.integers(0, 3))
)
def test_an_engine_goes_where_its_pool_has_fewest(
    there: list[Node], asked: Ask, number: int, running: dict[str, int]
) -> None:
    on = Counter({f"id-{name}": count for name, count in running.items()})
    free = {one.id: one for one in there}
    for chosen in placed(there, asked, number, on):
        able = [one.id for one in free.values() if one.has_room(asked)]
        assert chosen.id in able
        assert on[chosen.id] == min(on[name] for name in able)
        on[chosen.id] += 1
        free[chosen.id] = free[chosen.id].less(asked)


def test_small_pools_share_a_node_and_leave_a_whole_one() -> None:
    free = {one.id: one for one in (node("a"), node("b"), node("c"))}
    for _ in range(6):  # pools of one engine each
        (chosen,) = placed(list(free.values()), CARD, 1)
        free[chosen.id] = free[chosen.id].less(CARD)
    assert sorted(one.free_cards for one in free.values()) == [2, 8, 8]
    assert not shortage(list(free.values()), {"large": (Ask(8, 19, 72 * GIB), 2)})


def test_an_engine_without_cards_leaves_those_with_cards_alone() -> None:
    cpu = ask("cpu-dev")
    assert choose([node("a"), node("b", cards=0)], cpu, {}) == node("b", cards=0)


def test_the_largest_is_placed_first() -> None:
    """What takes little finds room between; the other way round it would not fit."""
    there = [node("a", cards=4), node("b", cards=2)]
    pools = {"a-small": (CARD, 2), "large": (ask("l40s-x4"), 1)}
    assert not shortage(there, pools)


@settings(max_examples=200)
@given(nodes.filter(lambda there: len(there) <= 3), st.lists(asks, min_size=1, max_size=4))
def test_what_nobody_could_place_is_refused(there: list[Node], wanted: list[Ask]) -> None:
    """Every way there is, against the one that is tried."""
    pools = {f"pool-{number}": (asked, 1) for number, asked in enumerate(wanted)}
    if not shortage(there, pools):
        assert any(_fits(way, wanted) for way in product(there, repeat=len(wanted)))


def _fits(way: tuple[Node, ...], wanted: list[Ask]) -> bool:
    free: dict[str, Node] = {}
    for one, asked in zip(way, wanted, strict=True):
        now = free.get(one.id, one)
        if not now.has_room(asked):
            return False
        free[one.id] = now.less(asked)
    return True


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_pool_that_takes_any_node_leaves_the_others_to_a_choosy_one(
    names: tuple[str, str],
) -> None:
    """By a label, or by a card: there is room for both."""
    anywhere, choosy = names
    by_label = [node("1", cards=1, rack="a"), node("2", cards=1, rack="b")]
    for rack in "ab":
        pools = {anywhere: (CARD, 1), choosy: (Ask(1, 5, GIB, labels=(("rack", rack),)), 1)}
        assert not shortage(by_label, pools)
    by_card = [node("1", cards=1, kind="L40S"), node("2", cards=1, kind="L4")]
    for profile in ("l40s", "l4"):
        assert not shortage(by_card, {anywhere: (ask("nvidia-16g"), 1), choosy: (ask(profile), 1)})


# What lacks


def test_what_lacks_names_the_pool_the_number_the_room_and_the_nodes() -> None:
    there = [node("alpha", kind="H100", free=3), node("beta", kind="H100", free=1)]
    said = shortage(there, {"main": (ask("h100-80g"), 3)})
    assert said == (
        "pool main: 3 engines of 2 GPUs (two H100 80 GB), 7 CPUs and 24 GiB asked for, and there"
        " is room for 1: alpha (3 of 8 GPUs H100, 64 CPUs, 512 GiB free), beta (1 of 8 GPUs H100,"
        " 64 CPUs, 512 GiB free); add nodes, ask for fewer, or end what takes them"
    )


def test_nodes_that_another_pool_has_filled_are_told_as_they_would_be() -> None:
    pools = {"first": (ask("l40s-x4"), 1), "second": (ask("l40s"), 1)}
    said = shortage([node("alpha", cards=4, kind="L40S")], pools)
    assert said.startswith("pool second: 1 engine of 1 GPU (one L40S)")
    assert "there is room for 0: alpha (0 of 4 GPUs L40S, 53 CPUs" in said


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        ([node("alpha", cards=0)], ask("l4"), ["no node is made for one", "alpha (no GPU, 64"]),
        ([node("alpha", kind="A100")], ask("l4"), ["no node is made", "8 of 8 GPUs A100"]),
        ([node("alpha", cards=1)], ask("h100-80g"), ["no node is made", "1 of 1 GPUs"]),
        (
            [node("alpha", rack="a")],
            ask("l4", rack="b", zone="x"),
            ["no node with rack=b, zone=x is made for one"],
        ),
        ([], ask("cpu-dev"), ["no node is made for one", "the cluster has no node"]),
    ],
)
def test_no_node_of_that_kind_is_said(there: list[Node], asked: Ask, words: list[str]) -> None:
    said = shortage(there, {"main": (asked, 1)})
    assert "\n" not in said
    assert said.startswith("pool main: 1 engine of ")
    assert all(word in said for word in words), said


def test_a_large_cluster_is_no_long_sentence() -> None:
    there = [node(f"n{number}", free=0, kind="L4") for number in range(100)]
    said = shortage(there, {"main": (ask("l4"), 1)})
    assert said.count("GPUs L4") == 8
    assert "and 92 more" in said


@given(nodes)
def test_nothing_lacks_where_nothing_is_asked_for(there: list[Node]) -> None:
    assert shortage(there, {}) == ""
    assert shortage(there, {"main": (CARD, 0)}) == ""


# Which nodes


def takers(accelerator: str) -> set[str]:
    """The profiles whose engines may go to cards that Ray calls so."""
    there = [node("a", kind=accelerator)]
    return {name for name in PROFILES if ask(name).products and placed(there, ask(name), 1)}


@pytest.mark.parametrize(
    ("accelerator", "profiles"),
    [
        ("H100", {"h100-80g", "h100-80g-x1", "h100-nvl"}),
        ("H200", {"h200"}),
        ("B200", {"b200"}),
        ("GB200", {"b200"}),
        ("A100", {"a100-80g", "a100-80g-x1"}),
        ("A10G", {"a10g"}),
        ("A10", {"a10g"}),
        ("L4", {"l4"}),
        ("L40S", {"l40s", "l40s-x4"}),
        ("L40", set()),
        ("GeForce-RTX-4090", {"rtx4090"}),
        ("GeForce-RTX-5090", {"rtx5090"}),
        ("RTX-PRO-6000", {"rtx-pro-6000"}),
        ("T4", set()),
        ("V100", set()),
    ],
)
def test_an_engine_goes_to_the_cards_of_its_profile(accelerator: str, profiles: set[str]) -> None:
    assert takers(accelerator) == profiles


def test_every_card_of_every_profile_is_known_by_the_name_that_ray_gives_it() -> None:
    nvidia = pytest.importorskip("ray._private.accelerators.nvidia_gpu")
    named = nvidia.NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type
    for profile in PROFILES.values():
        if profile.vendor is Vendor.NVIDIA:
            for product_ in profile.products:
                assert ask(profile.name).takes(named(product_)), product_


@pytest.mark.parametrize("profile", ["nvidia-16g", "nvidia-80g-x2", "mi300x"])
def test_cards_that_are_told_by_no_name_may_be_any(profile: str) -> None:
    """The node's own look at them says more."""
    assert placed([node("a", kind="H100")], ask(profile), 1)


def test_a_node_whose_cards_have_no_name_may_have_the_right_ones() -> None:
    assert placed([node("a")], ask("h100-80g"), 1)


def test_an_engine_without_cards_does_not_care_for_cards() -> None:
    assert placed([node("a", kind="T4"), node("b", cards=0)], ask("cpu-dev"), 2)


def test_every_label_must_be_the_nodes() -> None:
    there = [node("a", rack="a"), node("b", rack="b", zone="x"), node("c", rack="b", zone="y")]
    assert placed(there, ask("l4", rack="b", zone="x"), 1) == [there[1]]
    assert {one.name for one in placed(there, ask("l4", rack="b"), 2)} == {"b", "c"}


@pytest.mark.parametrize("name", PROFILES)
def test_an_engine_takes_what_its_pod_would(name: str) -> None:
    asked, pod = ask(name), place(PROFILES[name])
    assert (asked.cards, asked.cores, asked.memory) == (pod.cards, pod.cores, pod.memory_gib * GIB)
    bundle = {"CPU": float(pod.cores), "memory": float(asked.memory)}
    assert asked.bundle == (bundle | {"GPU": float(pod.cards)} if pod.cards else bundle)


def test_a_hundred_nodes_of_eight_cards_are_filled_at_once() -> None:
    there = [node(f"n{number:03}", kind="H100") for number in range(100)]
    began = time.process_time()
    chosen = placed(there, ask("h100-80g-x1"), 800)
    took = time.process_time() - began
    assert set(Counter(one.id for one in chosen).values()) == {8}
    assert took < 1, "of the processor, s"
    assert "is room for 800" in shortage(there, {"main": (ask("h100-80g-x1"), 801)})
