"""An engine's pod asks for the cards that its profile is made for, and for no others."""

import re

import pytest

from service.profiles import PROFILES, Profile, Vendor
from service.profiles.placement import NODE_MEMORY, NODE_PRODUCT, label, place

ALL = list(PROFILES.values())
NVIDIA = [profile for profile in ALL if profile.vendor is Vendor.NVIDIA]
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_an_engine_asks_for_as_many_cards_as_its_tensor_parallel_size(profile: Profile) -> None:
    placement = place(profile)
    if profile.vendor is Vendor.CPU:
        assert (placement.resource, placement.cards, placement.nodes) == (None, 0, ())
    else:
        assert placement.resource == f"{profile.vendor.value}.com/gpu"
        assert placement.cards == profile.gpus
        assert placement.nodes


@pytest.mark.parametrize("profile", NVIDIA, ids=lambda profile: profile.name)
def test_a_card_that_a_node_label_names_is_one_that_the_profile_recognises(
    profile: Profile,
) -> None:
    for product in profile.products:
        assert re.search(profile.pattern, product), product
    assert bool(profile.products) != profile.generic, "generic profiles go by memory instead"


@pytest.mark.parametrize("profile", NVIDIA, ids=lambda profile: profile.name)
def test_no_node_label_names_a_card_that_another_kind_of_profile_is_made_for(
    profile: Profile,
) -> None:
    others = [one for one in NVIDIA if one.products and one.products != profile.products]
    for other in others:
        assert not set(other.products) & set(profile.products)


def test_labels_are_what_gpu_feature_discovery_writes() -> None:
    assert label("NVIDIA H100 80GB HBM3") == "NVIDIA-H100-80GB-HBM3"
    for profile in ALL:
        for term in place(profile).nodes:
            assert all(LABEL_VALUE.fullmatch(value) for value in term.values), profile.name


def test_a_generic_profile_takes_cards_by_memory() -> None:
    (term,) = [term for term in place(PROFILES["nvidia-80g"]).nodes if term.key == NODE_MEMORY]
    assert term.operator == "Gt"
    bound = int(term.values[0])
    assert bound < 81_559, "an H100 80 GB, as nvidia-smi reads it"
    assert bound > 46_068, "an L40S"
    assert all(term.key != NODE_PRODUCT for term in place(PROFILES["nvidia-80g"]).nodes)
