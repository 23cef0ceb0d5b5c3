"""Alerts and objectives: made from what is declared, well-formed, and firing when they should."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.observability import pages
from deploy.observability.rules import (
    FILES,
    RUNBOOKS,
    Group,
    alerts,
    groups,
    missing,
    outputs,
    render,
    slo,
)
from deploy.observability.rules.alert import Alert
from deploy.observability.rules.slo import BURNS, OBJECTIVES, Burn, Objective
from service.telemetry import contract
from tests.observability import catalog, queries, selectors
from tests.observability.alert_cases import CASES, LONG
from tests.observability.rule_tests import (
    MODEL,
    NAMESPACE,
    Case,
    engine_target,
    gateway_target,
    needs_promtool,
    passes,
    promtool,
    series,
)

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final = {
    f"gptoss-{page}" for page in ("service", "teams", "replicas", "capacity", "gateway", "loadtest")
}


def _groups(*names: str) -> list[Group]:
    return [(name, rules) for name, rules in groups() if name.removeprefix("gptoss-") in names]


# As files.


def test_nothing_that_is_made_is_old() -> None:
    for path, text in outputs().items():
        assert (ROOT / path).read_text() == text, f"{path} is old: python -m deploy.observability"


@needs_promtool
@pytest.mark.parametrize("path", FILES, ids=str)
def test_promtool_accepts_the_rules(path: Path) -> None:
    line = ["promtool", "check", "rules", "--lint-fatal", str(ROOT / path)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_series_that_there_are() -> None:
    known = {**catalog.catalog(), **catalog.external()}
    rules = [rule.rule() for _, group in groups() for rule in group]
    known |= selectors.recorded(rules, known)
    for rule in rules:
        assert not selectors.complaints(str(rule["expr"]), known), rule


@cache
def _rules() -> list[Mapping[str, Any]]:
    return [rule for rule in queries.rules() if "alert" in rule]


def test_an_alert_has_all_that_whoever_is_paged_needs() -> None:
    for rule in _rules():
        assert re.fullmatch(r"\d+[smhd]", rule["for"]), rule
        assert rule["labels"]["severity"] in ("page", "ticket", "team", "none"), rule
        expected = {"summary", "description", "runbook_url", "dashboard_url"}
        assert rule["annotations"].keys() == expected, rule
        assert all(rule["annotations"].values()), rule
        assert "$value" in rule["annotations"]["description"] or rule["alert"] == "GatewayDown"


def test_labels_in_texts_are_those_of_the_alert() -> None:
    """One that it does not have is written as nothing."""
    for case in (*CASES, *LONG):
        for labels in case.fires:
            (rule,) = (
                rule
                for rule in _rules()
                if rule["alert"] == case.alert and rule["labels"].items() <= labels.items()
            )
            text = " ".join(rule["annotations"].values())
            used = set(re.findall(r"\$labels\.(\w+)", text))
            # Where there never was a gateway there is no namespace, either.
            assert used <= labels.keys() | {"namespace"}, case


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    for rule in _rules():
        url = rule["annotations"]["runbook_url"]
        assert url.endswith(f"/{rule['alert']}.md")
    names = {rule["alert"] for rule in _rules()}
    assert {path.stem for path in (ROOT / RUNBOOKS).glob("*.md")} == names


@cache
def _variables() -> Mapping[str, set[str]]:
    """Of each dashboard."""
    boards = [json.loads(text) for text in pages.outputs().values()]
    return {board["uid"]: {one["name"] for one in board["templating"]["list"]} for board in boards}


def test_every_alert_leads_to_a_dashboard() -> None:
    for rule in _rules():
        url = rule["annotations"]["dashboard_url"]
        found = re.fullmatch(r"/d/([a-z-]+)(\?.+)?", url)
        assert found and found[1] in BOARDS, url
        variables = set(re.findall(r"var-(\w+)=", url))
        assert variables <= _variables()[found[1]], url


# Firing and not.


def _run(tmp_path: Path, cases: Sequence[Case], every: str, interval: str) -> None:
    tests = [case.test(interval) for case in cases]
    passes(tmp_path, _groups("symptoms", "causes"), tests, every)


@needs_promtool
def test_alerts_within_minutes(tmp_path: Path) -> None:
    _run(tmp_path, CASES, "1m", "1m")


@needs_promtool
def test_alerts_that_look_at_the_day_before(tmp_path: Path) -> None:
    _run(tmp_path, LONG, "10m", "5m")


ELSEWHERE: Final = {"MetricMissing", *(one.alert for one in OBJECTIVES)}
"""Tried for each metric, objective and speed, further below."""
ALWAYS: Final = {"Watchdog"}
"""There is no situation in which these do not fire."""


def test_every_alert_is_tried_firing_and_not() -> None:
    cases = (*CASES, *LONG)
    names = {alert.name for alert in alerts()} - ELSEWHERE
    assert {case.alert for case in cases if case.fires} == names
    assert {case.alert for case in cases if not case.fires} == names - ALWAYS
    assert len({(case.alert, case.what) for case in cases}) == len(cases)


@needs_promtool
def test_what_is_not_measured_is_not_complained_of(tmp_path: Path) -> None:
    """An empty Prometheus says that there is no gateway, and nothing else."""
    test = Case("GatewayDown", "no data", series("up", "1x30", job="somebody"), "30m").test("1m")
    test["alert_rule_test"] = [
        {"eval_time": "30m", "alertname": name, "exp_alerts": []}
        for name in sorted({alert.name for alert in alerts()} - {"GatewayDown", *ALWAYS})
    ]
    passes(tmp_path, groups(), [test])


@needs_promtool
def test_texts_have_a_value_for_all_they_name(tmp_path: Path) -> None:
    """They are shown by promtool where an alert fires that is not expected."""
    firing = [case for case in CASES if case.fires]
    silent = [Case(one.alert, one.what, one.series, one.at).test("1m") for one in firing]
    done = promtool(tmp_path, render(_groups("symptoms", "causes")), silent)
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    for case in firing:
        assert f'alertname="{case.alert}"' in shown, case
    for wrong in ("<no value>", "rror expanding", "%!"):
        assert wrong not in shown


# Objectives.

every_burn = pytest.mark.parametrize(
    ("objective", "burn"),
    [
        pytest.param(objective, burn, id=f"{objective.slo} {burn.factor}")
        for objective in OBJECTIVES
        for burn in BURNS
    ],
)


def test_objectives_are_those_that_gateways_measure() -> None:
    assert tuple(objective.slo for objective in OBJECTIVES) == contract.SLOS
    for objective in OBJECTIVES:
        assert 0 < objective.budget < Decimal("0.06"), "14.4 times that can still be"
        assert objective.why


def test_burns_are_those_of_the_workbook() -> None:
    month = 30 * 86400
    spent = [float(burn.factor) * slo.seconds(burn.long) / month for burn in BURNS]
    assert spent == pytest.approx([0.02, 0.05, 0.1, 0.1])
    assert [burn.severity.value for burn in BURNS] == ["page", "page", "ticket", "ticket"]
    assert all(slo.seconds(burn.long) >= 12 * slo.seconds(burn.short) for burn in BURNS)


@every_burn
def test_more_than_three_bad_requests_are_needed(objective: Objective, burn: Burn) -> None:
    assert burn.least * Decimal(burn.factor) * objective.budget > 3


def _recorded(objective: Objective, window: str, share: float, requests: float) -> dict[str, str]:
    """What recording rules make of it. `requests` come in the window, a `share` of them bad."""
    labels = {"namespace": NAMESPACE, "model": MODEL, "slo": objective.slo}
    rate = requests / slo.seconds(window)
    return {
        **series(f"gptoss:slo_requests:rate{window}", f"{rate:.12f}x30", **labels),
        **series(f"gptoss:slo_bad:rate{window}", f"{rate * share:.12f}x30", **labels),
    }


ALMOST: Final = ("not in the long window", "over again", "too few requests")


def _burning(objective: Objective, burn: Burn, what: str, *, fires: bool = False) -> Case:
    """A situation at the edge of one alert."""
    limit = float(burn.factor) * float(objective.budget)
    least = burn.least * (0.99 if what == "too few requests" else 1.01)
    long = limit * (0.999 if what == "not in the long window" else 1.001)
    short = limit * (0.999 if what == "over again" else 1.001)
    often = slo.seconds(burn.short) / slo.seconds(burn.long)
    data = {
        **_recorded(objective, burn.long, long, least),
        **_recorded(objective, burn.short, short, least * often),
    }
    labels = {"namespace": NAMESPACE, "model": MODEL, "slo": objective.slo, "window": burn.long}
    expected = ({"severity": burn.severity.value, **labels},) if fires else ()
    return Case(objective.alert, f"{burn.factor} {what}", data, "20m", expected)


@needs_promtool
def test_budgets_at_the_edge(tmp_path: Path) -> None:
    cases: list[Case] = []
    for objective in OBJECTIVES:
        for burn in BURNS:
            cases.append(_burning(objective, burn, "just above", fires=True))
            cases += [_burning(objective, burn, what) for what in ALMOST]
    alone = [("objectives", tuple(slo.alerts()))]
    passes(tmp_path, alone, [case.test("1m") for case in cases])


@needs_promtool
def test_without_requests_no_budget_burns(tmp_path: Path) -> None:
    cases = [
        Case(
            objective.alert,
            "no requests",
            {
                name: values
                for window in slo.WINDOWS
                for name, values in _recorded(objective, window, 0, 0).items()
            },
            "20m",
        )
        for objective in OBJECTIVES
    ]
    alone = [("objectives", tuple(slo.alerts()))]
    passes(tmp_path, alone, [case.test("1m") for case in cases])


def _asked(good: int | None, minutes: int) -> dict[str, str]:
    """Ten requests a minute at each of two gateways, `good` of them; None: no such series yet."""
    found: dict[str, str] = {}
    for pod in ("gateway-0", "gateway-1"):
        labels = {**gateway_target(pod), "model": MODEL, "team": "search", "slo": "availability"}
        found |= series("gptoss_gateway_slo_requests_total", f"0+10x{minutes}", **labels)
        if good is not None:
            found |= series("gptoss_gateway_slo_good_total", f"0+{good}x{minutes}", **labels)
    return found


def _samples(window: str, requests: float, bad: float, at: str) -> list[dict[str, Any]]:
    labels = f'{{namespace="{NAMESPACE}", model="{MODEL}", slo="availability"}}'
    return [
        {
            "expr": f"round(gptoss:slo_{name}:rate{window} * 60, 0.001)",
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": value}],
        }
        for name, value in (("requests", requests), ("bad", bad))
    ]


@needs_promtool
@pytest.mark.parametrize(
    ("good", "bad"), [(10, 0), (7, 6), (0, 20), (None, 20)], ids=["all", "some", "none", "never"]
)
def test_the_good_are_told_from_the_bad(tmp_path: Path, good: int | None, bad: int) -> None:
    """Over every window; a model that has answered nothing well has no series of good ones."""
    three_days = 3 * 24 * 60
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in _asked(good, three_days).items()
        ],
        "promql_expr_test": [
            one for window in slo.WINDOWS for one in _samples(window, 20, bad, "3d")
        ],
    }
    passes(tmp_path, _groups("days", "objectives"), [test], every="1d")


@needs_promtool
def test_what_failed_before_its_model_was_known_is_measured_by_all_requests(tmp_path: Path) -> None:
    """Such are never good: by themselves they would always be a broken promise."""
    target = {**gateway_target("gateway-0"), "team": "none", "slo": "availability"}
    few = series("gptoss_gateway_slo_requests_total", "0+1x180", model="none", **target)
    many = series("gptoss_gateway_slo_requests_total", "0+1000x180", model=MODEL, **target)
    good = series("gptoss_gateway_slo_good_total", "0+1000x180", model=MODEL, **target)
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in {**few, **many, **good}.items()
        ],
        "alert_rule_test": [{"eval_time": "2h", "alertname": "AvailabilityBudgetBurn"}],
    }
    passes(tmp_path, _groups("days", "objectives"), [test])


@needs_promtool
def test_an_outage_pages_and_its_end_ends_the_page(tmp_path: Path) -> None:
    """From the gateways' counters to the page: half of all requests fail, until minute 75."""
    data = _asked(None, 100)
    for pod in ("gateway-0", "gateway-1"):
        labels = {**gateway_target(pod), "model": MODEL, "team": "search", "slo": "availability"}
        data |= series("gptoss_gateway_slo_good_total", "0+5x74 380+10x25", **labels)
    alert = "AvailabilityBudgetBurn"
    labels = {"namespace": NAMESPACE, "model": MODEL, "slo": "availability"}
    _, *rest = BURNS  # which look at more than an hour, and go on for a while
    hour = {**labels, "severity": "page", "window": "1h"}
    slower = tuple({**labels, "severity": one.severity.value, "window": one.long} for one in rest)
    during = Case(alert, "half of all fail", data, "70m", (hour, *slower)).test("1m")
    after = Case(alert, "none fails", data, "85m", slower).test("1m")
    passes(tmp_path, _groups("days", "objectives"), [during, after])


# Metrics that are gone.


def _everything(namespace: str) -> dict[str, dict[str, str]]:
    """What a busy installation exports, by metric: the least of each by which guards go."""
    found: dict[str, dict[str, str]] = {}
    for family in contract.FAMILIES:
        labels = _values(family)
        values = "0+1000x6" if family.kind is not contract.Kind.GAUGE else "1x6"
        target = {**gateway_target("gateway-0"), "namespace": namespace}
        found[family.exported] = dict(series(family.exported, values, **target, **labels))
    for name in missing.ENGINE_METRICS:
        target = {**engine_target(0), "namespace": namespace}
        found[name] = dict(series(name, "1x6", **target))
    return found


CHOSEN: Final = {"state": "up", "scope": "team", "limit": "day"}
"""Values of labels by which a guard goes; of others, the first."""


def _values(family: contract.Family) -> dict[str, str]:
    return {
        one.name: CHOSEN.get(one.name) or (one.values[0] if one.values else f"a-{one.name}")
        for one in family.labels
    }


def _missing_case(what: str, data: Mapping[str, Mapping[str, str]], *gone: str) -> Case:
    """A second installation, in which all is well, stands beside each."""
    together = {**data, **{f"other {name}": one for name, one in _everything("other").items()}}
    flat = {name: values for one in together.values() for name, values in one.items()}
    fires = tuple(
        {"severity": "ticket", "namespace": NAMESPACE, "metric": metric} for metric in gone
    )
    return Case("MetricMissing", what, flat, "30m", fires)


def _without(name: str) -> dict[str, dict[str, str]]:
    return {key: one for key, one in _everything(NAMESPACE).items() if key != name}


@needs_promtool
def test_a_metric_that_is_gone_is_missed(tmp_path: Path) -> None:
    """Each alone, and by nothing but its own alert."""
    metrics = [*(one.exported for one in contract.FAMILIES), *missing.ENGINE_METRICS]
    cases = [_missing_case(one, _without(one), one) for one in metrics]
    passes(tmp_path, _groups("missing"), [case.test("5m") for case in cases], every="5m")


@needs_promtool
def test_nothing_is_missed_where_nothing_is_wrong(tmp_path: Path) -> None:
    everything = _everything(NAMESPACE)
    new = {one.exported: everything[one.exported] for one in contract.FAMILIES if _is_early(one)}
    idle = {name: _still(one) for name, one in new.items()}
    engines = {name: one for name, one in everything.items() if name.startswith("vllm:")}
    cases = [
        _missing_case("all is there", everything),
        _missing_case("a new gateway without an engine", idle | _no_replica()),
        _missing_case("engines without a gateway", engines),
        _missing_case("another installation alone", {}),
    ]
    passes(tmp_path, _groups("missing"), [case.test("5m") for case in cases], every="5m")


def _is_early(family: contract.Family) -> bool:
    return family not in missing.GUARDS or family in (contract.INFO, contract.REPLICAS)


def _still(one: Mapping[str, str]) -> dict[str, str]:
    return {name: "0x6" if "+" in values else values for name, values in one.items()}


def _no_replica() -> dict[str, dict[str, str]]:
    name = contract.REPLICAS.exported
    return {name: dict.fromkeys(_everything(NAMESPACE)[name], "0x6")}


def test_every_metric_has_its_alert() -> None:
    watched = [alert.labels["metric"] for alert in missing.alerts()]
    assert watched == sorted(set(watched), key=watched.index)
    assert set(watched) >= {family.exported for family in contract.FAMILIES}
    for family, guard in missing.GUARDS.items():
        assert guard.why
        assert family.exported not in guard.expr


def test_an_alert_of_an_engine_has_its_metrics_watched() -> None:
    text = "\n".join(alert.expr for alert in alerts() if isinstance(alert, Alert))
    used = {re.sub(r"_bucket$", "_count", one) for one in re.findall(r"vllm:[a-z0-9_]+", text)}
    assert used <= set(missing.ENGINE_METRICS)
