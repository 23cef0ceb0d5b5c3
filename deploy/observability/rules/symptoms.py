"""What users feel at once: pages. The budgets of objectives are beside this, in `slo.py`."""

from typing import Final

from deploy.observability.rules.alert import Alert, Severity, lines

_DOWN: Final = Alert(
    "GatewayDown",
    Severity.PAGE,
    # Each installation by itself, for a day after it was last seen; and where there never was one,
    # by `absent_over_time`, for a sum over nothing is nothing and would say nothing.
    lines(
        "(",
        "  count by (namespace) (last_over_time(gptoss_gateway_info[1d]))",
        "  unless on (namespace) count by (namespace) (gptoss_gateway_info)",
        ")",
        "or absent_over_time(gptoss_gateway_info[1d])",
    ),
    "2m",
    "No gateway of {{ $labels.namespace }} exports anything",
    "Prometheus has metrics of 0 gateways: all are down, or are not scraped any more. Ask one for"
    " an answer first; if it gives one, mend the scraping. After an uninstallation: silence this"
    " for a day.",
    "gptoss-gateway",
)

_RESTARTS = (
    "changes(process_start_time_seconds[30m])"
    " and on (namespace, pod, instance) last_over_time(gptoss_gateway_info[30m])"
)
_CRASHING: Final = Alert(
    "GatewaysRestart",
    Severity.PAGE,
    # What is scraped between two crashes looks well. One gateway that stays up keeps this silent.
    f"min by (namespace) ({_RESTARTS}) > 1",
    "1m",
    "Every gateway of {{ $labels.namespace }} ends and begins again",
    "Each has started anew {{ $value }} times or more in 30 minutes, and each time cut what it was"
    " answering. Look first at how the last one ended: out of memory, or the log's last lines.",
    "gptoss-gateway",
)

_UNREADY: Final = Alert(
    "GatewaysUnready",
    Severity.PAGE,
    "max by (namespace) (gptoss_gateway_ready) == 0",
    "2m",
    "No gateway of {{ $labels.namespace }} is ready",
    "{{ $value }} gateways take requests: load balancers send them to nobody, so that no other"
    " alert sees them fail. `/readyz` of a gateway says why: no engine, or teams and keys that are"
    " too old.",
    "gptoss-gateway",
)

_POOL: Final = Alert(
    "PoolDown",
    Severity.PAGE,
    # A pool of which gateways know no replica at all may be scaled to none. It is down if requests
    # fail for want of an engine, or wait for one longer than a start takes: where none is ready the
    # DNS has no addresses.
    lines(
        'max by (namespace, pool) (gptoss_gateway_replicas{state=~"up|trial"}) == 0',
        "and on (namespace, pool) (",
        "  sum by (namespace, pool) (gptoss_gateway_replicas) > 0",
        "  or",
        "  max by (namespace, pool) (min_over_time(gptoss_gateway_queue_held[10m])) > 0",
        "  or",
        "  sum by (namespace, pool) (increase(gptoss_gateway_unserved_total[5m])) > 0",
        ")",
    ),
    "2m",
    "No engine of pool {{ $labels.pool }} works",
    "Every gateway in {{ $labels.namespace }} sees {{ $value }} working engines of pool"
    " {{ $labels.pool }}: they are down, ejected, stalled or gone. Its requests get 503, or its"
    " fallback. `gptoss upstreams` in a gateway's container says why.",
    "gptoss-replicas",
    ("namespace", "pool"),
)

_ASKED = "sum by (namespace, model) (increase(gptoss_gateway_slo_{}_total{{{}}}[15m]))"
_OF_AVAILABILITY = 'slo="availability"'
_FAILING: Final = Alert(
    "ModelFailing",
    Severity.PAGE,
    # Budgets need many requests to say something. Of a model that is asked now and then, and never
    # answers, this does.
    lines(
        f"{_ASKED.format('requests', _OF_AVAILABILITY)} > 2",
        "unless on (namespace, model)",
        f"{_ASKED.format('good', _OF_AVAILABILITY)} > 0",
    ),
    "2m",
    "No request for {{ $labels.model }} succeeds",
    "All of the {{ $value | humanize }} requests for {{ $labels.model }} in {{ $labels.namespace }}"
    " in the last 15 minutes failed. Look first which outcomes they had: errors by kind on the"
    " dashboard.",
    "gptoss-service",
    ("namespace", "model"),
)

_STALLED_SEEN: Final = Alert(
    "EngineStalled",
    Severity.PAGE,
    'max by (namespace, pool) (gptoss_gateway_replicas{state="stalled"}) > 0',
    "1m",
    "An engine of pool {{ $labels.pool }} stands still",
    "Gateways see {{ $value }} engines of pool {{ $labels.pool }} in {{ $labels.namespace }} in"
    " which requests run and no counter moves. Their streams hang. They get no new requests, and"
    " their liveness probe restarts them within minutes; `gptoss upstreams` names them.",
    "gptoss-replicas",
    ("namespace", "pool"),
    {"sign": "gateway"},
)

_STALLED_SAID: Final = Alert(
    "EngineStalled",
    Severity.PAGE,
    # The third counter grows with each step, also within a long prefill that has no token yet.
    lines(
        "min_over_time(vllm:num_requests_running[2m]) > 0",
        "and on (namespace, pod, instance, model_name, engine)",
        "  increase(vllm:generation_tokens_total[2m])",
        "  + increase(vllm:prompt_tokens_total[2m])",
        "  + increase(vllm:iteration_tokens_total_count[2m]) == 0",
    ),
    "1m",
    "The engine {{ $labels.pod }} {{ $labels.instance }} stands still",
    "{{ $value }} requests run in it and for two minutes it has counted no token of a prompt, no"
    " token of an answer and no step. Its streams hang: a GPU or NCCL that hangs looks like this."
    " If its liveness probe does not restart it, do so by hand.",
    "gptoss-replicas",
    labels={"sign": "engine"},
)

_LIMITER: Final = Alert(
    "LimiterBackendDown",
    Severity.PAGE,
    'max by (namespace) (gptoss_gateway_quota_mode{mode="degraded"}) == 1',
    "1m",
    "The quota store of {{ $labels.namespace }} does not answer",
    "Gateways (state {{ $value }}) count by themselves, each at its part of every limit, and"
    " answers carry `x-gptoss-quota: degraded`. After GPTOSS_QUOTA__DEGRADED_LIMIT (900 s) they"
    " refuse requests that have limits with 503. Look first whether Valkey runs, and is reached.",
    "gptoss-gateway",
)

_LOST: Final = Alert(
    "RecordsLost",
    Severity.PAGE,
    "sum by (namespace, what) (increase(gptoss_gateway_records_lost_total[10m])) > 0",
    "0s",
    "Gateways of {{ $labels.namespace }} dropped records ({{ $labels.what }})",
    "{{ $value | humanize }} records in ten minutes: there was no room for them. What teams used is"
    " counted too low from now on. Bring back the store that they wait for (`ledger`: the"
    " database; `settlement`: Valkey) before more are lost.",
    "gptoss-gateway",
)

_OLD: Final = Alert(
    "SnapshotOld",
    Severity.PAGE,
    "min by (namespace) (gptoss_gateway_snapshot_age_seconds) > 120",
    "1m",
    "All gateways of {{ $labels.namespace }} decide by old teams and keys",
    "None has reached the database for {{ $value | humanizeDuration }} (more than 120 s). After"
    " GPTOSS_DATABASE__SNAPSHOT_MAX_AGE (300 s) all are unready, and nobody gets an answer. Look"
    " first whether the database answers: `gptoss db status`.",
    "gptoss-gateway",
)

ALERTS: Final = (
    _DOWN,
    _CRASHING,
    _UNREADY,
    _POOL,
    _FAILING,
    _STALLED_SEEN,
    _STALLED_SAID,
    _LIMITER,
    _OLD,
    _LOST,
)
