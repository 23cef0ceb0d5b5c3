"""Profiles are whole: every one fits, knows its card, and says why it is as it is."""

from dataclasses import fields

import pytest

from service.errors import UserError
from service.models import MODELS
from service.profiles import GPU, PROFILES, Profile, Settings, Vendor, find, plan
from service.profiles.common import COMMON, COMMON_ENV, COMMON_WHY

REQUIRED = {
    *("a100-80g", "a100-80g-x1", "h100-80g", "h100-80g-x1", "h100-nvl", "h200", "b200", "mi300x"),
    *("l40s", "l4", "a10g", "rtx4090", "rtx5090", "cpu-dev", "cpu-amx"),
    *("nvidia-24g", "nvidia-48g", "nvidia-80g"),
}

# Card names as nvidia-smi and amd-smi print them, their total memory in MiB, and their profiles.
CARDS = {
    ("NVIDIA A100-SXM4-80GB", 81_920, "8.0"): {"a100-80g", "a100-80g-x1"},
    ("NVIDIA A100 80GB PCIe", 81_920, "8.0"): {"a100-80g", "a100-80g-x1"},
    ("NVIDIA A800-SXM4-80GB", 81_920, "8.0"): {"a100-80g", "a100-80g-x1"},
    ("NVIDIA A100-SXM4-40GB", 40_960, "8.0"): set(),
    ("NVIDIA H100 80GB HBM3", 81_559, "9.0"): {"h100-80g", "h100-80g-x1"},
    ("NVIDIA H100 PCIe", 81_559, "9.0"): {"h100-80g", "h100-80g-x1"},
    ("NVIDIA H100 NVL", 95_830, "9.0"): {"h100-nvl"},
    ("NVIDIA H200", 143_771, "9.0"): {"h200"},
    ("NVIDIA H200 NVL", 143_771, "9.0"): {"h200"},
    ("NVIDIA GH200 480GB", 97_871, "9.0"): set(),
    ("NVIDIA B200", 183_359, "10.0"): {"b200"},
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97_887, "12.0"): {"rtx-pro-6000"},
    ("NVIDIA L40S", 46_068, "8.9"): {"l40s", "l40s-x4"},
    ("NVIDIA L40", 46_068, "8.9"): set(),
    ("NVIDIA L4", 23_034, "8.9"): {"l4"},
    ("NVIDIA A10G", 23_028, "8.6"): {"a10g"},
    ("NVIDIA A10", 23_028, "8.6"): {"a10g"},
    ("NVIDIA GeForce RTX 4090", 24_564, "8.9"): {"rtx4090"},
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, "8.9"): set(),
    ("NVIDIA GeForce RTX 5090", 32_607, "12.0"): {"rtx5090"},
    ("NVIDIA GeForce RTX 3090", 24_576, "8.6"): set(),
    ("Tesla V100-SXM2-32GB", 32_768, "7.0"): set(),
    ("AMD Instinct MI300X", 196_592, "gfx942"): {"mi300x"},
    ("AMD Instinct MI210", 65_520, "gfx90a"): set(),
}

DEFAULTS = {field.name: field.default for field in fields(Settings)}
EXPLAINED = (
    *("gpu_memory_utilization", "kv_cache_dtype", "moe_backend", "attention_backend"),
    *("block_size", "max_cudagraph_capture_size", "overhead_gib", "kv_cache_gib"),
)


def test_the_required_profiles_are_there() -> None:
    assert set(PROFILES) >= REQUIRED
    assert all(name == profile.name for name, profile in PROFILES.items())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_model_of_a_profile_fits(profile: Profile) -> None:
    assert profile.models
    for name in profile.models:
        assert plan(MODELS[name], profile).fits


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card[0])
def test_cards_are_recognised_by_the_name_their_tool_prints(card: tuple[str, int, str]) -> None:
    name, mib, arch = card
    vendor = Vendor.AMD if arch.startswith("gfx") else Vendor.NVIDIA
    gpu = GPU(vendor, name, mib / 1024, arch)
    made_for = {
        profile.name
        for profile in PROFILES.values()
        if profile.recognises(gpu) and not profile.generic
    }
    assert made_for == CARDS[card]


def test_generic_profiles_take_unknown_cards_by_memory_and_capability() -> None:
    ada = GPU(Vendor.NVIDIA, "NVIDIA RTX 6000 Ada Generation", 48.0, "8.9")
    old = GPU(Vendor.NVIDIA, "Quadro RTX 8000", 48.0, "7.5")
    generic = {"nvidia-16g", "nvidia-24g", "nvidia-48g"}
    assert {p.name for p in PROFILES.values() if p.recognises(ada)} == generic
    assert not [p.name for p in PROFILES.values() if p.recognises(old)]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_unusual_value_has_its_reason(profile: Profile) -> None:
    for name, settings in profile.models.items():
        unusual = {key for key in EXPLAINED if getattr(settings, key) != DEFAULTS[key]}
        if settings.max_model_len < MODELS[name].context:
            unusual.add("max_model_len")
        unusual |= {*settings.extra, *settings.env} - {"dtype"}
        assert unusual <= set(settings.why), f"{profile.name}/{name} does not explain its values"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_reason_is_about_a_value_that_is_set(profile: Profile) -> None:
    for settings in profile.models.values():
        about = {*DEFAULTS, *settings.extra, *settings.env}
        assert set(settings.why) <= about
        assert all(settings.why.values())


def test_common_reasons_are_about_common_values() -> None:
    assert set(COMMON_WHY) <= {*COMMON, *COMMON_ENV, "max-num-queued-reqs"}


def test_fp8_kv_cache_only_where_the_kernels_have_it() -> None:
    for profile in PROFILES.values():
        for settings in profile.models.values():
            if settings.kv_cache_dtype == "fp8" and profile.vendor is Vendor.NVIDIA:
                assert tuple(map(int, profile.arch.split("."))) >= (8, 9)


def test_dead_variables_are_not_used() -> None:
    dead = ("MXFP4", "VLLM_ATTENTION_BACKEND", "VLLM_USE_V1", "TRTLLM", "FLASHINFER_MOE", "ALL2ALL")
    for profile in PROFILES.values():
        for settings in profile.models.values():
            assert not [name for name in settings.env if any(word in name for word in dead)]


def test_the_large_model_is_offered_from_80_gb_and_the_small_one_on_large_cards_too() -> None:
    for profile in PROFILES.values():
        total = profile.memory_gib * profile.gpus
        assert ("gpt-oss-120b" in profile.models) == (total >= 79)
        if profile.memory_gib >= 79:
            assert "gpt-oss-20b" in profile.models


def test_find_lists_the_profiles_there_are() -> None:
    assert find(" H200 ") is PROFILES["h200"]
    with pytest.raises(UserError) as error:
        find("h300")
    assert all(name in str(error.value) for name in PROFILES)
    assert "\n" not in str(error.value)
