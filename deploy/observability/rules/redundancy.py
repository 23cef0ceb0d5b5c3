"""What has nothing to spare any more: users feel nothing yet, and will at the next fault."""

from typing import Final

from deploy.observability.rules.alert import Alert, Severity, lines

_OUT: Final = Alert(
    "ReplicaOut",
    Severity.TICKET,
    lines(
        "max by (namespace, pool) (sum by (namespace, pool, pod, instance) (",
        '  gptoss_gateway_replicas{state=~"ejected|down|stalled"}',
        ")) > 0",
    ),
    "15m",
    "{{ $value }} engines of pool {{ $labels.pool }} have been out for 15 minutes",
    "Gateways of {{ $labels.namespace }} send {{ $value }} engines of pool {{ $labels.pool }}"
    " nothing: the others have their work too. `gptoss upstreams` names them, and says why.",
    "gptoss-replicas",
    ("namespace", "pool"),
)

_TARGET: Final = Alert(
    "TargetDown",
    Severity.TICKET,
    # Of jobs that are ours: a day after they were last seen they are somebody's old ones. An
    # engine that is not ready is in no DNS answer, so that gateways do not know of it.
    lines(
        "up == 0 and on (namespace, job) (",
        "  last_over_time(gptoss_gateway_info[1d])",
        "  or",
        "  last_over_time(vllm:cache_config_info[1d])",
        ")",
    ),
    "15m",
    "{{ $labels.pod }} {{ $labels.instance }} of {{ $labels.job }} has not answered for 15 minutes",
    "Prometheus expects it (up is {{ $value }}) and gets no metrics: it is down, does not come up,"
    " or is not reached. Others have its work too, or nobody has. Look first at its pod.",
    "gptoss-replicas",
)

_RUNNING = "count by (namespace) (gptoss_gateway_info)"
_LAST: Final = Alert(
    "OneGatewayLeft",
    Severity.TICKET,
    lines(f"{_RUNNING} == 1", f"and max_over_time({_RUNNING}[1d:10m]) > 1"),
    "15m",
    "{{ $labels.namespace }} has one gateway left",
    "{{ $value }} gateway runs where there were more within a day: the next fault of it or of its"
    " node is felt by all. Look first why the others do not run.",
    "gptoss-gateway",
)

ALERTS: Final = (_OUT, _TARGET, _LAST)
