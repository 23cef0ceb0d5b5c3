"""Metrics of gpt-oss gateways and of vLLM that a report shows unless a scenario names its own."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Known(NamedTuple):
    """What is shown of one."""

    title: str
    labels: tuple[str, ...] = ()
    """By these it is told apart; over all others it is added up."""
    highest: bool = False
    """Of a gauge: the highest is taken instead of the sum, as of a share."""


_GATEWAY: Final = {
    "requests_total": Known("Gateway: requests answered", ("outcome",)),
    "requests_in_flight": Known("Gateway: requests in flight"),
    "tokens_total": Known("Gateway: tokens charged", ("kind",)),
    "time_to_first_token_seconds": Known("Gateway: time to first token"),
    "time_per_output_token_seconds": Known("Gateway: time per output token"),
    "added_seconds": Known("Gateway: what it took itself"),
    "queue_waiting": Known("Gateway: requests in line", ("pool",)),
    "queue_seconds": Known("Gateway: wait in line"),
    "queue_refused_total": Known("Gateway: no place in line", ("reason",)),
    "quota_admitted_total": Known("Gateway: requests let in", ("team",)),
    "quota_refused_total": Known("Gateway: refused by a limit", ("team", "limit")),
    "quota_store_seconds": Known("Gateway: wait for the quota store"),
    "replicas": Known("Gateway: replicas by state", ("pool", "state")),
    "retries_total": Known("Gateway: retries", ("fault",)),
    "streams_total": Known("Gateway: how streams ended", ("end",)),
    "loop_lag_seconds": Known("Gateway: event loop lag"),
}
_VLLM: Final = {
    "num_requests_running": Known("Engine: requests running"),
    "num_requests_waiting": Known("Engine: requests waiting"),
    "kv_cache_usage_perc": Known("Engine: KV cache in use (1 is all)", highest=True),
    "prompt_tokens_total": Known("Engine: prompt tokens"),
    "generation_tokens_total": Known("Engine: tokens generated"),
    "prefix_cache_queries_total": Known("Engine: prompt tokens looked up in the prefix cache"),
    "prefix_cache_hits_total": Known("Engine: prompt tokens found in the prefix cache"),
    "num_preemptions_total": Known("Engine: preemptions"),
    "request_success_total": Known("Engine: requests ended", ("finished_reason",)),
    "admission_rejections_total": Known("Engine: requests refused", ("reason",)),
    "time_to_first_token_seconds": Known("Engine: time to first token"),
    "inter_token_latency_seconds": Known("Engine: between outputs"),
    "request_queue_time_seconds": Known("Engine: wait in its queue"),
}
_PROCESS: Final = {
    "process_cpu_seconds_total": Known("Processor time"),
    "process_resident_memory_bytes": Known("Memory, bytes"),
}

KNOWN: Final[Mapping[str, Known]] = MappingProxyType(
    {f"gptoss_gateway_{name}": known for name, known in _GATEWAY.items()}
    | {f"vllm:{name}": known for name, known in _VLLM.items()}
    | _PROCESS
)
"""By name."""
