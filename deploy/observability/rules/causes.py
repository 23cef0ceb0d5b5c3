"""What is not felt yet, or why something is: tickets for working hours.

Those of engines are here; those of gateways, teams and the machinery in `upkeep.py`.
"""

from typing import Final

from deploy.observability.rules.alert import Alert, Severity, lines

_ENGINE: Final = "namespace, pod, instance, model_name"

_PREEMPTIONS: Final = Alert(
    "PreemptionsSustained",
    Severity.TICKET,
    f"sum by ({_ENGINE}) (rate(vllm:num_preemptions_total[15m])) > 0.1",
    "15m",
    "{{ $labels.pod }} {{ $labels.instance }} preempts requests all the time",
    "{{ $value | humanize }} preemptions per second over 15 minutes (more than 0.1): its KV cache"
    " is too small for what is sent to it, and work is done twice. Look first at KV use and at the"
    " lengths of requests; then lower max-num-seqs or add a replica.",
    "gptoss-replicas",
)

_REJECTIONS: Final = Alert(
    "EngineQueueFull",
    Severity.TICKET,
    # For longer than the window: one burst is none.
    "sum by (namespace, model_name, reason) (increase(vllm:admission_rejections_total[5m])) > 0",
    "10m",
    "Engines of {{ $labels.model_name }} refuse requests ({{ $labels.reason }})",
    "{{ $value | humanize }} requests in five minutes were refused with 503 by engines in"
    " {{ $labels.namespace }}. Gateways should hold requests in their own, fair line before that"
    " happens: look first whether `slots` is above max-num-seqs, or somebody calls engines"
    " directly.",
    "gptoss-capacity",
)

_IN_LINE: Final = Alert(
    "CapacityWaitGrowing",
    Severity.TICKET,
    "min_over_time(sum by (namespace, pool) (gptoss_gateway_queue_waiting)[15m:1m]) > 0",
    "5m",
    "Requests for pool {{ $labels.pool }} wait in line all the time",
    "At least {{ $value }} requests were in line in gateways of {{ $labels.namespace }} whenever"
    " one looked, for 15 minutes: demand is above supply. When the line is full, requests get 503."
    " Look at the headroom first; then add replicas, or lower the limits of who asks most.",
    "gptoss-capacity",
    labels={"line": "gateway"},
)

_IN_ENGINES: Final = Alert(
    "CapacityWaitGrowing",
    Severity.TICKET,
    lines(
        "sum by (namespace, model_name) ("
        'min_over_time(vllm:num_requests_waiting_by_reason{reason="capacity"}[15m])) > 0',
        "and on (namespace, model_name)",
        "sum by (namespace, model_name) ("
        'deriv(vllm:num_requests_waiting_by_reason{reason="capacity"}[15m])) * 900 > 5',
    ),
    "10m",
    "More and more requests for {{ $labels.model_name }} wait for capacity",
    "At least {{ $value }} requests have waited within engines of {{ $labels.namespace }} for 15"
    " minutes, and their number grew by more than 5 in that time: demand is above supply. Look at"
    " the headroom first; then add replicas, or lower the limits of who asks most.",
    "gptoss-capacity",
    labels={"line": "engine"},
)

_HITS = (
    "sum by (namespace, model_name) (rate(vllm:prefix_cache_hits_total[1h]{0}))"
    " / sum by (namespace, model_name) (rate(vllm:prefix_cache_queries_total[1h]{0}))"
)
_PREFIX: Final = Alert(
    "PrefixHitsDropped",
    Severity.TICKET,
    lines(
        _HITS.format(""),
        "< 0.5 * (",
        f"  {_HITS.format(' offset 1d')} > 0.1",
        ")",
        "and on (namespace, model_name)",
        "sum by (namespace, model_name) (rate(vllm:prefix_cache_queries_total[1h])) > 100",
    ),
    "30m",
    "The prefix cache of {{ $labels.model_name }} hits half as often as yesterday",
    "{{ $value | humanizePercentage }} of prompt tokens in the last hour were found in the cache of"
    " engines in {{ $labels.namespace }}; a day before it was more than twice that. Answers begin"
    " later for it. Look first whether replicas or pools came or went (conversations move), or a"
    " team changed the beginning of its prompts.",
    "gptoss-replicas",
)

_LENGTH = (
    "sum by (namespace, model_name)"
    ' (increase(vllm:request_success_total{{finished_reason="length"}}[1h]{0}))'
    " / sum by (namespace, model_name) (increase(vllm:request_success_total[1h]{0}))"
)
_TRUNCATED: Final = Alert(
    "LengthFinishJump",
    Severity.TICKET,
    lines(
        _LENGTH.format(""),
        f"> 0.1 + 2 * {_LENGTH.format(' offset 1d')}",
        "and on (namespace, model_name)",
        "sum by (namespace, model_name) (increase(vllm:request_success_total[1h])) > 100",
    ),
    "30m",
    "Many more answers of {{ $labels.model_name }} end at their limit of tokens",
    "{{ $value | humanizePercentage }} of answers in the last hour in {{ $labels.namespace }} came"
    " to their limit, more than 10% and twice yesterday's share: a model that does not stop, or a"
    " client with too low a limit. Look first which team it is; then whether the engine's version"
    " or template changed.",
    "gptoss-service",
)

# Of those that work: an idle one has no latency, and would count as the fastest.
_P95 = (
    f"(histogram_quantile(0.95, sum by ({_ENGINE}, job, le)"
    " (rate(vllm:inter_token_latency_seconds_bucket[15m]))) > 0)"
)
_PEERS = "namespace, job, model_name"
_SLOW: Final = Alert(
    "ReplicaSlow",
    Severity.TICKET,
    # Only from three on: the median of two lies between them. Of one job: pools may differ.
    lines(
        f"{_P95} > on ({_PEERS}) group_left ()",
        f"  2 * quantile by ({_PEERS}) (0.5, {_P95})",
        f"and on ({_PEERS}) count by ({_PEERS}) ({_P95}) > 2",
        f"and on ({_ENGINE})",
        f"sum by ({_ENGINE}) (increase(vllm:inter_token_latency_seconds_count[15m])) > 1000",
    ),
    "15m",
    "{{ $labels.pod }} {{ $labels.instance }} is slower than others of {{ $labels.job }}",
    "Its p95 between two tokens is {{ $value | humanizeDuration }}, more than twice the median of"
    " the replicas in {{ $labels.namespace }}. Look first at its GPU (clocks, throttling, XID) and"
    " for others on its machine; then restart it elsewhere.",
    "gptoss-replicas",
)

_DRIFT: Final = Alert(
    "ConfigDrift",
    Severity.TICKET,
    # What was configured. The measured num_gpu_blocks differs by a few between equal GPUs. Pods of
    # one job are one pool; pools may differ.
    lines(
        "count by (namespace, job) (count by (namespace, job, block_size, cache_dtype,",
        "  enable_prefix_caching, gpu_memory_utilization, kv_cache_memory_bytes,",
        "  num_gpu_blocks_override, prefix_caching_hash_algo) (vllm:cache_config_info)) > 1",
    ),
    "1h",
    "Replicas of {{ $labels.job }} run with different cache settings",
    "There are {{ $value }} different settings of the KV cache among engines of"
    " {{ $labels.job }} for more than an hour. Answers differ in speed, and maybe in more, by"
    " chance. Look first whether a rollout stands still; then restart what has the old settings.",
    "gptoss-replicas",
)

# The exporter says the last one that there was; these are a program's own, which vLLM may survive.
_OF_PROGRAMS: Final = " or ".join(f"DCGM_FI_DEV_XID_ERRORS == {code}" for code in (13, 31, 43, 45))
_XID: Final = Alert(
    "GPUError",
    Severity.TICKET,
    lines(
        "max by (namespace, Hostname, gpu) (",
        f"  DCGM_FI_DEV_XID_ERRORS > 0 unless ({_OF_PROGRAMS})",
        ")",
    ),
    "1m",
    "GPU {{ $labels.gpu }} of {{ $labels.Hostname }} reported XID {{ $value }}",
    "The driver's last error of that GPU has code {{ $value }}, which is one of hardware, driver or"
    " link (79: fell off the bus; 48, 63, 64, 94, 95: memory; 74: NVLink). Look first whether its"
    " engine still answers; then drain the node and reset the GPU.",
    "gptoss-capacity",
    (),
)

ALERTS: Final = (
    _PREEMPTIONS,
    _REJECTIONS,
    _IN_LINE,
    _IN_ENGINES,
    _PREFIX,
    _TRUNCATED,
    _SLOW,
    _DRIFT,
    _XID,
)
