"""What users are promised, and who is told how fast the promise is being broken.

An objective allows a share of requests to be bad: its budget, over 30 days. An alert goes by how
many times faster than that it is spent, over a long window (so that a blip is none) and over a
short one (so that it ends soon after its cause). Gateways decide what counts: requests refused for
cause or given up by the client are in no objective, and a failed one is bad in each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from deploy.observability.rules.alert import Alert, Recording, Severity, lines

QUICK: Final = ("5m", "30m", "1h", "2h", "6h")
SLOW: Final = ("1d", "3d")
"""They read so much that they are computed less often."""
WINDOWS: Final = (*QUICK, *SLOW)
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Objective:
    """A promise for each model: `percent` of its requests are good, over 30 days."""

    slo: str
    alert: str
    percent: str
    bad: str
    why: str

    @property
    def budget(self) -> Decimal:
        """The share that may be bad."""
        return 1 - Decimal(self.percent) / 100


OBJECTIVES: Final = (
    Objective(
        "availability",
        "AvailabilityBudgetBurn",
        "99.5",
        "failed: an error of ours, a broken stream, or no room",
        why="3.6 hours of outage in 30 days: what one cluster with in-place upgrades of GPU nodes"
        " can keep",
    ),
    Objective(
        "ttft",
        "TTFTBudgetBurn",
        "99",
        "had no first token in time (gptoss_gateway_slo_bound_seconds)",
        why="one prompt in a hundred may be long or come in a burst; MLPerf's bounds are for p99",
    ),
    Objective(
        "tpot",
        "TPOTBudgetBurn",
        "99",
        "had slower tokens than promised (gptoss_gateway_slo_bound_seconds)",
        why="as for the first token: MLPerf's bounds are for p99",
    ),
)
"""All of them; change `percent` here, and everything follows."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A budget that is spent `factor` times too fast. `least` requests in the long window are
    needed to say so: with fewer, three bad ones would be enough."""

    factor: str
    long: str
    short: str
    severity: Severity
    hold: str
    spent: str
    least: int


# Windows and factors are of Google's SRE workbook, for 30 days.
BURNS: Final = (
    Burn("14.4", "1h", "5m", Severity.PAGE, "2m", "2% of 30 days' budget in an hour", 50),
    Burn("6", "6h", "30m", Severity.PAGE, "5m", "5% of 30 days' budget in six hours", 150),
    Burn("3", "1d", "2h", Severity.TICKET, "15m", "10% of 30 days' budget in a day", 300),
    Burn("1", "3d", "6h", Severity.TICKET, "15m", "10% of 30 days' budget in three days", 1000),
)


def seconds(window: str) -> int:
    """How long a window is."""
    return int(window[:-1]) * _SECONDS[window[-1]]


def recordings(windows: Iterable[str]) -> Iterator[Recording]:
    """Requests per second of each model and objective, and the bad ones among them, by window.

    The gateways' series, of each team, are read once for each window; the rest is of what was
    recorded before.
    """
    for window in windows:
        asked, good = f"gptoss:slo_asked:rate{window}", f"gptoss:slo_good:rate{window}"
        for record, name in ((asked, "requests"), (good, "good")):
            rate = f"rate(gptoss_gateway_slo_{name}_total[{window}])"
            yield Recording(record, f"sum by (namespace, model, slo) ({rate})")
        # What failed before its model was known is bad, and none such is ever good: it is measured
        # by the requests of all models.
        measured = (
            f'sum by (namespace, slo) ({asked}) and on (namespace, slo) {asked}{{model="none"}}'
        )
        unknown = f'label_replace({measured}, "model", "none", "slo", ".*")'
        known = f'{asked}{{model!="none"}}'
        yield Recording(f"gptoss:slo_requests:rate{window}", f"{known} or {unknown}")
        # Where nothing was good yet there may be no such series: that is 0, and not no answer.
        bad = f"clamp_min({asked} - ({good} or 0 * {asked}), 0)"
        yield Recording(f"gptoss:slo_bad:rate{window}", bad)


def alerts() -> Iterator[Alert]:
    """Each objective at each speed."""
    for objective in OBJECTIVES:
        for burn in BURNS:
            yield _alert(objective, burn)


def _alert(objective: Objective, burn: Burn) -> Alert:
    return Alert(
        objective.alert,
        burn.severity,
        lines(
            f"{_share(objective, burn.long)} > {burn.factor} * {objective.budget.normalize()}",
            "and",
            f"{_share(objective, burn.short)} > {burn.factor} * {objective.budget.normalize()}",
            "and",
            f"{_of('requests', objective, burn.long)} * {seconds(burn.long)} > {burn.least}",
        ),
        burn.hold,
        f"{{{{ $labels.model }}}} breaks its {objective.slo} objective of {objective.percent}%"
        f" {burn.factor} times too fast",
        f"In the last {burn.long} {{{{ $value | humanizePercentage }}}} of requests for"
        f" {{{{ $labels.model }}}} in {{{{ $labels.namespace }}}} {objective.bad}; up to"
        f" {objective.budget.normalize() * 100:f}% are promised, and in the last {burn.short} it"
        f" is still so. That is {burn.spent}. {_FIRST[objective.slo]}",
        "gptoss-service",
        ("namespace", "model"),
        {"window": burn.long},
    )


_FIRST: Final = {
    "availability": "Look first which outcomes there are: errors by kind on the dashboard.",
    "ttft": "Look first whether requests wait in line or in the engine, on the dashboard.",
    "tpot": "Look first whether one replica is slow or all are full, on the dashboard.",
}


def _of(kind: str, objective: Objective, window: str) -> str:
    return f'gptoss:slo_{kind}:rate{window}{{slo="{objective.slo}"}}'


def _share(objective: Objective, window: str) -> str:
    """Without requests it is 0/0, which is above nothing."""
    return f"{_of('bad', objective, window)} / {_of('requests', objective, window)}"
