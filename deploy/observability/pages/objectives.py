"""What pages ask about objectives: how many requests were good, and what is left of budgets."""

from collections.abc import Mapping
from typing import Final

from deploy.observability.metric import Metric
from deploy.observability.promql import (
    RATE,
    Expr,
    Not,
    Value,
    averaged_values,
    increase,
    least,
    lowest,
    or_none,
    rate,
    total,
)
from deploy.observability.rules.slo import OBJECTIVES
from service.telemetry import contract
from service.telemetry.contract import NONE, Kind, Label

BUDGETS: Final = {one.slo: float(one.budget) for one in OBJECTIVES}
"""The share of requests that may be bad, in 30 days: those that the alerts go by."""
MODELS: Final = Not(NONE, among="$model")
"""The models chosen, without that of requests which failed before theirs was known: where each is a
row or a line of its own, that one is all failures and no success."""

_DAYS: Final = 30
_LABELS: Final = (Label("model", bound="models served, and `none`"), Label("slo", contract.SLOS))


def _recorded(name: str) -> Metric:
    """A series of rules.yaml, per second over five minutes."""
    return Metric(f"gptoss:{name}:rate5m", Kind.GAUGE, _LABELS)


_ASKED: Final = _recorded("slo_requests")
_BAD: Final = _recorded("slo_bad")


def attained(slo: str, window: str, *by: str) -> Expr:
    """The share of good requests."""
    given: Mapping[str, Value] = {"model": MODELS if "model" in by else "$model", "slo": slo}
    asked = total(increase(contract.SLO_REQUESTS, window, **given), *by)
    good = total(increase(contract.SLO_GOOD, window, **given), *by)
    return or_none(good, asked) / asked.above(0)


def failing() -> Expr:
    """By model, the share of requests that availability is about and that failed."""
    given: Mapping[str, Value] = {"model": MODELS, "slo": "availability"}
    asked = total(rate(contract.SLO_REQUESTS, RATE, **given), "model")
    good = total(rate(contract.SLO_GOOD, RATE, **given), "model")
    return least(asked - or_none(good, asked), 0) / asked.above(0)


def failing_early() -> Expr:
    """Of requests for any model, those that failed before theirs was known."""
    early = total(rate(contract.SLO_REQUESTS, model=NONE, slo="availability"))
    asked = total(rate(contract.SLO_REQUESTS, slo="availability"))
    return or_none(early, asked) / asked.above(0)


def budget_left(slo: str) -> Expr:
    """Of the model that has least. A model with so few requests that not one may fail is left out.

    By what rules have recorded, since requests of 30 days themselves, of each team, are too many to
    read. Both series are recorded together, so that their means are of the same moments.
    """
    budget, by = BUDGETS[slo], ("namespace", "model")
    window, given = f"{_DAYS}d", {"model": "$model", "slo": slo}
    asked = total(averaged_values(_ASKED, window, **given), *by)
    bad = total(averaged_values(_BAD, window, **given), *by)
    one = round(1 / budget / (_DAYS * 86400), 7)
    return lowest(1 - bad / asked.above(one) / budget)
