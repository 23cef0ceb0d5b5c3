"""A metric that is gone takes its panels and alerts with it, silently: one alert for each.

Every installation by itself, so not by `absent`, which knows no namespace: what is there when a
gateway runs, unless there is the metric. Without any gateway that is nothing, and says nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from deploy.observability import vllm
from deploy.observability.rules.alert import Alert, Severity, lines
from service.telemetry import contract
from service.telemetry.contract import Family, Kind


@dataclass(frozen=True, slots=True)
class Guard:
    """Only while `expr` gives something by namespace is the metric expected. `why` it is not
    otherwise."""

    expr: str
    why: str


_GATEWAY: Final = Guard("count by (namespace) (gptoss_gateway_info)", "no gateway is scraped")
_POOLS: Final = Guard(
    "count by (namespace) (gptoss_gateway_replicas)", "no pool is configured, or replicas are gone"
)
_REPLICAS: Final = Guard(
    "sum by (namespace) (gptoss_gateway_replicas) > 0", "a pool may have no replica"
)
_ENGINE: Final = Guard(
    'sum by (namespace) (gptoss_gateway_replicas{state="up"}) > 0', "no engine runs"
)
_LIMITED: Final = Guard(
    "count by (namespace) (gptoss_gateway_quota_limit)", "no team that has limits was seen yet"
)

GUARDS: Final[Mapping[Family, Guard]] = {
    contract.INFO: Guard(
        f"count by (namespace) ({contract.IN_FLIGHT.exported})",
        "it is the one by which others are expected",
    ),
    contract.REPLICAS: _GATEWAY,
    contract.QUOTA_LIMIT: Guard(
        "sum by (namespace) "
        '(increase(gptoss_gateway_quota_refused_total{scope="team", limit!="away"}[1h])) > 0',
        "no team that has limits was seen yet: that one was refused by its own is a sign of it",
    ),
    contract.QUOTA_USED: _LIMITED,
    contract.QUOTA_DEBT: _LIMITED,
    contract.QUOTA_RESERVED: Guard(
        'count by (namespace) (gptoss_gateway_quota_limit{limit=~"day|month"})',
        "no team that has a budget was seen yet",
    ),
    contract.REPLICA_STATE: _REPLICAS,
    contract.REPLICA_REQUESTS: _REPLICAS,
    contract.REPLICA_TOKENS: _REPLICAS,
}
"""Of families that are not there from a gateway's start on. All others are: those with a pool as
label where there is a pool, the rest where there is a gateway."""

ENGINE_METRICS: Final = (
    *(one.name + ("_count" if one.kind is Kind.HISTOGRAM else "") for one in vllm.METRICS),
    "vllm:cache_config_info",
    "vllm:iteration_tokens_total_count",
)
"""Of the engine's, those that dashboards and rules ask for."""


def guard_of(family: Family) -> Guard:
    """When a family is expected."""
    return GUARDS.get(family) or (_POOLS if "pool" in family.label_names else _GATEWAY)


def alerts() -> Iterator[Alert]:
    """One for each metric of the contract, and for each of the engine's that is asked for."""
    for family in contract.FAMILIES:
        yield _missing(family.exported, guard_of(family), "gateways")
    for name in ENGINE_METRICS:
        yield _missing(name, _ENGINE, "engines")


def _missing(metric: str, guard: Guard, owner: str) -> Alert:
    return Alert(
        "MetricMissing",
        Severity.TICKET,
        lines(guard.expr, f"unless on (namespace) count by (namespace) ({metric})"),
        "15m",
        f"{metric} is missing in {{{{ $labels.namespace }}}}",
        f"There should be {metric} by now (by {{{{ $value }}}} of what makes it), and there is"
        f" none: panels and alerts that go by it show nothing. Look first whether all {owner} are"
        " scraped, then whether their version fits these rules.",
        "gptoss-gateway",
        labels={"metric": metric},
    )
