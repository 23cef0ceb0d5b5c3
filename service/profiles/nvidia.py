"""Profiles for NVIDIA cards that can hold gpt-oss-120b, alone or in pairs.

Memory is torch's reading: from logs for A100, H100 and B200, typical readings for the others.
Names are as `nvidia-smi` prints them. Sources: the vLLM recipes, InferenceX, vLLM 0.32.0's source.
"""

from dataclasses import replace
from typing import Final

from service.models.known import GPT_OSS_20B, GPT_OSS_120B
from service.profiles.profile import Profile, Settings, Vendor

LARGE: Final = GPT_OSS_120B.name
SMALL: Final = GPT_OSS_20B.name

MARLIN_AMPERE = "the one MXFP4 kernel for this generation; named so that the plan's padding holds"
_MARLIN_HOPPER = (
    "Triton, vLLM's choice, was 35 % slower at batch 1 and 21 % at 16 (issue #27523); it may win "
    "at high concurrency: compare on your cards"
)
MARLIN_CONSUMER = "vLLM itself demotes Triton here: 10 % slower prefill"
_ONE_CARD_OVERHEAD = "the logits of a whole vocabulary stay on one card: 4 to 8 GiB were measured"
_TIGHT = {
    "gpu_memory_utilization": "weights take 4/5 of the card: what is left must go to the KV cache",
    "max_model_len": "a whole context needs more KV cache than is left",
    "max_num_seqs": "more would only preempt each other",
    "max_num_batched_tokens": "activations grow with it",
    "max_cudagraph_capture_size": "graphs past the batch size cost memory and are never replayed",
}

_LARGE_TP2 = Settings(131_072, 256, 8192, moe_backend="marlin")
_SMALL = Settings(131_072, 256, 8192, moe_backend="marlin")


A100_80G_X1 = Profile(
    name="a100-80g-x1",
    vendor=Vendor.NVIDIA,
    cards="one A100 80 GB",
    products=(
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100 80GB PCIe",
        "NVIDIA A800-SXM4-80GB",
        "NVIDIA A800 80GB PCIe",
    ),
    pattern=r"\bA[18]00\b.*80GB",
    arch="8.0",
    memory_gib=79.25,
    note="gpt-oss-120b is tight on one card: prefer two (a100-80g).",
    models={
        LARGE: Settings(
            32_768,
            48,
            2048,
            gpu_memory_utilization=0.95,
            moe_backend="marlin",
            max_cudagraph_capture_size=48,
            overhead_gib=6.0,
            tight=True,
            why={**_TIGHT, "moe_backend": MARLIN_AMPERE, "overhead_gib": _ONE_CARD_OVERHEAD},
        ),
        SMALL: replace(_SMALL, why={"moe_backend": MARLIN_AMPERE}),
    },
)

A100_80G = replace(
    A100_80G_X1,
    name="a100-80g",
    cards="two A100 80 GB",
    gpus=2,
    note="",
    models={
        LARGE: replace(
            _LARGE_TP2,
            max_num_batched_tokens=4096,
            why={
                "moe_backend": MARLIN_AMPERE,
                "max_num_batched_tokens": "longer chunks hold up decoding on this generation",
            },
        ),
        SMALL: replace(_SMALL, why={"moe_backend": MARLIN_AMPERE}),
    },
)

H100_80G_X1 = Profile(
    name="h100-80g-x1",
    vendor=Vendor.NVIDIA,
    cards="one H100 80 GB",
    products=("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H800", "NVIDIA H800 PCIe"),
    pattern=r"\bH[18]00\b(?!.*NVL)",
    arch="9.0",
    memory_gib=79.2,
    note="gpt-oss-120b is tight on one card: prefer two (h100-80g).",
    models={
        LARGE: Settings(
            32_768,
            64,
            2048,
            gpu_memory_utilization=0.95,
            moe_backend="triton",
            max_cudagraph_capture_size=64,
            overhead_gib=8.0,
            tight=True,
            why={
                **_TIGHT,
                "moe_backend": "1.4 GiB smaller than Marlin, which is the KV cache here",
                "overhead_gib": "7.4 GiB were measured (issue #23278)",
            },
        ),
        SMALL: replace(_SMALL, why={"moe_backend": _MARLIN_HOPPER}),
    },
)

H100_80G = replace(
    H100_80G_X1,
    name="h100-80g",
    cards="two H100 80 GB",
    gpus=2,
    note="",
    models={
        LARGE: replace(_LARGE_TP2, why={"moe_backend": _MARLIN_HOPPER}),
        SMALL: replace(_SMALL, why={"moe_backend": _MARLIN_HOPPER}),
    },
)

H100_NVL = Profile(
    name="h100-nvl",
    vendor=Vendor.NVIDIA,
    cards="one H100 NVL 94 GB",
    products=("NVIDIA H100 NVL",),
    pattern=r"\bH100 NVL\b",
    arch="9.0",
    memory_gib=93.1,
    models={
        LARGE: Settings(
            131_072,
            128,
            4096,
            moe_backend="marlin",
            overhead_gib=5.0,
            why={"moe_backend": _MARLIN_HOPPER, "overhead_gib": _ONE_CARD_OVERHEAD},
        ),
        SMALL: replace(_SMALL, why={"moe_backend": _MARLIN_HOPPER}),
    },
)

H200 = Profile(
    name="h200",
    vendor=Vendor.NVIDIA,
    cards="one H200",
    products=("NVIDIA H200", "NVIDIA H200 NVL"),
    pattern=r"\bH200\b",
    arch="9.0",
    memory_gib=139.8,
    models={
        LARGE: Settings(
            131_072,
            256,
            8192,
            moe_backend="marlin",
            overhead_gib=6.0,
            why={"moe_backend": _MARLIN_HOPPER, "overhead_gib": _ONE_CARD_OVERHEAD},
        ),
        SMALL: replace(
            _SMALL,
            max_num_seqs=512,
            overhead_gib=4.0,
            why={"moe_backend": _MARLIN_HOPPER, "overhead_gib": "larger batches"},
        ),
    },
)

_BLACKWELL = Settings(
    131_072,
    512,
    8192,
    kv_cache_dtype="fp8",
    moe_backend="flashinfer_trtllm",
    max_cudagraph_capture_size=2048,
    overhead_gib=6.0,
    extra={"quantization-config": {"moe": {"activation": "mxfp8"}}},
    why={
        "kv_cache_dtype": "halves the cache; published recipe for Blackwell",
        "moe_backend": "the kernel of the published results; it must fail, not fall back",
        "max_cudagraph_capture_size": "mixed batches of prefill and decode stay in a graph",
        "overhead_gib": "large batches on one card",
        "quantization-config": "MXFP8 activations use the tensor cores' native format; replaces "
        "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8, which no longer exists",
    },
)

B200 = Profile(
    name="b200",
    vendor=Vendor.NVIDIA,
    cards="one B200",
    products=("NVIDIA B200", "NVIDIA GB200"),
    pattern=r"\bG?B200\b",
    arch="10.0",
    memory_gib=178.35,
    note="FlashInfer's kernels must be in the image: without them or a network vLLM falls back.",
    models={LARGE: _BLACKWELL, SMALL: _BLACKWELL},
)

RTX_PRO_6000 = Profile(
    name="rtx-pro-6000",
    vendor=Vendor.NVIDIA,
    cards="one RTX PRO 6000 Blackwell 96 GB",
    products=(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    ),
    pattern=r"\bRTX PRO 6000 Blackwell\b",
    arch="12.0",
    memory_gib=95.0,
    models={
        LARGE: Settings(
            131_072,
            64,
            4096,
            moe_backend="marlin",
            overhead_gib=5.0,
            why={"moe_backend": MARLIN_CONSUMER, "overhead_gib": _ONE_CARD_OVERHEAD},
        ),
        SMALL: replace(_SMALL, why={"moe_backend": MARLIN_CONSUMER}),
    },
)

LARGE_CARDS: Final = (
    A100_80G,
    A100_80G_X1,
    H100_80G,
    H100_80G_X1,
    H100_NVL,
    H200,
    B200,
    RTX_PRO_6000,
)
