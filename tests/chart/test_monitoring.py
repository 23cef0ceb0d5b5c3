"""What the Prometheus operator and Grafana's sidecar get: a release's rules, and dashboards."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.chart.render import CHART, MONITORING, NAMESPACE, Objects, one, overlay, render, some
from tests.observability.rule_tests import Series, needs_promtool, promtool, series

FILE: Mapping[str, Any] = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
OTHER = "research"

OF_NODES = "DCGM_"
"""GPUs are no release's: two of them ask for the same."""

Rules = list[dict[str, Any]]


def release(namespace: str = NAMESPACE, **monitoring: Any) -> Objects:
    return render(overlay("minimal", monitoring=monitoring), apis=MONITORING, namespace=namespace)


def spec(namespace: str = NAMESPACE, **monitoring: Any) -> Mapping[str, Any]:
    """Of the PrometheusRule."""
    return one(release(namespace, **monitoring), "PrometheusRule").spec


def rules(found: Mapping[str, Any]) -> Rules:
    return [rule for group in found["groups"] for rule in group["rules"]]


def test_rules_are_those_of_the_file_for_the_namespace_of_the_release() -> None:
    """Helm reads none of their templates. What they say is tried in tests/observability."""
    text = json.dumps(spec())
    for own in (f'{{namespace=\\"{NAMESPACE}\\"}}', f'namespace=\\"{NAMESPACE}\\", '):
        assert own in text
        text = text.replace(own, "")
    assert json.loads(text) == FILE


def selectors(node: Any) -> Iterator[Any]:
    """Of an expression and all that is in it."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        yield from selectors(within) if (within := getattr(node, name, None)) else ()
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


def test_every_series_is_asked_for_by_the_namespace() -> None:
    """One that is not: does a target of the release have it? Then `_rules.tpl` has to know it."""
    for rule in rules(spec()):
        for selector in selectors(promql.parse(rule["expr"])):
            if not selector.name.startswith(OF_NODES):
                named = {matcher.name: matcher for matcher in selector.matchers.matchers}
                assert named["namespace"].value == NAMESPACE, selector.prettify()
                assert named["namespace"].op == promql.MatchOp.Equal


def test_alerts_that_two_releases_share_are_one_to_alertmanager() -> None:
    """Which knows alerts by their labels."""
    here, there = ([one for one in rules(spec(name)) if "alert" in one] for name in ("a", "b"))
    same = [one for one, other in zip(here, there, strict=True) if one["expr"] == other["expr"]]
    assert {one["alert"] for one in same} == {"Watchdog", "GPUError"}
    assert all(one in there for one in same)


def _gateway(name: str, values: str, namespace: str, **labels: str) -> Series:
    target = {"namespace": namespace, "pod": "g-0", "instance": "g-0:8001", "job": "g"}
    return series(f"gptoss_gateway_{name}", values, **target, **labels)


def _after_ten_minutes(
    folder: Path, of: str, given: Series, expected: Mapping[str, Mapping[str, float]]
) -> None:
    """With the rules of a release, queries have these samples and no others."""
    asked = [
        {
            "expr": query,
            "eval_time": "10m",
            "exp_samples": [{"labels": one, "value": value} for one, value in samples.items()],
        }
        for query, samples in expected.items()
    ]
    shown = [{"series": name, "values": values} for name, values in given.items()]
    case = {"interval": "1m", "input_series": shown, "promql_expr_test": asked}
    done = promtool(folder, yaml.safe_dump(dict(spec(of))), [case])
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("of", [NAMESPACE, OTHER])
def test_the_rules_of_a_release_say_nothing_about_another(tmp_path: Path, of: str) -> None:
    """Both have a gateway; that of the second is not ready."""
    given = {
        **_gateway("info", "1x20", NAMESPACE),
        **_gateway("info", "1x20", OTHER),
        **_gateway("ready", "1x20", NAMESPACE),
        **_gateway("ready", "0x20", OTHER),
        **_gateway("slo_requests_total", "0+30x20", OTHER, model="m", slo="ttft"),
    }
    alert = 'count by (namespace) (ALERTS{alertname="GatewaysUnready"})'
    record = f'gptoss:slo_asked:rate5m{{model="m", namespace="{OTHER}", slo="ttft"}}'
    own = of == OTHER
    expected: dict[str, dict[str, float]] = {
        alert: {f'{{namespace="{OTHER}"}}': 1} if own else {},
        "gptoss:slo_asked:rate5m": {record: 0.5} if own else {},
    }
    _after_ten_minutes(tmp_path, of, given, expected)


@needs_promtool
def test_a_release_without_a_gateway_is_missed_while_another_has_some(tmp_path: Path) -> None:
    given = _gateway("info", "1x20", OTHER)
    for of, missed in ((NAMESPACE, {"{}": 1.0}), (OTHER, {})):
        _after_ten_minutes(tmp_path, of, given, {'count(ALERTS{alertname="GatewayDown"})': missed})


@needs_promtool
def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    links = {"runbooksUrl": "https://git.example.com/r", "grafanaUrl": "https://g.example.com"}
    file.write_text(yaml.safe_dump(dict(spec(**links))))
    line = ["promtool", "check", "rules", "--lint-fatal", str(file)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _links(found: Mapping[str, Any], name: str) -> dict[str, list[str]]:
    """Of each alert."""
    links: dict[str, list[str]] = {}
    for rule in rules(found):
        if "alert" in rule:
            links.setdefault(rule["alert"], []).append(rule["annotations"][name])
    return links


@pytest.mark.parametrize("end", ["", "/"])
def test_links_of_alerts_begin_with_where_people_read_them(end: str) -> None:
    wiki, grafana = "https://git.example.com/x/runbooks", "https://example.com/grafana"
    found = spec(runbooksUrl=wiki + end, grafanaUrl=grafana + end)
    for alert, links in _links(found, "runbook_url").items():
        assert set(links) == {f"{wiki}/{alert}.md"}
    paths = _links(FILE, "dashboard_url")
    assert _links(found, "dashboard_url") == {
        alert: [f"{grafana}{path}" for path in of_alert] for alert, of_alert in paths.items()
    }
    assert all(path.startswith("/d/gptoss-") for of_alert in paths.values() for path in of_alert)


def test_one_link_can_be_set_without_the_other() -> None:
    found = spec(grafanaUrl="https://grafana.example.com")
    assert _links(found, "runbook_url") == _links(FILE, "runbook_url")
    assert _links(found, "dashboard_url") != _links(FILE, "dashboard_url")


def test_a_release_can_leave_rules_to_another() -> None:
    objects = release(rules=False)
    assert not some(objects, "PrometheusRule")
    assert some(objects, "PodMonitor")


def test_a_dashboards_file_has_a_name_that_no_other_charts_has() -> None:
    """The sidecar writes all files into one folder, under their keys."""
    boards = [one for one in some(release(), "ConfigMap") if "-dashboard-" in one.name]
    assert boards
    for board in boards:
        ((key, text),) = board.body["data"].items()
        assert key == f"{json.loads(text)['uid']}.json"
        assert key.startswith("gptoss-")
        assert board.name == f"gptoss-dashboard-{key.removeprefix('gptoss-').removesuffix('.json')}"
