"""vLLM settings that every profile shares, each with its reason."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from service.buckets import TOKEN_BUCKETS, TTFT_BUCKETS

COMMON: Final[Mapping[str, object]] = MappingProxyType(
    {
        "enable-auto-tool-choice": True,
        "tool-call-parser": "openai",
        "tool-strict-level": "function",
        "reasoning-parser": "openai_gptoss",
        "scheduling-policy": "priority",
        "enable-prompt-tokens-details": True,
        "enable-request-id-headers": True,
        "disable-fastapi-docs": True,
        "disable-access-log-for-endpoints": "/health,/metrics",
        "fingerprint-mode": "none",
        "sse-keep-alive-interval": 10,
        "logging-config": {"formatter": "json"},
        "custom-histogram-buckets": {
            "time_to_first_token": list(TTFT_BUCKETS),
            "inter_token_latency": list(TOKEN_BUCKETS),
        },
        "fail-on-environ-validation": True,
    }
)

QUEUE_FACTOR: Final = 4
"""`max-num-queued-reqs` is this times `max-num-seqs`."""

COMMON_ENV: Final[Mapping[str, str]] = MappingProxyType(
    {
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "VLLM_MAX_N_SEQUENCES": "8",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
)

OFFLINE_ENV: Final[Mapping[str, str]] = MappingProxyType({"HF_HUB_OFFLINE": "1"})
"""Weights are a local folder, so nothing needs the hub; `--online` leaves this out."""

COMMON_WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tool-call-parser": "HarmonyParser rejects every other name",
        "tool-strict-level": "a call names a tool that was offered, in a form that can be parsed; "
        "unconstrained gpt-oss now and then leaves Harmony's format (issue #22515)",
        "scheduling-policy": "the gateway ranks teams; with fcfs vLLM refuses a priority",
        "enable-prompt-tokens-details": "cached prompt tokens are billed apart",
        "disable-fastapi-docs": "the engine's port is internal: fewer open routes",
        "fingerprint-mode": "vLLM's own would tell tenants the version and the parallelism",
        "sse-keep-alive-interval": "a queued stream stays visibly alive to proxies and clients",
        "custom-histogram-buckets": "vLLM's begin at 10 ms a token, and gpt-oss is often faster; "
        "the bounds of objectives (2 s, 3 s, 15 ms, 80 ms) are not among them",
        "fail-on-environ-validation": "most published gpt-oss variables no longer exist and would "
        "otherwise be ignored without a word",
        "max-num-queued-reqs": "a bounded queue answers 503 early instead of timing out late",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "5 s, the default, closes connections under the gateway's "
        "pool, which then sees resets",
        "VLLM_MAX_N_SEQUENCES": "n=16384, the default limit, lets one request fill every seat",
    }
)

# Left out on purpose:
# - enable-force-include-usage: it would put a usage chunk into streams that did not ask for one;
#   the gateway asks, per request, and takes it out again.
# - reasoning-effort-map: vLLM 0.33 only.
