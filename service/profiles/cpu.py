"""Profiles without a GPU: development and tests, and a Xeon with AMX.

cpu-dev was tuned on two cores (AVX-512, no AMX): with one engine process, 0.25 GiB of KV cache
and no compilation a start takes 47 CPU seconds and 2.6 GiB, instead of 60 and 3.9.
"""

from typing import Final

from service.models.known import GPT_OSS_20B, GPT_OSS_TINY
from service.profiles.profile import Profile, Settings, Vendor

CPU_DEV = Profile(
    name="cpu-dev",
    vendor=Vendor.CPU,
    cards="any x86 CPU with AVX2",
    memory_gib=4.0,
    measured="it starts and answers on two cores with AVX-512 and without AMX; speed is no aim",
    models={
        GPT_OSS_TINY.name: Settings(
            16_384,
            32,
            2048,
            block_size=32,
            kv_cache_gib=0.25,
            extra={
                "dtype": "bfloat16",
                "enforce-eager": True,
                "tool-strict-level": "parameter",
            },
            env={
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            },
            why={
                "max_model_len": "enough for tests; a longer prompt takes minutes on a CPU",
                "block_size": "prefix-cache hits show on short prompts; 128 is the default here",
                "kv_cache_gib": "a million tokens, twice what all seats can use; vLLM writes zeros "
                "over it at start, 4 s for 1 GiB, and by default takes nearly all memory",
                "tool-strict-level": "the tiny model knows that it should call a tool; the tool's "
                "name and the form of its arguments are the grammar's to put in",
                "enforce-eager": "no compilation, and with a fixed KV cache no warm-up either",
                "VLLM_CPU_OMP_THREADS_BIND": "binding would put every engine on the same cores",
                "OMP_NUM_THREADS": "the matrices are too small to share; idle threads would spin",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "the worker lives in the engine's process: one "
                "process fewer to start (7 CPU seconds, 0.5 GiB); the server stays apart",
            },
        )
    },
)

CPU_AMX = Profile(
    name="cpu-amx",
    vendor=Vendor.CPU,
    cards="Xeon with AMX (Sapphire Rapids or later)",
    memory_gib=32.0,
    models={
        GPT_OSS_20B.name: Settings(
            8192,
            8,
            2048,
            block_size=128,
            overhead_gib=6.0,
            kv_cache_gib=8,
            extra={"dtype": "bfloat16"},
            why={
                "max_model_len": "prefill runs at CPU speed",
                "max_num_seqs": "decoding is bound by memory bandwidth",
                "block_size": "vLLM's default on a CPU, written out",
                "overhead_gib": "the weights of one layer are held twice while they are repacked",
                "kv_cache_gib": "vLLM would take nearly all of the machine's memory",
            },
        )
    },
    note="MXFP4 on a CPU needs AMX; without it vLLM says 'No MXFP4 MoE backend'.",
)

CPU_PROFILES: Final = (CPU_DEV, CPU_AMX)
