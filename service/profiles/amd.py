"""Profiles for AMD Instinct cards. Sources: the vLLM recipes and InferenceX."""

from typing import Final

from service.models.known import GPT_OSS_20B, GPT_OSS_120B
from service.profiles.profile import Profile, Settings, Vendor

_MI300X = Settings(
    131_072,
    256,
    8192,
    gpu_memory_utilization=0.95,
    moe_backend="aiter_triton_mxfp4_bf16",
    attention_backend="ROCM_AITER_UNIFIED_ATTN",
    block_size=64,
    overhead_gib=5.0,
    extra={
        "compilation-config": {
            "pass_config": {"fuse_rope_kvcache": True},
            "use_inductor_graph_partition": True,
        }
    },
    env={
        "VLLM_ROCM_USE_AITER": "1",
        "AMDGCN_USE_BUFFER_OPS": "0",
        "HSA_NO_SCRATCH_RECLAIM": "1",
    },
    why={
        "gpu_memory_utilization": "published recipe; nothing else runs on these cards",
        "moe_backend": "Triton without AITER is half as fast; named so that a missing AITER fails",
        "attention_backend": "ROCM_ATTN has no attention sinks, which gpt-oss needs",
        "block_size": "the size that the unified attention kernel prefers",
        "overhead_gib": "one card carries the logits of a whole vocabulary",
        "compilation-config": "published recipe: fuses RoPE with the KV-cache write",
        "VLLM_ROCM_USE_AITER": "turns the AITER kernels on; off by default",
        "AMDGCN_USE_BUFFER_OPS": "published recipe: works around slow code of the compiler",
        "HSA_NO_SCRATCH_RECLAIM": "needed with MEC firmware before 177, harmless after",
    },
)

MI300X = Profile(
    name="mi300x",
    vendor=Vendor.AMD,
    cards="one MI300X or MI325X",
    products=("74a1", "74a5"),
    arch="gfx942",
    memory_gib=191.0,
    models={GPT_OSS_120B.name: _MI300X, GPT_OSS_20B.name: _MI300X},
    note="Needs a ROCm build of vLLM with AITER.",
)

AMD_PROFILES: Final = (MI300X,)
