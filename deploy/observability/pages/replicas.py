"""Replicas: the load of each, its caches, and why one is out."""

from typing import Final

from deploy.observability import vllm
from deploy.observability.metric import Metric
from deploy.observability.page import MODEL, Page, Row, choice
from deploy.observability.panels import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    Column,
    Look,
    Panel,
    Query,
    bars,
    lines,
    page_link,
    table,
)
from deploy.observability.promql import (
    RANGE,
    Asked,
    Expr,
    Value,
    gauge,
    highest,
    mean,
    of,
    quantile,
    rate,
    sums,
    total,
)
from service.telemetry import contract

POOL: Final = choice("pool", "Pool", contract.REPLICAS, "pool")
REPLICA: Final = choice(
    "replica", "Replica, as gateways name it", contract.REPLICA_STATE, "replica", pool="$pool"
)
ENGINE: Final = choice("engine", "Engine's pod", vllm.RUNNING, "pod", model_name="$model")

_ONE: Final = ("namespace", "pod")
_GATEWAY: Final = ("pod", "instance")
_ITS: Final = {"model_name": "$model", "pod": "$engine"}
_COLORS: Final = {"up": GREEN, "trial": BLUE, "ejected": YELLOW, "down": RED, "stalled": "purple"}


def seen(**given: Value) -> Expr:
    """How many replicas a pool has in some states, as the gateway sees it that sees most of them.

    Every gateway counts all of them, and gateways differ for seconds: the most of each state, added
    up, would count a replica twice that is `up` to one gateway and `trial` to another.
    """
    each = total(gauge(contract.REPLICAS, **given), "namespace", "pool", *_GATEWAY)
    return highest(each, "namespace", "pool")


def _now(one: Metric) -> Expr:
    return total(gauge(one, **_ITS), *_ONE)


def _per_second(one: Metric, window: str = "$__rate_interval") -> Expr:
    return total(rate(one, window, **_ITS), *_ONE)


def _kv() -> Expr:
    return highest(gauge(vllm.KV_USED, **_ITS), *_ONE)


def _hits(window: str = "$__rate_interval") -> Expr:
    return _per_second(vllm.PREFIX_HITS, window) / _per_second(vllm.PREFIX_QUERIES, window).above(0)


def _states() -> Row:
    state = highest(
        gauge(contract.REPLICA_STATE, pool="$pool", replica="$replica"), "pool", "replica", "state"
    )
    return Row(
        "States",
        (
            lines(
                "Replicas by state",
                "As the gateways see them, on average: a half is a replica about which two differ."
                " `ejected` failed requests or was not reached, `down` failed its checks, `stalled`"
                " runs requests and produces nothing. Anything but `up` that stays:"
                " `gptoss upstreams` in a gateway says why.",
                "short",
                [Query(_by_state(), "{{pool}}, {{state}}")],
                Look(stacked=True, decimals=1),
            ),
            bars(
                "State of each",
                "The state of each replica in the gateways' eyes; gateways may differ for seconds."
                " One that is out: look at its log, and at the reasons beside this.",
                "short",
                [Query(state.above(0), "{{replica}} ({{pool}}): {{state}}", once=True)],
                Look(low=BLUE, most=1, decimals=0),
            ),
            lines(
                "Taken out, by reason",
                "Times in five minutes that a replica was taken out: `ejections` for failed"
                " requests, `downs` for failed checks, `stalls` for standing still. Again and again"
                " the same pool: its engine crashes or its GPU is failing (Capacity, XID).",
                "short",
                [Query(_outs(), "{{pool}}, {{reason}}")],
                Look(decimals=1),
            ),
        ),
    )


def _by_state() -> Expr:
    # Of averages the stack is as high as there are replicas; of highest ones it would be higher.
    each = mean(gauge(contract.REPLICAS, pool="$pool"), "namespace", "pool", "state")
    return total(each, "pool", "state")


def _outs() -> Expr:
    # Each gateway takes it out for itself, at about the same time.
    outs = rate(contract.REPLICA_OUTS, "5m", pool="$pool")
    each = highest(outs, "namespace", "pool", "reason")
    return total(each, "pool", "reason") * 300


def _imbalance(asked: contract.Family) -> Expr:
    key = ("namespace", "pool", "replica")
    chosen = {"pool": "$pool", "replica": "$replica"}
    works = highest(gauge(contract.REPLICA_STATE, state=("up", "trial"), **chosen), *key).above(0)
    # One that is out has no work, and would make the others seem overloaded.
    each = of(total(gauge(asked, **chosen), *key), works, *key)
    return highest(each, "namespace", "pool") / mean(each, "namespace", "pool").above(0)


def _balance() -> Row:
    return Row(
        "Balance, by what gateways have sent",
        (
            _sent(
                "Requests at each replica",
                contract.REPLICA_REQUESTS,
                "Requests of all gateways at a replica. One with many more than the others is slow"
                " or holds a long conversation's cache; one with none is new, or out.",
            ),
            _sent(
                "Work at each replica",
                contract.REPLICA_TOKENS,
                "The same in estimated tokens, which is what is balanced. Requests alike and work"
                " not: prompts differ in length, which is as it should be.",
            ),
            lines(
                "Most loaded against the average",
                "Per pool: the replica with the most work, by the average of all that are up. 1 is"
                " even. Above 2 for long and with a queue: one replica is slow, or one"
                " conversation's place is overused (service/routing/BALANCING.md). A gap is a time"
                " without work.",
                "short",
                [
                    Query(_imbalance(contract.REPLICA_TOKENS), "{{pool}}: work"),
                    Query(_imbalance(contract.REPLICA_REQUESTS), "{{pool}}: requests"),
                ],
                Look(((2, YELLOW), (3, RED))),
            ),
        ),
    )


def _sent(title: str, asked: contract.Family, description: str) -> Panel:
    each = total(gauge(asked, pool="$pool", replica="$replica"), "pool", "replica")
    return lines(
        title, description, "short", [Query(each, "{{replica}} ({{pool}})")], Look(stacked=True)
    )


def _table() -> Panel:
    link = page_link("Only this engine", "gptoss-replicas", engine="${__value.raw}")
    window = RANGE
    return table(
        "Engines",
        "Each engine now, and its cache, preemptions and output in the chosen time. Click a pod to"
        " see it alone. One that differs from the others of its pool is the one to drain and"
        " restart.",
        {"namespace": "Namespace", "pod": "Pod"},
        [
            Column("Running", _now(vllm.RUNNING), "short"),
            Column("Waiting", _now(vllm.WAITING), "short", ((1, YELLOW), (20, RED))),
            Column("KV cache", _kv(), "percentunit", ((0.9, YELLOW),)),
            Column("Prefix hits", _hits(window), "percentunit"),
            Column("Output tokens/s", _per_second(vllm.GENERATION_TOKENS, window), "short"),
            Column(
                "Preemptions/s", _per_second(vllm.PREEMPTIONS, window), "short", ((0.01, YELLOW),)
            ),
            Column("TTFT p95", _p95(vllm.TTFT, window), "s"),
        ],
        {"pod": (link,)},
    )


def _p95(asked: Asked, window: str = "$__rate_interval") -> Expr:
    return quantile(0.95, asked, *_ONE, window=window, **_ITS)


def _load() -> Row:
    return Row(
        "Engines, by their own metrics",
        (
            _table(),
            _each(
                "Running",
                _now(vllm.RUNNING),
                "short",
                "Requests in an engine's batch. At the profile's `max_num_seqs` the engine is"
                " full, and more requests wait.",
            ),
            _each(
                "Waiting in engines",
                _now(vllm.WAITING),
                "short",
                "Requests that an engine has and does not run yet. More than a few for long: the"
                " pool's `slots` are larger than its batch, or KV cache is short (beside this).",
            ),
            lines(
                "Waiting, by reason",
                "`capacity` waits for KV cache or a place in the batch: replicas are missing, or"
                " contexts are long. `deferred` waits for something else, as for a grammar.",
                "short",
                [Query(total(gauge(vllm.WAITING_BY_REASON, **_ITS), "reason"), "{{reason}}")],
                Look(stacked=True),
            ),
            _each(
                "KV cache in use",
                _kv(),
                "percentunit",
                "Full is good use as long as nothing waits and nothing is preempted. Full and"
                " either of those: fewer `max_num_seqs`, shorter contexts, or more replicas.",
                1,
            ),
            _each(
                "Prefix cache hits",
                _hits(),
                "percentunit",
                "Share of prompt tokens that an engine had in its cache. A fall after a rollout is"
                " a cold cache; a lasting one is too many different prefixes for the cache, or"
                " conversations that change replicas (balance, above).",
                1,
            ),
            _each(
                "Preemptions",
                _per_second(vllm.PREEMPTIONS),
                "short",
                "Requests thrown out of a batch a second, to be computed again, for want of KV"
                " cache. Any for long: lower `max_num_seqs` in the profile, or add replicas.",
            ),
            _each(
                "Output tokens",
                _per_second(vllm.GENERATION_TOKENS),
                "short",
                "Tokens that each engine produces a second. One far below the others with as many"
                " requests is slow: its GPU is hot, shared or failing (Capacity). 0 with requests"
                " running is a stall.",
            ),
            _each(
                "Prompt tokens",
                _per_second(vllm.PROMPT_TOKENS),
                "short",
                "Tokens of prompts that each engine took in a second, cached ones too. A burst"
                " explains a rise of inter-token latency at the same time.",
            ),
            lines(
                "Finished, by reason",
                "How the engine's requests ended. `length` rising: answers are cut by `max_tokens`."
                " `abort` is clients that left or gateways that gave up; `error` is the engine's"
                " own: read its log.",
                "reqps",
                [
                    Query(
                        total(rate(vllm.FINISHED, **_ITS), "finished_reason"), "{{finished_reason}}"
                    )
                ],
                Look(stacked=True),
            ),
            lines(
                "Refused by engines",
                "Requests that an engine itself refused, by its limits of the queue. Any: gateways"
                " send more than `max_num_queued_reqs` allows; lower the pool's `slots`.",
                "reqps",
                [
                    Query(
                        total(rate(vllm.REJECTIONS, **_ITS), "pod", "reason"), "{{pod}}: {{reason}}"
                    )
                ],
            ),
        ),
    )


def _each(title: str, expr: Expr, unit: str, description: str, most: float | None = None) -> Panel:
    return lines(title, description, unit, [Query(expr, "{{pod}}")], Look(most=most))


def _phases() -> Row:
    return Row(
        "Latency within engines",
        (
            _each(
                "Time to first token, p95",
                _p95(vllm.TTFT),
                "s",
                "By the engine's clock. One engine alone above the others: drain it. All of them:"
                " Capacity.",
            ),
            _each(
                "Inter-token latency, p95",
                _p95(vllm.ITL),
                "s",
                "By the engine's clock. Rising with running requests is the batch; rising alone is"
                " the GPU's clock or another process on it (Capacity).",
            ),
            lines(
                "Where time goes",
                "Mean seconds of a request in line in the engine, in its prompt, and in its answer."
                " Mostly line: replicas are missing. Mostly prompt: caches miss, or prompts are"
                " long.",
                "s",
                [
                    Query(_mean(vllm.QUEUE), "in line"),
                    Query(_mean(vllm.PREFILL), "prompt"),
                    Query(_mean(vllm.DECODE), "answer"),
                ],
                Look(stacked=True),
            ),
        ),
    )


def _mean(asked: Metric) -> Expr:
    return total(sums(asked, **_ITS)) / total(rate(asked, **_ITS))


PAGE: Final = Page(
    "gptoss-replicas",
    "The engines one by one: which is slow, full, out, or different from the others.",
    (_states(), _balance(), _load(), _phases()),
    (MODEL, POOL, REPLICA, ENGINE),
)
