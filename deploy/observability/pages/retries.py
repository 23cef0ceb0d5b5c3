"""Second chances of requests: a row of the gateways' page."""

from typing import Final

from deploy.observability.page import Row
from deploy.observability.panels import RED, YELLOW, Look, Query, lines
from deploy.observability.promql import Expr, or_none, rate, total
from service.telemetry import contract

_IT: Final = {"pod": "$gateway"}


def row() -> Row:
    """Retries and fallbacks."""
    # What quotas refuse is never sent anywhere.
    sent = total(rate(contract.SETTLED, model="$model", **_IT))
    retried = total(rate(contract.RETRIES, model="$model", **_IT))
    return Row(
        "Retries and fallbacks",
        (
            lines(
                "Retries by fault",
                "Requests sent to another replica before their client saw a byte, by what went"
                " wrong with the one before. Users do not feel these; the replica needs a look"
                " (Replicas).",
                "reqps",
                [Query(total(rate(contract.RETRIES, model="$model", **_IT), "fault"), "{{fault}}")],
                Look(stacked=True),
            ),
            lines(
                "Retries per request",
                "Of requests that were admitted. Near the budget (GPTOSS_ROUTING__RETRY_RATIO, a"
                " fifth) engines are in trouble, and further retries are refused so that they get"
                " no more load.",
                "percentunit",
                [Query(or_none(retried, sent) / sent.above(0), "retries")],
                Look(((0.05, YELLOW), (0.2, RED))),
            ),
            lines(
                "Retries refused",
                "Retries that the budget did not allow: their clients got the error. Not 0: most"
                " replicas of the pool fail at once.",
                "reqps",
                [Query(total(rate(contract.RETRIES_REFUSED, **_IT), "pool"), "{{pool}}")],
            ),
            lines(
                "Fallbacks",
                "Requests answered by another model than they asked for, by why. `down`: no replica"
                " of the model works; `full`: it has no room (Capacity).",
                "reqps",
                [Query(_fallbacks(), "{{model}} by {{fallback}}: {{reason}}")],
            ),
            lines(
                "Refused without a replica",
                "Requests for which no replica of the pool worked, as long as they could be held"
                " (GPTOSS_ROUTING__HOLD): their clients got 503. Look why none does (Replicas).",
                "reqps",
                [Query(total(rate(contract.UNSERVED, **_IT), "pool"), "{{pool}}")],
            ),
        ),
    )


def _fallbacks() -> Expr:
    return total(rate(contract.FALLBACKS, model="$model", **_IT), "model", "fallback", "reason")
