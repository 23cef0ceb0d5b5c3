"""What panels say in situations in which it is easy to say something else: each is a requirement.

Gateways and engines are those of `rule_tests`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from service.telemetry.contract import NONE, STATES
from tests.observability.panel_case import Answer, Case
from tests.observability.rule_tests import (
    NAMESPACE,
    Series,
    engine,
    gateway,
    needs_promtool,
    series,
)

LARGE, SMALL = "gpt-oss-120b", "gpt-oss-20b"
OLD, NEW = ["gateway-0", "gateway-1"], ["gateway-2", "gateway-3"]


def _grows(by: float, looks: int = 60) -> str:
    return f"0+{by:g}x{looks}"


def _spent(team: str, by: float, model: str = LARGE) -> Series:
    """A team's tokens of answers, more at each look."""
    labels = {"model": model, "team": team, "kind": "completion"}
    return gateway("tokens_total", _grows(by), ["gateway-0"], **labels)


def _asked(team: str, outcome: str, model: str = LARGE) -> Series:
    status = {"ok": "200", "rate_limit_exceeded": "429"}[outcome]
    labels = {"route": "chat", "model": model, "team": team, "status": status, "outcome": outcome}
    return gateway("requests_total", _grows(1), ["gateway-0"], **labels)


def _runs(values: str, number: int = 0, model: str = LARGE) -> Series:
    return engine("num_requests_running", values, number, model_name=model)


def _replicas(pod: str, **states: int) -> Series:
    """A pool's as one gateway sees them."""
    found: dict[str, str] = {}
    for state in STATES:
        values = f"{states.get(state, 0)}x60"
        found |= gateway("replicas", values, [pod], pool="h100", state=state)
    return found


def _works(number: int, state: str, tokens: int) -> Series:
    """A replica with its state, and its work of each gateway."""
    replica = {"pool": "h100", "replica": f"http://engine-{number}:8100"}
    return {
        **gateway("replica_state", "1x60", state=state, **replica),
        **gateway("replica_tokens_in_flight", f"{tokens}x60", **replica),
    }


def _demand(open_: int) -> Series:
    """Requests that each of two gateways has at a replica; none waits."""
    found: dict[str, str] = {}
    for short in ("queue_waiting", "queue_held"):
        found |= gateway(short, "0x60", pool="h100")
    replica = {"pool": "h100", "replica": "http://engine-0:8100"}
    return found | gateway("replica_requests_in_flight", f"{open_}x60", **replica)


def _team(name: str, value: float) -> Answer:
    return {"team": name}, value


_BILL: Final = ("teams", "Bill of the chosen time")
_SECONDS: Final = 5
"""The column of GPU-seconds."""
_TWO_MODELS: Final = {
    **_runs("1x60", 0),
    **_runs("1x60", 1),
    **_runs("1x60", 2, SMALL),
    **_spent("a", 300),
    **_spent("b", 100),
    **_spent("b", 50, SMALL),
}
CHARGEBACK: Final = (
    Case(
        *_BILL,
        "an engine that was away for half of the time is charged for the other half",
        {**_runs("1x20 stale _x19 1x20"), **_spent("a", 10)},
        (_team("a", 300),),
        _SECONDS,
    ),
    Case(
        *_BILL,
        "each model's GPUs are shared by who used that model",
        _TWO_MODELS,
        (_team("a", 900), _team("b", 300 + 600)),
        _SECONDS,
    ),
    Case(
        *_BILL,
        "of one model, its own GPUs, by its own tokens",
        _TWO_MODELS,
        (_team("b", 600),),
        _SECONDS,
        {"model": SMALL},
    ),
    Case(
        *_BILL,
        "of one team, its share among all",
        _TWO_MODELS,
        (_team("a", 900),),
        _SECONDS,
        {"team": "a"},
    ),
    Case(
        "teams",
        "GPUs by team",
        "as the bill has it, now",
        _TWO_MODELS,
        (_team("a", 1.5), _team("b", 0.5 + 1)),
    ),
)

FAIRNESS: Final = (
    Case(
        "teams",
        "Fairness",
        "a team whose every request is refused got nothing, and counts",
        {
            **_spent("a", 100),
            **_asked("a", "ok"),
            **_asked("b", "rate_limit_exceeded"),
        },
        (({}, 0.5),),
    ),
    Case(
        "teams",
        "Fairness",
        "a team that asks for nothing does not",
        {
            **_spent("a", 100),
            **_spent("b", 100),
            **_spent("idle", 0),
            **_asked("a", "ok"),
            **_asked("b", "ok"),
        },
        (({}, 1),),
    ),
    Case(
        "teams",
        "Fairness",
        "who is refused another model does not want for this one",
        {**_spent("a", 100), **_asked("a", "ok"), **_asked("b", "rate_limit_exceeded", SMALL)},
        (({}, 1),),
        chosen={"model": LARGE},
    ),
    Case(
        "teams",
        "Fairness",
        "where nobody gets anything there is no fairness, and no error",
        {**_asked("a", "rate_limit_exceeded"), **_spent("a", 0)},
        (),
    ),
)

LIMITS: Final = (
    Case(
        "teams",
        "Share refused",
        "a team that never got in is refused altogether",
        gateway("quota_refused_total", _grows(1), team="b", scope="team", limit="requests"),
        (_team("b", 1),),
    ),
    Case(
        "teams",
        "Time until the day's budget is gone",
        "more than all of it is used: no time is left, and not less than none",
        {
            **gateway("quota_limit", "100x60", team="a", limit="day"),
            **gateway("quota_used", _grows(5), team="a", limit="day"),
        },
        (({"namespace": NAMESPACE, "team": "a"}, 0),),
    ),
    Case(
        "teams",
        "Use against limits",
        "teams of one name in two installations have a limit each",
        {
            **gateway("quota_limit", "100x60", team="a", limit="day"),
            **gateway("quota_used", "80x60", team="a", limit="day"),
            **series(
                "gptoss_gateway_quota_limit", "1000x60", namespace="staging", team="a", limit="day"
            ),
            **series(
                "gptoss_gateway_quota_used", "10x60", namespace="staging", team="a", limit="day"
            ),
        },
        (
            ({"namespace": NAMESPACE, "team": "a", "limit": "day"}, 0.8),
            ({"namespace": "staging", "team": "a", "limit": "day"}, 0.01),
        ),
    ),
)

_DIFFERING: Final = {**_replicas("gateway-0", up=2), **_replicas("gateway-1", up=1, ejected=1)}
_OTHERWISE: Final = {**_replicas("gateway-0", up=1, trial=1), **_replicas("gateway-1", up=2)}
_NONE_UP: Final = {**_replicas("gateway-0", down=2), **_replicas("gateway-1", down=2)}
_OF_POOL: Final = {"namespace": NAMESPACE, "pool": "h100"}
REPLICAS: Final = (
    Case(
        "replicas",
        "Replicas by state",
        "gateways that differ about one make no third of two",
        _DIFFERING,
        tuple(
            ({"pool": "h100", "state": state}, {"up": 1.5, "ejected": 0.5}.get(state, 0))
            for state in STATES
        ),
    ),
    Case(
        "capacity",
        "Replicas that serve",
        "up to one gateway and on trial to another is one that serves",
        _OTHERWISE,
        (({}, 2),),
    ),
    Case(
        "capacity",
        "Headroom",
        "two requests of each gateway at two replicas of ten seats",
        {**_OTHERWISE, **_demand(2)},
        (({}, 0.8),),
    ),
    Case("capacity", "Headroom", "no replica is up: none", {**_NONE_UP, **_demand(2)}, (({}, 0),)),
    Case(
        "capacity",
        "Headroom",
        "no replica is up, and nobody asks: none either",
        {**_NONE_UP, **_demand(0)},
        (({}, 0),),
    ),
    Case("capacity", "Headroom", "a metric that is missing is no full pool", _demand(2), ()),
    Case(
        "capacity",
        "Seats taken",
        "all of none, where no replica is up",
        {**_NONE_UP, **_demand(2)},
        ((_OF_POOL, 1),),
    ),
    Case(
        "replicas",
        "Most loaded against the average",
        "a replica that is out makes the others no more loaded",
        {**_works(0, "up", 50), **_works(1, "up", 50), **_works(2, "down", 0)},
        ((_OF_POOL, 1),),
    ),
)


def _engines(values: str, pods: Sequence[str]) -> Series:
    return gateway("engine_tokens_total", values, pods, model=LARGE, kind="completion")


def _charged(values: str, pods: Sequence[str]) -> Series:
    """By each of them, for requests of its own."""
    labels = {"model": LARGE, "team": "a", "kind": "completion"}
    return gateway("tokens_total", values, pods, **labels)


_COMPLETION: Final = {"kind": "completion"}
ACCOUNTS: Final = (
    Case(
        "gateway",
        "Unaccounted tokens",
        "every gateway sees all engines: they are counted once",
        {**_engines(_grows(100), OLD), **_charged(_grows(45), OLD)},
        ((_COMPLETION, 0.1),),
    ),
    Case(
        "gateway",
        "Unaccounted tokens",
        "new gateways begin at 0, and old ones end: it says the same",
        {
            **_engines(_grows(100, 24) + " stale", OLD),
            **_charged(_grows(45, 20) + " 900x3 stale", OLD),
            # They overlap for two minutes, as in a rollout that cuts no stream.
            **_engines("_x16 " + _grows(100, 40), NEW),
            **_charged("_x16 0x4 45+45x40", NEW),
        },
        ((_COMPLETION, 0.1),),
    ),
)


def _objective(model: str, asked: str, good: str, team: str = "a") -> Series:
    labels = {"model": model, "team": team, "slo": "availability"}
    return {
        **gateway("slo_requests_total", asked, ["gateway-0"], **labels),
        **gateway("slo_good_total", good, ["gateway-0"], **labels),
    }


_RECORDED: Final = "gptoss-objectives"
OBJECTIVES: Final = (
    Case(
        "service",
        "Failures that are ours",
        "of the requests that the objective is about, whatever quotas refuse",
        {
            **_objective(LARGE, _grows(10), _grows(9)),
            **gateway(
                "requests_total",
                _grows(90),
                ["gateway-0"],
                route="chat",
                model=LARGE,
                team="a",
                status="429",
                outcome="rate_limit_exceeded",
            ),
            **_objective(NONE, _grows(10), _grows(0), NONE),
        },
        (({"model": LARGE}, 0.1),),
    ),
    Case(
        "service",
        "Failures that are ours",
        "before a model is known it is nobody's own, and of all requests",
        {
            **_objective(LARGE, _grows(30), _grows(30)),
            **_objective(NONE, _grows(10), _grows(0), NONE),
        },
        (({}, 0.25),),
        query=1,
    ),
    Case(
        "service",
        "Objective: answered",
        "without requests it is neither met nor missed",
        _objective(LARGE, "5x60", "5x60"),
        (),
    ),
    Case(
        "service",
        "Objective: answered",
        "where nothing was good yet there is no such series, and it is missed",
        _objective(LARGE, _grows(5), "_x60"),
        (({}, 0),),
    ),
    Case(
        "service",
        "Error budget left",
        "by what was recorded, of the model that has least, and not of one that was asked once",
        {
            # One of a thousand fails: a fifth of what may.
            **_objective(LARGE, "0+1000x400", "0+999x400"),
            **_objective(SMALL, "0+10x400", "0+10x400"),
            **_objective("rare", "0x100 1x300", "0x400"),
        },
        (({}, 0.8),),
        at="6h",
        rules=_RECORDED,
    ),
    Case(
        "service",
        "Error budget left",
        "what failed before its model was known is measured by all requests",
        {
            **_objective(LARGE, "0+999x400", "0+999x400"),
            **_objective(NONE, "0+1x400", "0x400", NONE),
        },
        (({}, 0.8),),
        at="6h",
        rules=_RECORDED,
    ),
)

CASES: Final = (
    *CHARGEBACK,
    *FAIRNESS,
    *LIMITS,
    *REPLICAS,
    *ACCOUNTS,
    *OBJECTIVES,
)


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_panel_says(case: Case, tmp_path: Path) -> None:
    case.holds(tmp_path)
