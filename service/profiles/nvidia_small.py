"""Profiles for smaller NVIDIA cards, and for those without a profile of their own."""

from dataclasses import replace
from typing import Final

from service.profiles.nvidia import A100_80G_X1, LARGE, MARLIN_AMPERE, MARLIN_CONSUMER, SMALL
from service.profiles.profile import Profile, Settings, Vendor

_SMALL_24G = Settings(65_536, 32, 2048, moe_backend="marlin", overhead_gib=2.0)

_WHY_24G = {
    "moe_backend": MARLIN_AMPERE,
    "max_model_len": "a whole context would leave room for one request",
    "overhead_gib": "small batches",
}

L40S = Profile(
    name="l40s",
    vendor=Vendor.NVIDIA,
    cards="one L40S",
    products=("NVIDIA L40S",),
    pattern=r"\bL40S\b",
    arch="8.9",
    memory_gib=44.4,
    models={
        SMALL: Settings(
            131_072,
            128,
            4096,
            0.92,
            moe_backend="marlin",
            overhead_gib=2.0,
            why={"moe_backend": MARLIN_AMPERE, "overhead_gib": "small batches"},
        )
    },
)

L40S_X4 = replace(
    L40S,
    name="l40s-x4",
    cards="four L40S",
    gpus=4,
    note="No NVLink: every layer's all-reduce goes over PCIe.",
    models={
        LARGE: Settings(
            131_072, 128, 4096, moe_backend="marlin", why={"moe_backend": MARLIN_AMPERE}
        )
    },
)

L4 = Profile(
    name="l4",
    vendor=Vendor.NVIDIA,
    cards="one L4",
    products=("NVIDIA L4",),
    pattern=r"\bL4\b",
    arch="8.9",
    memory_gib=22.0,
    models={SMALL: replace(_SMALL_24G, why=_WHY_24G)},
)

A10G = replace(
    L4,
    name="a10g",
    cards="one A10G or A10",
    products=("NVIDIA A10G", "NVIDIA A10"),
    pattern=r"\bA10G?\b",
    arch="8.6",
)

RTX4090 = replace(
    L4,
    name="rtx4090",
    cards="one GeForce RTX 4090",
    products=("NVIDIA GeForce RTX 4090",),
    pattern=r"\bRTX 4090\b(?! Laptop)",
    memory_gib=23.5,
    models={SMALL: replace(_SMALL_24G, max_num_seqs=48, why=_WHY_24G)},
)

RTX5090 = replace(
    L4,
    name="rtx5090",
    cards="one GeForce RTX 5090",
    products=("NVIDIA GeForce RTX 5090",),
    pattern=r"\bRTX 5090\b(?! Laptop)",
    arch="12.0",
    memory_gib=31.4,
    models={
        SMALL: replace(
            _SMALL_24G, max_num_seqs=96, why={**_WHY_24G, "moe_backend": MARLIN_CONSUMER}
        )
    },
)

_GENERIC_WHY = {
    "moe_backend": "runs on every card since compute capability 8.0",
    "gpu_memory_utilization": "below vLLM's 0.92: the card is unknown",
}

NVIDIA_24G = Profile(
    name="nvidia-24g",
    vendor=Vendor.NVIDIA,
    cards="any NVIDIA card from 22 GiB, compute capability 8.0 or later",
    arch="8.0",
    memory_gib=22.0,
    generic=True,
    models={
        SMALL: Settings(
            32_768,
            32,
            2048,
            gpu_memory_utilization=0.9,
            moe_backend="marlin",
            overhead_gib=2.5,
            why={
                **_GENERIC_WHY,
                "max_model_len": "a whole context would leave room for one request",
                "overhead_gib": "small batches",
            },
        )
    },
)

NVIDIA_16G = replace(
    NVIDIA_24G,
    name="nvidia-16g",
    cards="any NVIDIA card from 15.6 GiB, compute capability 8.0 or later",
    memory_gib=15.6,
    note="The least that holds gpt-oss-20b: a few users, short contexts, no other use of the card.",
    models={
        SMALL: Settings(
            8192,
            4,
            1024,
            gpu_memory_utilization=0.95,
            moe_backend="marlin",
            overhead_gib=0.9,
            tight=True,
            extra={"enforce-eager": True},
            why={
                **_GENERIC_WHY,
                "gpu_memory_utilization": "weights take 7/8 of the card: nothing else fits on it",
                "max_model_len": "the KV cache that is left holds about 10,000 tokens",
                "max_num_seqs": "more would only preempt each other",
                "max_num_batched_tokens": "activations grow with it",
                "overhead_gib": "CUDA's own 0.5 GiB, and activations of 1,024 tokens",
                "enforce-eager": "CUDA graphs would take memory that the KV cache needs",
            },
        )
    },
)

NVIDIA_48G = replace(
    NVIDIA_24G,
    name="nvidia-48g",
    cards="any NVIDIA card from 44 GiB, compute capability 8.0 or later",
    memory_gib=44.0,
    models={
        SMALL: Settings(
            131_072,
            64,
            4096,
            gpu_memory_utilization=0.9,
            moe_backend="marlin",
            why=_GENERIC_WHY,
        )
    },
)

NVIDIA_80G = replace(
    NVIDIA_24G,
    name="nvidia-80g",
    cards="any NVIDIA card from 79 GiB",
    memory_gib=79.0,
    note=A100_80G_X1.note.replace("a100-80g", "nvidia-80g-x2"),
    models={
        LARGE: replace(
            A100_80G_X1.models[LARGE],
            why={**A100_80G_X1.models[LARGE].why, "moe_backend": _GENERIC_WHY["moe_backend"]},
        ),
        SMALL: NVIDIA_48G.models[SMALL],
    },
)

NVIDIA_80G_X2 = replace(
    NVIDIA_80G,
    name="nvidia-80g-x2",
    cards="any two NVIDIA cards from 79 GiB",
    gpus=2,
    note="",
    models={
        LARGE: Settings(
            131_072,
            128,
            4096,
            gpu_memory_utilization=0.9,
            moe_backend="marlin",
            why=_GENERIC_WHY,
        ),
        SMALL: NVIDIA_48G.models[SMALL],
    },
)

SMALL_CARDS: Final = (L40S, L40S_X4, L4, A10G, RTX4090, RTX5090)
GENERIC_CARDS: Final = (NVIDIA_16G, NVIDIA_24G, NVIDIA_48G, NVIDIA_80G, NVIDIA_80G_X2)
