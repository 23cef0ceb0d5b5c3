"""The gateways themselves: what they cost, whether they keep up, and what they depend on."""

from typing import Final

from deploy.observability import external
from deploy.observability.page import MODEL, Page, Row, choice
from deploy.observability.pages import retries
from deploy.observability.panels import (
    BLUE,
    GREEN,
    PLAIN,
    RED,
    YELLOW,
    Look,
    Panel,
    Query,
    heatmap,
    lines,
    percentiles,
    stat,
    worded,
)
from deploy.observability.promql import (
    Expr,
    averaged,
    gauge,
    heat,
    highest,
    increase,
    of,
    rate,
    total,
)
from service.telemetry import contract
from service.telemetry.contract import Family

GATEWAY: Final = choice("gateway", "Gateway's pod", contract.INFO, "pod")
_IT: Final = {"pod": "$gateway"}
_TARGET: Final = ("job", "instance")


def _ours(expr: Expr) -> Expr:
    """Engines export metrics of their processes by the same names: only those of gateways."""
    return of(expr, gauge(contract.INFO, **_IT), *_TARGET)


def _cpu() -> Expr:
    return total(_ours(rate(external.CPU, **_IT)))


def _cpu_by(asked: Family) -> Expr:
    return _cpu() / total(rate(asked, **_IT)).above(0)


def _each(title: str, asked: Family, unit: str, description: str, look: Look = PLAIN) -> Panel:
    queries = [Query(highest(gauge(asked, **_IT), "pod"), "{{pod}}")]
    return lines(title, description, unit, queries, look)


def _overview() -> Row:
    degraded = highest(gauge(contract.QUOTA_MODE, mode="degraded"))
    in_degraded = worded({0: ("reached", GREEN), 1: ("away", RED)})
    return Row(
        "Now",
        (
            stat(
                "Gateways",
                "Gateways that Prometheus reaches. Fewer than you run: one is down or draining. If"
                " the next one says another number, a gateway does not reach the quota store.",
                "short",
                [Query(total(gauge(contract.INFO)))],
                Look(((1, GREEN),), RED, decimals=0),
            ),
            stat(
                "Gateways in the quota store",
                "Gateways that share the quota store, as it knows them: by this number each takes"
                " its part of every limit while the store is away.",
                "short",
                [Query(total(highest(gauge(contract.GATEWAYS), "namespace")))],
                Look(low=BLUE, decimals=0),
            ),
            stat(
                "Quota store",
                "Away: each gateway counts by itself, at its part of every limit, and after"
                " GPTOSS_QUOTA__DEGRADED_LIMIT refuses requests that have limits. See to Valkey.",
                "short",
                [Query(degraded)],
                Look(mappings=(in_degraded,), most=1, low=GREEN, steps=((1, RED),)),
            ),
            stat(
                "Being answered",
                "Requests being answered by all gateways, and the streams among them. Open streams"
                " that only grow: clients that do not close, or engines that stand (Replicas).",
                "short",
                [
                    Query(total(gauge(contract.IN_FLIGHT, **_IT)), "requests"),
                    Query(total(gauge(contract.STREAMS_OPEN, **_IT)), "streams"),
                ],
                Look(low=BLUE, decimals=0),
            ),
            stat(
                "Records lost",
                "Settlements and lines of the ledger dropped in the chosen time for want of room."
                " Must be 0: what teams used is counted too low. See to the stores, then compare"
                " `gptoss usage` with the engines' counters.",
                "short",
                [Query(total(increase(contract.LOST)), once=True)],
                Look(((1, RED),), decimals=0),
            ),
            stat(
                "Teams without a label",
                "Teams that dashboards show as `_other`. Not 0: raise GPTOSS_TELEMETRY__TEAMS, if"
                " Prometheus has room for more series.",
                "short",
                [Query(highest(gauge(contract.TEAMS_UNNAMED)))],
                Look(((1, YELLOW),), decimals=0),
            ),
        ),
    )


def _cost() -> Row:
    return Row(
        "Cost of the path",
        (
            lines(
                "CPU per request",
                "CPU seconds of gateways, by requests answered. All of it, chunks too, so it grows"
                " with the length of streams. A step after a rollout: compare `tests/cost.py` of"
                " both releases.",
                "s",
                [Query(_cpu_by(contract.REQUESTS), "per request")],
            ),
            lines(
                "CPU per chunk",
                "CPU seconds of gateways, by pieces of streams passed on: the figure that decides"
                " how many gateways you need. Above 100 µs: short streams, or a slower release.",
                "s",
                [Query(_cpu_by(contract.CHUNKS), "per chunk")],
            ),
            lines(
                "CPU of each",
                "Cores in use. A gateway is one process on one core: near 1 it is full, and its"
                " loop lag rises. Add gateways.",
                "short",
                [Query(total(_ours(rate(external.CPU, **_IT)), "pod"), "{{pod}}")],
                Look(((0.7, YELLOW), (0.9, RED))),
            ),
            lines(
                "Loop lag",
                "How late the event loop is: what every chunk waits for others. p99 above 10 ms:"
                " the gateway is full (CPU), or something blocks it; a profile (py-spy) says what.",
                "s",
                percentiles(contract.LOOP_LAG, **_IT),
                Look(((0.01, YELLOW), (0.05, RED))),
            ),
            lines(
                "Added latency",
                "What the gateway itself took of the time to the first token. Above 5 ms at p99:"
                " loop lag, or the quota store's time (below).",
                "s",
                percentiles(contract.ADDED, model="$model", **_IT),
                Look(((0.01, YELLOW), (0.05, RED))),
            ),
            lines(
                "Memory",
                "Resident memory of each gateway. It grows with open streams and with keys. Growing"
                " without either is a leak: restart it (it drains) and report it.",
                "bytes",
                [Query(highest(_ours(gauge(external.MEMORY, **_IT)), "pod"), "{{pod}}")],
            ),
            heatmap(
                "Added latency, all",
                "How many answers a second lost how much time in the gateway. Another band far"
                " above the first: some requests wait for the quota store.",
                "s",
                heat(contract.ADDED, model="$model", **_IT),
                wide=8,
            ),
            lines(
                "Connections",
                "Files that each gateway has open, by how many it may: two for each stream. Above"
                " 0.8: raise the limit of open files, or add gateways.",
                "percentunit",
                [Query(_files(), "{{pod}}")],
                Look(((0.8, YELLOW), (0.95, RED)), most=1),
            ),
            lines(
                "Streams and chunks",
                "Chunks passed on a second by each gateway. Uneven: clients keep connections to one"
                " gateway; balance them per request, or shorten keep-alive.",
                "short",
                [Query(total(rate(contract.CHUNKS, **_IT), "pod"), "{{pod}}")],
            ),
        ),
    )


def _files() -> Expr:
    opened = highest(_ours(gauge(external.FILES_OPEN, **_IT)), "pod")
    return opened / highest(_ours(gauge(external.FILES_MOST, **_IT)), "pod")


def _stores() -> Row:
    failed = total(rate(contract.STORE_ERRORS, **_IT), "kind")
    degraded = total(rate(contract.DEGRADED_DECISIONS, **_IT))
    return Row(
        "Stores",
        (
            lines(
                "Quota store, time",
                "What requests waited for the quota store; never above 50 ms, then the gateway"
                " decides by itself. Rising: Valkey is full or far away.",
                "s",
                percentiles(contract.STORE, **_IT),
                Look(((0.025, YELLOW), (0.05, RED))),
            ),
            lines(
                "Quota store, errors",
                "Calls that failed: late, answered with an error, or not at all. `slow`: its"
                " latency; `away`: the network or the server; `failed`: read the gateway's log.",
                "ops",
                [Query(failed, "{{kind}}")],
                Look(stacked=True),
            ),
            lines(
                "How limits are counted",
                "Gateways by where they count: in this process, in the shared store, or degraded,"
                " which is each by itself. Degraded is a page: see to the store.",
                "short",
                [Query(total(gauge(contract.QUOTA_MODE, **_IT), "mode"), "{{mode}}")],
                Look(stacked=True, decimals=0, colors={"degraded": RED}),
            ),
            lines(
                "Decided without the store",
                "Requests a second that gateways decided by their own counters. 0 unless the store"
                " is away; as long as it is not, limits hold only roughly.",
                "reqps",
                [Query(degraded, "degraded")],
                Look(((0.001, RED),)),
            ),
            lines(
                "Store restored",
                "Times that the quota store had forgotten and was told by the ledger. Each is a"
                " restart of Valkey without its data: see to its persistence.",
                "short",
                [Query(total(increase(contract.RESTORED, "1h")), "in an hour")],
                Look(decimals=0),
            ),
            _each(
                "Age of the snapshot",
                contract.SNAPSHOT_AGE,
                "s",
                "Since teams and keys were last known to be current. Above two minutes revoked keys"
                " still work; at GPTOSS_DATABASE__SNAPSHOT_MAX_AGE the gateway turns unready. See"
                " to PostgreSQL.",
                Look(((120, RED),)),
            ),
            lines(
                "Keys",
                "Keys in the snapshot, and failures to refresh it in ten minutes. Keys that differ"
                " between gateways: one does not reach the database.",
                "short",
                [
                    Query(highest(gauge(contract.KEYS, **_IT), "pod"), "{{pod}}: keys"),
                    Query(_unrefreshed(), "{{pod}}: failures"),
                ],
                Look(decimals=0),
            ),
        ),
    )


def _unrefreshed() -> Expr:
    return total(increase(contract.KEY_REFRESH_FAILURES, "10m", **_IT), "pod")


def _unaccounted() -> Expr:
    # Every gateway reads all engines, and charges its own requests alone. At each moment the one
    # that saw most: over a longer time none may have, since all begin at 0 with a rollout.
    # Engines may call a model otherwise than clients do: only sums over models can be compared.
    seen = highest(rate(contract.ENGINE_TOKENS), "namespace", "model", "kind")
    engines = total(seen, "kind")
    charged = total(rate(contract.TOKENS_CHARGED, kind=("prompt", "completion")), "kind")
    return averaged(engines - charged) / averaged(engines).above(0)


def _accounts() -> Row:
    unconfirmed = total(rate(contract.UNCONFIRMED, model="$model"), "settlement")
    return Row(
        "Accounts",
        (
            lines(
                "Settlements by kind",
                "Admitted requests that ended, by how their use is known. `exact` is the engine's"
                " own word. `cut` is clients that left; `estimated` and `expired` should be none:"
                " engines that died, gateways that were killed.",
                "ops",
                [
                    Query(
                        total(rate(contract.SETTLED, model="$model"), "settlement"),
                        "{{settlement}}",
                    )
                ],
                Look(stacked=True),
            ),
            lines(
                "Unconfirmed tokens",
                "Tokens charged a second that no engine reported at an answer's end. Many: clients"
                " leave often, or engines die; teams may ask about their bills.",
                "short",
                [Query(unconfirmed, "{{settlement}}")],
                Look(stacked=True),
            ),
            lines(
                "Unaccounted tokens",
                "Share of the tokens of engines that nobody was charged for, up to each moment, in"
                " as long a time as is chosen. A few are those between a client's leaving and the"
                " engine's noticing; in a short time it swings, also below 0, since streams are"
                " charged at their end. Above 5% in an hour (TokensUnaccounted): somebody reaches"
                " engines past the gateway, or settlements were lost.",
                "percentunit",
                [Query(_unaccounted(), "{{kind}}")],
                Look(((0.05, RED),), least=None),
            ),
            _each(
                "Settlements pending",
                contract.SETTLEMENTS_PENDING,
                "short",
                "Settlements that the quota store has not got yet. It falls to 0 within seconds;"
                " growing is a store that is away or slow.",
            ),
            _each(
                "Ledger pending",
                contract.LEDGER_PENDING,
                "short",
                "Lines of the ledger that are not in the database. Above 10,000 for minutes:"
                " PostgreSQL is away or slow. Nothing is lost before GPTOSS_LEDGER__MAX_PENDING.",
                Look(((10000, RED),)),
            ),
            _each(
                "Journal failed",
                contract.JOURNAL_FAILED,
                "bool_yes_no",
                "Yes while lines of the ledger wait that are in no journal: a kill would lose them."
                " The volume of /var/lib/gptoss is full or read-only.",
                Look(((1, RED),), most=1),
            ),
        ),
    )


PAGE: Final = Page(
    "gptoss-gateway",
    "The gateways: what they cost, whether they keep up, and what they depend on.",
    (_overview(), _cost(), _stores(), _accounts(), retries.row()),
    (MODEL, GATEWAY),
)
