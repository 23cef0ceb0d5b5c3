"""Teams: what they use of what they may, what they were refused, and what it costs."""

from collections.abc import Mapping
from typing import Final

from deploy.observability import vllm
from deploy.observability.page import MODEL, Page, Row, choice, typed
from deploy.observability.panels import (
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
    stat,
    table,
)
from deploy.observability.promql import (
    RANGE,
    RATE,
    STEP,
    Expr,
    Not,
    Value,
    gauge,
    highest,
    increase,
    integral,
    least,
    number,
    or_none,
    rate,
    renamed,
    slope,
    total,
)
from service.telemetry import contract
from service.telemetry.contract import (
    ADMITTED,
    NONE,
    OUTCOMES,
    REFUSED,
    REQUESTS,
    TOKENS_CHARGED,
)

BUDGETS: Final = ("day", "month")
SPENT: Final = ("prompt", "completion")
"""The two kinds of tokens of which the others are a part."""

# Of outcomes those of requests that the service was to answer: not of what clients did wrong.
_SERVICE: Final = (
    *("ok", "client_gone", "client_stalled"),
    *OUTCOMES[OUTCOMES.index("insufficient_quota") :],
)

TEAM: Final = choice("team", "Team", ADMITTED, "team")
GPUS: Final = typed(
    "gpus",
    "GPUs per replica",
    "1",
    "What one replica occupies: its profile's tensor parallel size.",
)
_ITS_PAGE: Final = page_link("Only this team", "gptoss-teams", team="${__value.raw}")
_THIS: Final = page_link("Only this team", "gptoss-teams", team="${__field.labels.team}")
_FILLING: Final = Look(((0.8, YELLOW), (0.95, RED)), most=1, links=(_THIS,))


# Each installation has teams and limits of its own, and all its gateways say the same of them.
_ONE: Final = ("namespace", "team")
_ENGINE: Final = ("namespace", "pod", "instance")
_SPENT: Final[Mapping[str, Value]] = {"model": "$model", "kind": SPENT}


def _quota(which: contract.Family) -> Expr:
    return highest(gauge(which, team="$team"), "namespace", "team", "limit")


def _budget(which: contract.Family, kind: str) -> Expr:
    return highest(gauge(which, team="$team", limit=kind), *_ONE)


def _left(kind: str) -> Expr:
    """Tokens of a budget that nobody has used or reserved."""
    used, reserved = _budget(contract.QUOTA_USED, kind), _budget(contract.QUOTA_RESERVED, kind)
    taken = used + or_none(reserved, used)
    return _budget(contract.QUOTA_LIMIT, kind) - taken


def _exhausted(kind: str) -> Expr:
    """Seconds until it is gone, at the pace of the last half hour. None where nothing is used."""
    pace = highest(slope(contract.QUOTA_USED, "30m", team="$team", limit=kind), *_ONE).above(0)
    # More than all may be used: requests may use more than they reserved.
    return least(_left(kind), 0) / pace


def _used() -> Expr:
    return _quota(contract.QUOTA_USED) / _quota(contract.QUOTA_LIMIT).above(0)


def _limits() -> Row:
    return Row(
        "Limits",
        (
            bars(
                "Use against limits",
                "How much of each limit is taken now. A team that is always near the end of one"
                " gets refusals: raise it (`gptoss team set`), or tell the team. `concurrency`"
                " full with short answers means that it holds streams open.",
                "percentunit",
                [Query(_used(), "{{team}}, {{limit}}", once=True)],
                _FILLING,
                wide=12,
            ),
            lines(
                "Use against limits, over time",
                "The same over time. A saw that touches 1 every minute is a client without"
                " back-off; a day's budget that is full by noon is too small, or a loop.",
                "percentunit",
                [Query(_used(), "{{team}}, {{limit}}")],
                _FILLING,
                wide=12,
            ),
            _time_left("day", 4 * 3600),
            _time_left("month", 3 * 86400),
            lines(
                "Reserved",
                "Tokens that open requests have reserved of a budget: what they may use at most."
                " Much more than is then used: clients ask for a larger `max_tokens` than they"
                " need, and so are refused early.",
                "short",
                [Query(_quota(contract.QUOTA_RESERVED), "{{team}}, {{limit}}")],
                Look(links=(_THIS,)),
            ),
            lines(
                "Debt",
                "By how much a team is over a limit, since requests used more than they reserved."
                " It is paid by waiting. Debt that grows: estimates are too low for this team's"
                " prompts; look at `gptoss usage`.",
                "short",
                [Query(_quota(contract.QUOTA_DEBT), "{{team}}, {{limit}}")],
                Look(links=(_THIS,)),
            ),
        ),
    )


def _time_left(kind: str, soon: float) -> Panel:
    return bars(
        f"Time until the {kind}'s budget is gone",
        f"At the pace of the last half hour. Red, and the {kind} is not nearly over: talk to the"
        " team, or raise the budget before its requests are refused. A team without a bar has no"
        " such budget, or uses nothing now.",
        "s",
        [Query(_exhausted(kind), "{{team}}", once=True)],
        Look(((soon, YELLOW), (4 * soon, GREEN)), RED, links=(_THIS,)),
    )


def _refusals() -> Row:
    asked = {"team": "$team"}
    refused = total(rate(REFUSED, **asked), "team")
    admitted = total(rate(ADMITTED, **asked), "team")
    return Row(
        "Admitted and refused",
        (
            lines(
                "Admitted",
                "Requests a second that all limits had room for. A team that stops: its key, its"
                " client, or a limit (beside this).",
                "reqps",
                [Query(admitted, "{{team}}")],
                Look(stacked=True, links=(_THIS,)),
            ),
            lines(
                "Refused, by limit",
                "Requests a second refused for a limit of the team, the key or the model. One limit"
                " all the time: raise it or have the client honour Retry-After. `store`, `away`:"
                " the quota store is not there (Gateway).",
                "reqps",
                [
                    Query(
                        total(rate(REFUSED, **asked), "team", "scope", "limit"),
                        "{{team}}: {{limit}} of {{scope}}",
                    )
                ],
                Look(stacked=True, links=(_THIS,)),
                needs="fault: a team that runs into a limit",
            ),
            lines(
                "Share refused",
                "Of a team's requests, those that a limit refused. Above a tenth for long, the"
                " limit is not what the team needs, or its client retries without waiting.",
                "percentunit",
                [Query(_share_refused(refused, admitted), "{{team}}")],
                Look(((0.1, YELLOW), (0.5, RED)), most=1, links=(_THIS,)),
            ),
        ),
    )


def _share_refused(refused: Expr, admitted: Expr) -> Expr:
    # A team may never have been refused, or never admitted: the latter is who needs this panel.
    no, yes = or_none(refused, admitted), or_none(admitted, refused)
    return no / (yes + no).above(0)


def tokens() -> Expr:
    """A team's tokens a second."""
    return total(rate(TOKENS_CHARGED, model="$model", kind=SPENT, team="$team"), "team")


def _share_of_tokens() -> Expr:
    everyone = total(increase(TOKENS_CHARGED, RANGE, **_SPENT))
    its = total(increase(TOKENS_CHARGED, RANGE, team="$team", **_SPENT), "team")
    return its / everyone.above(0)


def _replicas() -> Expr:
    """Engines that answer Prometheus, by model. No metric of gateways says which model a pool has,
    so they go by their own name of it."""
    each = number(gauge(vllm.RUNNING, model_name="$model"), *_ENGINE, "model_name")
    by_name = number(each, "namespace", "model_name")
    return total(renamed(by_name, "model_name", "model"), "namespace", "model")


def _split(used: Expr, of_teams: Expr, of_all: Expr) -> Expr:
    """What models occupy, by team: each model's among those who used that model."""
    by_model = ("namespace", "model")
    share = total(of_teams, *by_model, "team") / total(of_all, *by_model).above(0)
    return total((share * used).times("$gpus"), "team")


def _gpus_now() -> Expr:
    return _split(
        _replicas(),
        rate(TOKENS_CHARGED, RATE, team="$team", **_SPENT),
        rate(TOKENS_CHARGED, RATE, **_SPENT),
    )


def _gpu_seconds() -> Expr:
    return _split(
        integral(_replicas()),
        increase(TOKENS_CHARGED, RANGE, team="$team", **_SPENT),
        increase(TOKENS_CHARGED, RANGE, **_SPENT),
    )


def _cost() -> Row:
    return Row(
        "Chargeback",
        (
            table(
                "Bill of the chosen time",
                "Tokens by kind, and GPU-seconds: of each model chosen, the team's share of its"
                " prompt and completion tokens, times the GPUs of its engines that answered,"
                " idle time included. Engines are looked at every"
                f" {STEP} s: each that comes or goes may count that much too much or too little. A"
                " model that nobody used, or that engines call otherwise than clients do, is in"
                " nobody's GPU-seconds. Bills are made of the ledger (`gptoss usage`); more than a"
                " percent apart, see unaccounted tokens on Gateway.",
                {"team": "Team"},
                [
                    *(
                        Column(f"{kind.capitalize()} tokens", _counted(kind), "short", decimals=2)
                        for kind in contract.TOKENS
                    ),
                    Column("Share of tokens", _share_of_tokens(), "percentunit"),
                    Column("GPU-seconds", _gpu_seconds(), "s"),
                ],
                {"team": (_ITS_PAGE,)},
            ),
            lines(
                "Tokens by team",
                "Prompt and completion tokens a second. A team that suddenly takes most of it: its"
                " limits are larger than its share should be.",
                "short",
                [Query(tokens(), "{{team}}")],
                Look(stacked=True, links=(_THIS,)),
                wide=12,
            ),
            lines(
                "GPUs by team",
                "The GPUs of each model's engines, split as its tokens are. Set `GPUs per replica`"
                " above. It is a rule for sharing costs: a completion token costs more than a"
                " prompt's, and a cached one next to nothing, so compare only teams of like use.",
                "short",
                [Query(_gpus_now(), "{{team}}")],
                Look(stacked=True, links=(_THIS,)),
                wide=12,
            ),
        ),
    )


def _counted(kind: str) -> Expr:
    return total(increase(TOKENS_CHARGED, model="$model", kind=kind, team="$team"), "team")


def _jain(window: str) -> Expr:
    """1 where all that ask get alike; 1/n where one of n gets everything. Who asked and got nothing
    is one of them: admitted or refused, a request counts as asked when it ends."""
    given: Mapping[str, Value] = {"model": "$model", "team": Not(NONE)}
    got = total(increase(TOKENS_CHARGED, window, kind=SPENT, **given), "team")
    asked = total(increase(REQUESTS, window, outcome=_SERVICE, **given), "team")
    each = or_none(got.above(0), asked.above(0))
    return total(each).squared() / (number(each) * total(each.squared()).above(0))


def _fairness() -> Row:
    missed = {"model": "$model", "team": "$team"}
    good = total(rate(contract.SLO_GOOD, **missed), "team", "slo")
    counted = total(rate(contract.SLO_REQUESTS, **missed), "team", "slo")
    return Row(
        "Fairness and service",
        (
            stat(
                "Fairness",
                "Jain's index of the tokens of all teams that asked in the chosen time, also of"
                " those that got nothing: 1 is alike, 1/n is that one of n teams has everything."
                " Low is bad only while there is a queue (Capacity): then set limits or weights of"
                " the team that has most. Where nobody got anything there is none.",
                "short",
                [Query(_jain(RANGE), once=True)],
                Look(((0.3, YELLOW), (0.6, GREEN)), RED, most=1, decimals=2),
                wide=6,
            ),
            lines(
                "Fairness over time",
                "The same over ten minutes each. A fall together with other teams' attainment"
                " (beside this) says that one team's load is felt by others.",
                "short",
                [Query(_jain("10m"), "Jain's index")],
                Look(most=1),
                wide=6,
            ),
            lines(
                "Attainment by team",
                "Share of a team's requests that met each objective. One team alone below the"
                " others: its prompts or answers are longer, or its limits make it wait. All at"
                " once: Service.",
                "percentunit",
                [Query(or_none(good, counted) / counted.above(0), "{{team}}, {{slo}}")],
                Look(most=1, links=(_THIS,)),
                wide=12,
            ),
        ),
    )


PAGE: Final = Page(
    "gptoss-teams",
    "What each team uses of what it may, and what that costs.",
    (_limits(), _refusals(), _cost(), _fairness()),
    (TEAM, MODEL, GPUS),
    time="now-6h",
)
