"""What users feel at once: pages. The budgets of objectives are beside this, in `slo.py`."""

from typing import Final

from deploy.observability.rules.alert import Alert, Severity, lines

_DOWN: Final = Alert(
    "GatewayDown",
    Severity.PAGE,
    # Each installation by itself, for a day after it was last seen; and where there never was one,
    # by `absent`, for a sum over nothing is nothing and would say nothing.
    lines(
        "(",
        "  count by (namespace) (last_over_time(gptoss_gateway_info[1d]))",
        "  unless on (namespace) count by (namespace) (gptoss_gateway_info)",
        ")",
        "or absent(last_over_time(gptoss_gateway_info[1d]))",
    ),
    "2m",
    "No gateway of {{ $labels.namespace }} exports anything",
    "Prometheus has metrics of 0 gateways: all are down, or are not scraped any more. Ask one for"
    " an answer first; if it gives one, mend the scraping. After an uninstallation: silence this"
    " for a day.",
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
    # fail for want of an engine: where none is ready the DNS has no addresses.
    lines(
        'max by (namespace, pool) (gptoss_gateway_replicas{state=~"up|trial"}) == 0',
        "and on (namespace, pool) (",
        "  sum by (namespace, pool) (gptoss_gateway_replicas) > 0",
        "  or",
        "  max by (namespace, pool) (gptoss_gateway_queue_held) > 0",
        "  or",
        "  sum by (namespace, pool) (gptoss_gateway_replicas)",
        "  and on (namespace) sum by (namespace) (",
        '    increase(gptoss_gateway_requests_total{outcome="engine_unavailable"}[5m])',
        "  ) > 0",
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

ALERTS: Final = (_DOWN, _UNREADY, _POOL, _STALLED_SEEN, _STALLED_SAID, _LIMITER, _LOST)
