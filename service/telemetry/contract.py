"""Every metric that the gateway exports, and all values that its labels can have.

What is not here does not exist: `Metrics` is made from it, and dashboards, rules, autoscaling and
METRICS.md are checked against it. Names are the exported ones without the `_total` of counters;
times are seconds. Labels are bounded by construction: by the enumerations here, by what is
configured (models, pools), by what is there (replicas), or by a setting (teams).

Several gateway processes, also on one port, are several pages: counters and histograms of them add
up, but for `engine_tokens` and `replica_outs`, since each gateway sees all engines. Of those, and
of gauges of what they share (quotas, replicas), take `max`.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.buckets import TOKEN_BUCKETS, TTFT_BUCKETS

PREFIX = "gptoss_gateway_"


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label. `values` are all that it can have; where there are none, `bound` says what bounds
    their number."""

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. `buckets` are a histogram's upper bounds, in its unit."""

    short: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Of the family, as libraries want it."""
        return PREFIX + self.short

    @property
    def exported(self) -> str:
        """As it is asked for: a counter with its `_total`; of a histogram, the count."""
        suffix = {Kind.COUNTER: "_total", Kind.HISTOGRAM: "_count"}.get(self.kind, "")
        return self.name + suffix

    @property
    def label_names(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(label.name for label in self.labels)


NONE = "none"
"""The value of a label of which nothing is known, as the team of a request without a key."""
OTHER = "_other"
"""The team of all for which there is no label any more. No team can be called so."""

_ADDED = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_STORE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_DURATION = (
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1200.0,
)

ROUTES = ("chat", "completions", "responses", "messages", "count_tokens", "models", "quota", NONE)
STATUSES = (
    *("200", "400", "401", "403", "404", "405", "408", "413", "422", "429", "499"),
    *("500", "502", "503", "504"),
)
OUTCOMES = (
    "ok",
    # the client's
    "client_gone",
    "client_stalled",
    "context_length_exceeded",
    "integer_out_of_range",
    "invalid_api_key",
    "invalid_request_error",
    "invalid_type",
    "invalid_value",
    "method_not_supported",
    "missing_required_parameter",
    "model_not_found",
    "no_team",
    "request_too_large",
    "route_not_allowed",
    "team_disabled",
    "unknown_parameter",
    "unknown_url",
    "unsupported_value",
    # its team's quota
    "insufficient_quota",
    "queue_full",
    "rate_limit_exceeded",
    # ours
    "engine_disconnected",
    "engine_error",
    "engine_overloaded",
    "engine_timeout",
    "engine_unavailable",
    "gateway_draining",
    "gateway_full",
    "gateway_shutdown",
    "internal_error",
    "model_overloaded",
    "quota_unavailable",
    "request_timeout",
)
ENDS = tuple(
    "complete client_left refused engine_error engine_cut engine_silent shutdown other".split()
)
FAULTS = ("unreachable", "full", "ending", "failed", "silent", "cut")
LIMITS = ("requests", "tokens", "concurrency", "day", "month")
TOKENS = ("prompt", "completion", "cached", "reasoning")
STATES = ("up", "trial", "ejected", "down", "stalled")
SETTLEMENTS = ("exact", "cut", "estimated", "refunded", "expired")
SLOS = ("availability", "ttft", "tpot")
MODES = ("in_process", "shared", "degraded")

_ROUTE = Label("route", ROUTES)
_MODEL = Label("model", bound="models served, and `none`")
_FALLBACK = Label("fallback", bound="models served, and `none`")
_POOL = Label("pool", bound="pools configured")
_REPLICA = Label("replica", bound="replicas that are there now")
_TEAM = Label("team", bound="GPTOSS_TELEMETRY__TEAMS, then `_other`; `none` without a key")
_LIMIT = Label("limit", LIMITS)
_SLO = Label("slo", SLOS)


def _counter(short: str, help: str, *labels: Label) -> Family:
    return Family(short, Kind.COUNTER, help, labels)


def _gauge(short: str, help: str, *labels: Label) -> Family:
    return Family(short, Kind.GAUGE, help, labels)


def _histogram(short: str, help: str, buckets: tuple[float, ...], *labels: Label) -> Family:
    return Family(short, Kind.HISTOGRAM, help, labels, buckets)


# Requests.
REQUESTS = _counter(
    "requests",
    "Requests answered, by how they ended (`ok`, `client_gone` or the error's code).",
    _ROUTE,
    _MODEL,
    _TEAM,
    Label("status", STATUSES),
    Label("outcome", OUTCOMES),
)
IN_FLIGHT = _gauge("requests_in_flight", "Requests being answered.")
STREAMS_OPEN = _gauge("streams_open", "Streams that have begun and not ended.")
STREAMS = _counter(
    "streams",
    "Streams that have ended, by how: complete, the client left, or an error event said that the"
    " engine refused what was asked, failed, broke off or fell silent, that the gateway shut down,"
    " or something else (other).",
    _MODEL,
    Label("end", ENDS),
)
CHUNKS = _counter("chunks", "Pieces of streams that were passed on.", _MODEL)
DURATION = _histogram(
    "request_duration_seconds",
    "From a request's first byte to its answer's last.",
    _DURATION,
    _ROUTE,
    _MODEL,
)
TTFT = _histogram(
    "time_to_first_token_seconds",
    "From when a streamed request has been read to its answer's first token.",
    TTFT_BUCKETS,
    _ROUTE,
    _MODEL,
)
ITL = _histogram(
    "inter_token_latency_seconds",
    "Between two pieces of a stream, which may carry more than one token each.",
    TOKEN_BUCKETS,
    _MODEL,
)
TPOT = _histogram(
    "time_per_output_token_seconds",
    "Of one stream: from its first token to its last, by the tokens after the first.",
    TOKEN_BUCKETS,
    _MODEL,
)
ADDED = _histogram(
    "added_seconds",
    "What the gateway itself took of an answer's first token (of a whole answer, where it is none"
    " in pieces): without reading the request, waiting in line, and the engine.",
    _ADDED,
    _MODEL,
)
TOKENS_CHARGED = _counter(
    "tokens",
    "Tokens charged; cached ones are among the prompt's, reasoning among the completion's.",
    _MODEL,
    _TEAM,
    Label("kind", TOKENS),
)
ENGINE_TOKENS = _counter(
    "engine_tokens",
    "Tokens that the engines themselves have counted since this gateway began, by what they call"
    " their model.",
    _MODEL,
    Label("kind", ("prompt", "completion")),
)

# Objectives.
SLO_REQUESTS = _counter(
    "slo_requests",
    "Requests that an objective is about: neither refused for cause nor given up.",
    _MODEL,
    _TEAM,
    _SLO,
)
SLO_GOOD = _counter("slo_good", "Those of them that met it.", _MODEL, _TEAM, _SLO)
SLO_BOUND = _gauge("slo_bound_seconds", "What counts as good.", Label("slo", ("ttft", "tpot")))

# Quotas.
ADMITTED = _counter("quota_admitted", "Requests that all limits had room for.", _TEAM)
REFUSED = _counter(
    "quota_refused",
    "Requests refused, by the place and the kind of the limit that was in the way. `store` is the"
    " quota store, which was away.",
    _TEAM,
    Label("scope", ("team", "key", "model", "store")),
    Label("limit", (*LIMITS, "away")),
)
QUOTA_LIMIT = _gauge("quota_limit", "A team's own limits.", _TEAM, _LIMIT)
QUOTA_USED = _gauge(
    "quota_used", "What counts against them now, without what is reserved.", _TEAM, _LIMIT
)
QUOTA_RESERVED = _gauge(
    "quota_reserved",
    "Tokens reserved by open requests.",
    _TEAM,
    Label("limit", ("day", "month")),
)
QUOTA_DEBT = _gauge(
    "quota_debt",
    "By how much a team is over a limit: its requests used more than they had reserved.",
    _TEAM,
    _LIMIT,
)
DEGRADED_DECISIONS = _counter(
    "quota_degraded_decisions", "Requests decided by a gateway alone: its store was late or away."
)
STORE = _histogram("quota_store_seconds", "What requests waited for the quota store.", _STORE)
STORE_ERRORS = _counter(
    "quota_store_errors",
    "Calls of the quota store that failed: late by itself, answered with an error, or not at all.",
    Label("kind", ("slow", "failed", "away")),
)
QUOTA_MODE = _gauge(
    "quota_mode",
    "1 for where limits are counted: in this process, in a store that gateways share, or, that one"
    " being away, by each gateway at its part of every limit.",
    Label("mode", MODES),
)
GATEWAYS = _gauge("gateways", "Gateways that share the quota store, as far as this one knows.")
RESTORED = _counter(
    "quota_restored",
    "Times that the quota store had forgotten, and was told what the ledger knows.",
)
SETTLED = _counter(
    "settlements",
    "Admitted requests that ended, by how their use is known.",
    _MODEL,
    Label("settlement", SETTLEMENTS),
)
UNCONFIRMED = _counter(
    "unconfirmed_tokens",
    "Tokens charged that no engine has reported at an answer's end: it was cut, or they are an"
    " estimate.",
    _MODEL,
    Label("settlement", ("cut", "estimated", "expired")),
)
SETTLEMENTS_PENDING = _gauge(
    "settlements_pending", "Settlements that the quota store has not got yet."
)

# Routing.
QUEUE_SECONDS = _histogram(
    "queue_seconds", "What requests waited in line for a replica.", _WAIT, _MODEL
)
QUEUE_REFUSED = _counter(
    "queue_refused",
    "Requests that found no place in line, by why: full, late, displaced or expired.",
    _MODEL,
    Label("reason", ("full", "late", "displaced", "expired")),
)
QUEUE_WAITING = _gauge("queue_waiting", "Requests that wait in line.", _POOL)
QUEUE_WORK = _gauge("queue_waiting_tokens", "Estimated work that waits.", _POOL)
QUEUE_HELD = _gauge(
    "queue_held", "Requests that wait for a replica to come. They are not in line yet.", _POOL
)
UNSERVED = _counter("unserved", "Requests refused since no replica could take them.", _POOL)
QUEUE_OLDEST = _gauge("queue_oldest_seconds", "Longest wait of those in line.", _POOL)
RETRIES = _counter(
    "retries",
    "Requests sent to another replica, by what went wrong with the one before.",
    _MODEL,
    Label("fault", FAULTS),
)
RETRIES_REFUSED = _counter("retries_refused", "Retries that the retry budget did not allow.", _POOL)
FALLBACKS = _counter(
    "fallbacks",
    "Requests sent to the fallback of the model they asked for.",
    _MODEL,
    _FALLBACK,
    Label("reason", ("down", "full")),
)
REPLICAS = _gauge("replicas", "Replicas, by state.", _POOL, Label("state", STATES))
REPLICA_OUTS = _counter(
    "replica_outs",
    "Times that a replica was taken out, by why.",
    _POOL,
    Label("reason", ("ejections", "downs", "stalls")),
)
REPLICA_STATE = _gauge(
    "replica_state",
    "1 for the state that a replica is in.",
    _POOL,
    _REPLICA,
    Label("state", STATES),
)
REPLICA_REQUESTS = _gauge(
    "replica_requests_in_flight", "Requests of this gateway at a replica.", _POOL, _REPLICA
)
REPLICA_TOKENS = _gauge(
    "replica_tokens_in_flight", "Estimated work of these requests, tokens.", _POOL, _REPLICA
)

# The gateway itself.
LEDGER_PENDING = _gauge("ledger_pending", "Lines of the ledger that are not in the database yet.")
JOURNAL_FAILED = _gauge(
    "journal_failed",
    "1 while lines of the ledger wait that are in no journal: a kill would lose them.",
)
LOST = _counter(
    "records_lost",
    "Settlements and lines of the ledger dropped for want of room. Must stay 0.",
    Label("what", ("settlement", "ledger")),
)
SNAPSHOT_AGE = _gauge(
    "snapshot_age_seconds", "Since the teams and keys were last known to be current."
)
KEYS = _gauge("keys", "Keys in the snapshot.")
KEY_REFRESH_FAILURES = _counter(
    "key_refresh_failures",
    "Times the keys could not be refreshed; the last snapshot stayed in force.",
)
TEAMS_UNNAMED = _gauge(
    "teams_unnamed", "Teams without a label of their own: they are counted as `_other`."
)
LOOP_LAG = _histogram(
    "loop_lag_seconds", "How late the event loop is: what every chunk waits for others.", _LAG
)
SPANS_DROPPED = _counter(
    "spans_dropped", "Spans of traces that did not get to their collector, of those that were to."
)
READY = _gauge("ready", "1 while its /readyz says so: else a load balancer sends it nothing.")
INFO = _gauge("info", "1, with the version that runs.", Label("version", bound="one"))

FAMILIES: tuple[Family, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Family)
)
"""All of them, in the order of this file."""
