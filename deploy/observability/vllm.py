"""Those of vLLM's metrics that dashboards and rules use, as vLLM 0.32 exports them.

tests/observability/golden has the whole page of a real one, which these are checked by.
"""

from deploy.observability.metric import Metric
from service.telemetry.contract import Kind, Label

_OWN = (Label("model_name", bound="the model served"), Label("engine", bound="ranks of one server"))


def _vllm(name: str, kind: Kind, *labels: Label) -> Metric:
    return Metric(f"vllm:{name}", kind, (*_OWN, *labels))


RUNNING = _vllm("num_requests_running", Kind.GAUGE)
WAITING = _vllm("num_requests_waiting", Kind.GAUGE)
WAITING_BY_REASON = _vllm(
    "num_requests_waiting_by_reason", Kind.GAUGE, Label("reason", ("capacity", "deferred"))
)
KV_USED = _vllm("kv_cache_usage_perc", Kind.GAUGE)
PREFIX_QUERIES = _vllm("prefix_cache_queries_total", Kind.COUNTER)
PREFIX_HITS = _vllm("prefix_cache_hits_total", Kind.COUNTER)
PREEMPTIONS = _vllm("num_preemptions_total", Kind.COUNTER)
PROMPT_TOKENS = _vllm("prompt_tokens_total", Kind.COUNTER)
GENERATION_TOKENS = _vllm("generation_tokens_total", Kind.COUNTER)
FINISHED = _vllm(
    "request_success_total",
    Kind.COUNTER,
    Label("finished_reason", ("stop", "length", "abort", "error", "repetition")),
)
REJECTIONS = Metric(
    "vllm:admission_rejections_total",
    Kind.COUNTER,
    (
        Label("model_name", bound="the model served"),
        Label("reason", ("max_num_queued_reqs", "max_num_queued_tokens")),
    ),
)
TTFT = _vllm("time_to_first_token_seconds", Kind.HISTOGRAM)
ITL = _vllm("inter_token_latency_seconds", Kind.HISTOGRAM)
TPOT = _vllm("request_time_per_output_token_seconds", Kind.HISTOGRAM)
E2E = _vllm("e2e_request_latency_seconds", Kind.HISTOGRAM)
QUEUE = _vllm("request_queue_time_seconds", Kind.HISTOGRAM)
PREFILL = _vllm("request_prefill_time_seconds", Kind.HISTOGRAM)
DECODE = _vllm("request_decode_time_seconds", Kind.HISTOGRAM)
PROMPT_LENGTH = _vllm("request_prompt_tokens", Kind.HISTOGRAM)
GENERATION_LENGTH = _vllm("request_generation_tokens", Kind.HISTOGRAM)

METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
