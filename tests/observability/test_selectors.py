"""No query of the repository asks for something that there is not; and what judges that can see."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from deploy.observability import vllm
from deploy.observability.external import PROCESS
from deploy.observability.metric import Metric
from service.telemetry import contract
from tests.observability import golden, queries
from tests.observability.catalog import Kind, Series, catalog, external
from tests.observability.macros import every, substituted
from tests.observability.queries import Query
from tests.observability.selectors import complaints, recorded

# Each is dead in a way of its own. Some of them are, or were, in published dashboards and rules.
DEAD = {
    "a counter without its suffix": (
        "rate(vllm:num_preemptions[5m]) > 1",
        "there is no vllm:num_preemptions, but vllm:num_preemptions_total",
    ),
    "a metric of older versions": (
        "max(vllm:gpu_cache_usage_perc)",
        "there is no vllm:gpu_cache_usage_perc",
    ),
    "a histogram without a suffix": (
        "rate(vllm:time_to_first_token_seconds[5m])",
        "there is no vllm:time_to_first_token_seconds, but vllm:time_to_first_token_seconds_bucket",
    ),
    "a suffix of which there is none": (
        "rate(gptoss_gateway_requests_count[5m])",
        "there is no gptoss_gateway_requests_count, but gptoss_gateway_requests_total",
    ),
    "a bound in another form": (
        'rate(vllm:e2e_request_latency_seconds_bucket{le="120"}[5m])',
        "vllm:e2e_request_latency_seconds_bucket has no le '120'",
    ),
    "a bound between two": (
        'rate(gptoss_gateway_time_to_first_token_seconds_bucket{le="2.5"}[5m])',
        "gptoss_gateway_time_to_first_token_seconds_bucket has no le '2.5'",
    ),
    "a label that is not there": (
        'rate(gptoss_gateway_time_to_first_token_seconds_count{team="a"}[5m])',
        "gptoss_gateway_time_to_first_token_seconds_count has no label team",
    ),
    "a value that is not there": (
        'rate(vllm:request_success_total{finished_reason="stopped"}[5m])',
        "vllm:request_success_total has no finished_reason 'stopped'",
    ),
    "one of several values": (
        'sum(gptoss_gateway_replicas{state=~"up|trying"})',
        "gptoss_gateway_replicas has no state 'trying'",
    ),
    "a value that is excluded, and is not there": (
        'rate(gptoss_gateway_requests_total{outcome!~"ok|canceled"}[5m])',
        "gptoss_gateway_requests_total has no outcome 'canceled'",
    ),
    "a group by a label that is not there": (
        "sum by (model_name) (rate(gptoss_gateway_requests_total[5m]))",
        "there is no label model_name of sum",
    ),
    "a group by a label that was summed away": (
        "max by (pod) (sum by (model) (rate(gptoss_gateway_requests_total[5m])))",
        "there is no label pod of max",
    ),
    "sides with a label that just one has": (
        'rate(vllm:e2e_request_latency_seconds_bucket{le="120.0"}[5m])'
        " < rate(vllm:e2e_request_latency_seconds_count[5m])",
        "the sides of < never match: just one has le",
    ),
    "the engine's name of the model against ours": (
        "sum by (model_name) (rate(vllm:prompt_tokens_total[5m]))"
        " / sum by (model) (rate(gptoss_gateway_tokens_total[5m]))",
        "the sides of / never match: just one has model, model_name",
    ),
    "sides that are matched by what one has not": (
        "sum by (pool) (gptoss_gateway_replicas)"
        " and on (model) sum by (pool) (gptoss_gateway_queue_waiting)",
        "there is no label model left of and",
    ),
    "a label from the one side that is not there": (
        "vllm:num_requests_running * on (pod) group_left (team) gptoss_gateway_info",
        "there is no label team on the one side of *",
    ),
    "a quantile without bounds": (
        "histogram_quantile(0.9,"
        " sum by (model) (rate(gptoss_gateway_time_to_first_token_seconds_bucket[5m])))",
        "there is no label le of histogram_quantile",
    ),
    "a rate of a gauge": (
        "rate(vllm:num_requests_running[5m])",
        "vllm:num_requests_running is a gauge, and rate or increase are for counters",
    ),
    "a slope of a counter": (
        "deriv(gptoss_gateway_requests_total[5m])",
        "gptoss_gateway_requests_total is a counter, and the function is for gauges",
    ),
    "a counter as it is": (
        "sum(gptoss_gateway_requests_total)",
        "gptoss_gateway_requests_total is a counter: its rate or increase says something",
    ),
    "an average over all time": (
        "vllm:time_to_first_token_seconds_sum / 2",
        "vllm:time_to_first_token_seconds_sum is a counter: its rate or increase says something",
    ),
    "a rate of a sum": (
        "rate(sum(gptoss_gateway_requests_total)[5m:1m])",
        "rate of sum(gptoss_gateway_requests_total): it hides the resets of counters",
    ),
    "no metric at all": ('{job="gptoss"}', '{job="gptoss"} names no metric'),
    "one of several names": (
        'sum({__name__=~"gptoss_gateway_(queue_waiting|queue_hold)"})',
        "there is no gptoss_gateway_queue_hold",
    ),
    "what is no PromQL": ("sum(rate(up", "cannot be read: unclosed left parenthesis"),
}

ALIVE = [
    'rate(vllm:e2e_request_latency_seconds_bucket{le="120.0"}[5m])'
    " < ignoring (le) rate(vllm:e2e_request_latency_seconds_count[5m])",
    "sum(vllm:num_requests_waiting) or vector(0)",
    'sum by (status) (rate(gptoss_gateway_requests_total{status=~"5.."}[5m]))',
    'rate(gptoss_gateway_inter_token_latency_seconds_bucket{le=~"0.015|0.08|\\\\+Inf"}[5m])',
    "count by (version) (gptoss_gateway_info)",
    "vllm:num_requests_running * on (pod) group_left (version) gptoss_gateway_info",
    "absent(gptoss_gateway_requests_total)",
    'label_replace(up, "node", "$1", "instance", "(.*):.*")',
    "topk(5, sum by (team) (increase(gptoss_gateway_tokens_total[1d])))",
    "max_over_time(sum by (pool) (gptoss_gateway_queue_waiting)[1h:1m])",
    "sum by (pool) (gptoss_gateway_replicas) == 0 unless on (pool) gptoss_gateway_queue_held",
    'sum by (model) (rate(gptoss_gateway_streams_total{end!="complete"}[5m])) / 100 > 0.01',
    'ALERTS{alertstate="firing"}',
    "changes(process_start_time_seconds[1h]) > 0",
]


@pytest.mark.parametrize("kind", DEAD)
def test_what_shows_nothing_is_found(kind: str) -> None:
    query, complaint = DEAD[kind]
    assert complaint in complaints(query, catalog())


def test_an_exception_lets_a_counter_be_read_as_it_is() -> None:
    query = "max(gptoss_gateway_engine_tokens_total) - sum(gptoss_gateway_tokens_total)"
    (left,) = complaints(query, catalog(), ["gptoss_gateway_engine_tokens_total"])
    assert left.startswith("gptoss_gateway_tokens_total is a counter")


@pytest.mark.parametrize("query", ALIVE)
def test_what_shows_something_is_none_of_it(query: str) -> None:
    assert complaints(query, catalog()) == []


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("rate(up[$__rate_interval])", "rate(up[5m])"),
        ("up[${__range}:$step] offset $ago", "up[5m:5m] offset 5m"),
        (
            'up{job="$job", pod=~"${pod:regex}"}',
            'up{job="unknown_variable", pod=~"unknown_variable"}',
        ),
        ("sum by ([[by]], job) (up) > $most", "sum by (unknown_variable, job) (up) > 1"),
        ('up{job="a"} * $__interval_ms', 'up{job="a"} * 1'),
    ],
)
def test_variables_are_replaced_by_what_fits(query: str, read: str) -> None:
    assert substituted(query) == read
    assert complaints(query, catalog()) == complaints(read, catalog())


def test_a_variable_is_judged_by_each_of_its_values() -> None:
    query = 'rate(gptoss_gateway_time_to_first_token_seconds_bucket{le="$slo"}[5m])'
    found = [complaints(one, catalog()) for one in every(query, {"slo": ("2.0", "3.0", "4.0")})]
    assert [bool(one) for one in found] == [False, False, True]


def test_what_a_rule_records_can_be_asked_for() -> None:
    expression = "sum by (model, le) (rate(gptoss_gateway_time_to_first_token_seconds_bucket[5m]))"
    rule = {"record": "model:ttft:rate5m", "expr": expression, "labels": {"slo": "ttft"}}
    known = {**catalog(), **recorded([rule], catalog())}
    assert not complaints('model:ttft:rate5m{slo="ttft", le="2.0"}', known)
    assert complaints('model:ttft:rate5m{slo="tpot"}', known)
    assert complaints("sum by (pod) (model:ttft:rate5m)", known)
    assert complaints("rate(model:ttft:rate5m[5m])", known)


@pytest.mark.parametrize("kind", list(contract.Kind))
def test_a_family_is_asked_for_by_its_exported_name(kind: contract.Kind) -> None:
    for family in contract.FAMILIES:
        if family.kind is kind:
            assert family.exported in catalog(), family.name
            counts = catalog()[family.exported].kind is Kind.COUNTER
            assert counts == (kind is not contract.Kind.GAUGE)


@pytest.mark.parametrize("metric", vllm.METRICS, ids=lambda metric: metric.name)
def test_what_dashboards_know_of_the_engine_is_what_it_exports(metric: Metric) -> None:
    shape = golden.read()[metric.name]
    assert shape["type"] == metric.kind.value
    assert shape["labels"] == sorted(one.name for one in metric.labels)
    enumerated = {one.name: sorted(one.values) for one in metric.labels if one.values}
    assert shape.get("values", {}) == enumerated


def test_a_process_exports_what_dashboards_know_of_it() -> None:
    for metric in PROCESS.metrics:
        assert golden.read()[metric.name]["type"] == metric.kind.value


# --- what there is in the repository


@cache
def known() -> Mapping[str, Series]:
    """With exporters, and with what our own rules record."""
    series = {**catalog(), **external()}
    return {**series, **recorded(queries.rules(), series)}


def judged(query: Query) -> list[str]:
    """What is wrong with it, with any value of its variables."""
    texts = every(query.text, query.options)
    return [f"{query.where}: {one}" for text in texts for one in complaints(text, known())]


@pytest.mark.parametrize("query", [*queries.of_rules()], ids=str)
def test_a_rule_can_fire(query: Query) -> None:
    assert judged(query) == []


@pytest.mark.parametrize("query", [*queries.of_autoscaling()], ids=str)
def test_autoscaling_goes_by_what_there_is(query: Query) -> None:
    assert judged(query) == []


@pytest.mark.parametrize("path", queries.dashboards(), ids=lambda path: path.stem)
def test_no_panel_and_no_variable_of_a_dashboard_is_dead(path: Path) -> None:
    found = list(queries.of_dashboard(path))
    assert found
    assert [complaint for query in found for complaint in judged(query)] == []


def test_there_are_queries_of_every_kind() -> None:
    """Else the tests above see nothing, and say that all is well."""
    assert list(queries.of_rules())
    assert list(queries.of_autoscaling())
    assert queries.dashboards()
    assert [path for path in queries.documents() if path.parent == queries.RUNBOOKS]


@pytest.mark.parametrize(
    "path", queries.documents(), ids=lambda path: str(path.relative_to(queries.ROOT))
)
def test_a_document_names_what_there_is(path: Path) -> None:
    text = path.read_text()
    queries_of = queries.in_document(str(path.relative_to(queries.ROOT)), text)
    found = [complaint for query in queries_of for complaint in judged(query)]
    families = {one.name for one in contract.FAMILIES} | known().keys()
    gone = {name for name in queries.named_in(text) if name not in families}
    assert (found, gone) == ([], set())
