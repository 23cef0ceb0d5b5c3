"""Causes within gateways, teams and the machinery: tickets, and one for teams themselves."""

from typing import Final

from deploy.observability.rules.alert import Alert, Severity, lines

_GATEWAY: Final = "namespace, pod, instance"

_STREAMS: Final = Alert(
    "StreamsBroken",
    Severity.TICKET,
    lines(
        "sum by (namespace, model) (",
        '  increase(gptoss_gateway_streams_total{end!~"complete|client_left|refused"}[30m])',
        ") / sum by (namespace, model) (increase(gptoss_gateway_streams_total[30m])) > 0.01",
        "and",
        "sum by (namespace, model) (increase(gptoss_gateway_streams_total[30m])) > 100",
    ),
    "10m",
    "Streams of {{ $labels.model }} break off",
    "{{ $value | humanizePercentage }} of streams in the last 30 minutes in {{ $labels.namespace }}"
    " ended with an error event instead of their last piece (more than 1%). Look first how they"
    " ended (engine_cut, engine_silent, engine_error, shutdown), then at that engine's log.",
    "gptoss-service",
    ("namespace", "model"),
)

_ALL = "sum by (namespace, model) (increase(gptoss_gateway_requests_total[1h]{0}))"
# Where nobody has left yet there is no such series: that is 0, and not no answer.
_GONE = (
    "(sum by (namespace, model)"
    ' (increase(gptoss_gateway_requests_total{{outcome=~"client_gone|client_stalled"}}[1h]{0}))'
    f" or 0 * {_ALL}) / {_ALL}"
)
_LEAVING: Final = Alert(
    "ClientsLeaveJump",
    Severity.TICKET,
    lines(
        _GONE.format(""),
        f"> 0.05 + 2 * {_GONE.format(' offset 1d')}",
        "and",
        "sum by (namespace, model) (increase(gptoss_gateway_requests_total[1h])) > 100",
    ),
    "30m",
    "Many more clients of {{ $labels.model }} leave before their answer's end",
    "{{ $value | humanizePercentage }} of requests in the last hour in {{ $labels.namespace }} were"
    " left by their client, more than 5% and twice yesterday's share: it is too slow for them, or a"
    " timeout on the way is too short. Look first at the time to the first token.",
    "gptoss-service",
    ("namespace", "model"),
)

_RETRIES: Final = Alert(
    "RetriesRefused",
    Severity.TICKET,
    # For longer than the window: one burst is none.
    "sum by (namespace, pool) (increase(gptoss_gateway_retries_refused_total[5m])) > 0",
    "10m",
    "The retry budget of pool {{ $labels.pool }} is spent",
    "{{ $value | humanize }} retries in five minutes were not made, for more than"
    " GPTOSS_ROUTING__RETRY_RATIO of requests in {{ $labels.namespace }} fail at their first"
    " replica: these clients got the error. Look first which replica fails: `gptoss upstreams`.",
    "gptoss-replicas",
    ("namespace", "pool"),
)

_FLAPPING: Final = Alert(
    "ReplicasFlapping",
    Severity.TICKET,
    # Each gateway counts the same: the most that one has seen.
    "max by (namespace, pool, reason) (increase(gptoss_gateway_replica_outs_total[1h])) > 5",
    "5m",
    "Replicas of pool {{ $labels.pool }} go out and come back ({{ $labels.reason }})",
    "{{ $value | humanize }} times in an hour a gateway of {{ $labels.namespace }} took out a"
    " replica that is still there (more than 5). Each time its conversations move and lose their"
    " prefix cache. Look first which one and why: the gateways' log, `gptoss upstreams`.",
    "gptoss-replicas",
    ("namespace", "pool"),
)

_LATE = 'increase(gptoss_gateway_quota_store_errors_total{kind=~"slow|failed"}[10m])'
_STORE: Final = Alert(
    "QuotaStoreErrors",
    Severity.TICKET,
    # That it is gone altogether is another alert: LimiterBackendDown.
    lines(
        f"sum by (namespace) ({_LATE})",
        "/ sum by (namespace) (increase(gptoss_gateway_quota_store_seconds_count[10m])) > 0.01",
        "and",
        f"sum by (namespace) ({_LATE}) > 10",
    ),
    "5m",
    "The quota store of {{ $labels.namespace }} is late, or answers with errors",
    "{{ $value | humanizePercentage }} of calls in ten minutes took longer than"
    " GPTOSS_QUOTA__TIMEOUT or got an error (more than 1%). Those that were late were decided by"
    " each gateway alone, so that limits are kept less well; those with errors got 503. Look first"
    " which of both it is: gateway, stores.",
    "gptoss-gateway",
)

_LEDGER: Final = Alert(
    "LedgerBehind",
    Severity.TICKET,
    f"max by ({_GATEWAY}) (gptoss_gateway_ledger_pending) > 10000",
    "5m",
    "The ledger of {{ $labels.pod }} {{ $labels.instance }} is behind",
    "{{ $value }} lines wait for the database (more than 10,000). Nothing is lost until there are"
    " GPTOSS_LEDGER__MAX_PENDING (100,000). Look first whether PostgreSQL answers:"
    " `gptoss db status`.",
    "gptoss-gateway",
)

_SETTLEMENTS: Final = Alert(
    "SettlementsBehind",
    Severity.TICKET,
    f"max by ({_GATEWAY}) (gptoss_gateway_settlements_pending) > 1000",
    "10m",
    "Settlements of {{ $labels.pod }} {{ $labels.instance }} wait for the quota store",
    "{{ $value }} settlements are not in Valkey yet (more than 1,000): teams have less room there"
    " than they should, or more. Look first whether Valkey answers in time: gateway, stores.",
    "gptoss-gateway",
)

_JOURNAL: Final = Alert(
    "JournalFailed",
    Severity.TICKET,
    f"max by ({_GATEWAY}) (gptoss_gateway_journal_failed) == 1",
    "5m",
    "{{ $labels.pod }} {{ $labels.instance }} cannot write its journal",
    "The journal's state is failed ({{ $value }}): lines of the ledger wait in memory alone, and a"
    " kill would lose them. Look first whether the state folder's volume is full or read-only.",
    "gptoss-gateway",
)

_SNAPSHOT: Final = Alert(
    "SnapshotOld",
    Severity.TICKET,
    f"max by ({_GATEWAY}) (gptoss_gateway_snapshot_age_seconds) > 120",
    "1m",
    "{{ $labels.pod }} {{ $labels.instance }} decides by old teams and keys",
    "It has not reached the database for {{ $value | humanizeDuration }} (more than 120 s). Keys"
    " that were revoked since still work there; after GPTOSS_DATABASE__SNAPSHOT_MAX_AGE (300 s) the"
    " gateway is unready. Look first whether the database answers: `gptoss db status`.",
    "gptoss-gateway",
)

_LAG: Final = Alert(
    "LoopLag",
    Severity.TICKET,
    f"histogram_quantile(0.99, sum by ({_GATEWAY}, le)"
    " (rate(gptoss_gateway_loop_lag_seconds_bucket[5m]))) > 0.05",
    "10m",
    "The event loop of {{ $labels.pod }} {{ $labels.instance }} is late",
    "In 1 of 100 cases a chunk waits {{ $value | humanizeDuration }} or longer for others (more"
    " than 50 ms): the gateway has too much to do, or too little CPU. Look first at its CPU and"
    " throttling; then add gateways.",
    "gptoss-gateway",
)

# Engines may call a model otherwise than clients do: only the sums over models can be compared.
# Each gateway follows all engines, and charges its own requests alone. By the rate at each moment:
# after a rollout no gateway has counted for the whole hour.
_BOTH = "namespace, kind"
_COMPUTED = (
    f"sum by ({_BOTH}) (max by ({_BOTH}, model) (rate(gptoss_gateway_engine_tokens_total[2m])))"
)
_CHARGED = f'sum by ({_BOTH}) (rate(gptoss_gateway_tokens_total{{kind=~"prompt|completion"}}[2m]))'
_TOKENS: Final = Alert(
    "TokensUnaccounted",
    Severity.TICKET,
    lines(
        f"avg_over_time(({_COMPUTED} - {_CHARGED})[1h:1m])",
        f"/ avg_over_time(({_COMPUTED})[1h:1m]) > 0.05",
        f"and avg_over_time(({_COMPUTED})[1h:1m]) * 3600 > 10000",
    ),
    "30m",
    "{{ $value | humanizePercentage }} of {{ $labels.kind }} tokens are charged to nobody",
    "Engines in {{ $labels.namespace }} computed {{ $value | humanizePercentage }} more in the last"
    " hour than gateways charged (more than 5%). Clients that leave explain a little. Look first"
    " whether somebody calls engines directly, and how answers are settled.",
    "gptoss-gateway",
)

_UNNAMED: Final = Alert(
    "TeamsUnnamed",
    Severity.TICKET,
    "max by (namespace) (gptoss_gateway_teams_unnamed) > 0",
    "15m",
    "{{ $value }} teams of {{ $labels.namespace }} have no metrics of their own",
    "{{ $value }} teams are counted together as `_other`: there are more than"
    " GPTOSS_TELEMETRY__TEAMS. Dashboards and alerts cannot tell them apart; the ledger can. Raise"
    " the setting, if Prometheus has room for the series.",
    "gptoss-teams",
)

_QUOTA: Final = Alert(
    "TeamQuotaNearlyUsed",
    Severity.TEAM,
    # All gateways say the same of a team. Sums would count it once for each.
    lines(
        "max by (namespace, team, limit) (gptoss_gateway_quota_used)",
        "/ (max by (namespace, team, limit) (gptoss_gateway_quota_limit) > 0)",
        "> 0.9",
    ),
    "10m",
    "Team {{ $labels.team }} has used {{ $value | humanizePercentage }} of its limit:"
    " {{ $labels.limit }}",
    "{{ $value | humanizePercentage }} of the limit on {{ $labels.limit }} of team"
    " {{ $labels.team }} is in use for ten minutes (more than 90%); above it requests get 429. For"
    " the team: spread the work, or ask for more (`GET /v1/quota` says when it is free again).",
    "gptoss-teams",
    ("namespace", "team"),
)

_WATCHDOG: Final = Alert(
    "Watchdog",
    Severity.NONE,
    "vector(1)",
    "0s",
    "Alerting works",
    "This always fires ({{ $value }}). Send it to something that says so when it stops: then"
    " Prometheus, the rules or Alertmanager are down.",
    "gptoss-service",
    (),
)

ALERTS: Final = (
    _STREAMS,
    _LEAVING,
    _RETRIES,
    _FLAPPING,
    _STORE,
    _LEDGER,
    _SETTLEMENTS,
    _JOURNAL,
    _SNAPSHOT,
    _LAG,
    _TOKENS,
    _UNNAMED,
    _QUOTA,
    _WATCHDOG,
)
