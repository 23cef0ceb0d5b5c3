"""A server's own metrics: rates are what really happened, whatever the server does meanwhile."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loadtest.known_metrics import KNOWN
from loadtest.metrics_page import MOST_POINTS, Page, quantile
from loadtest.summary import Series

ENGINE: Final = Path("tests/observability/golden/vllm-0.32.0.json")
COUNT: Final = st.integers(0, 50)
GATEWAY: Final = Path("deploy/observability/METRICS.md")


def counter(value: float, name: str = "vllm:generation_tokens_total", labels: str = "") -> str:
    return f"# TYPE {name} counter\n{name}{labels} {value}\n"


def gauge(value: float, name: str, labels: str = "") -> str:
    return f"# TYPE {name} gauge\n{name}{labels} {value}\n"


def one(page: Page, **labels: str) -> Series:
    (found,) = [series for series in page.series() if series.labels == labels]
    return found


def test_a_counter_is_a_rate_since_the_point_before() -> None:
    page = Page("engine")
    for at, value in ((0.0, 1000), (2.0, 1050), (3.0, 1050), (7.0, 1250)):
        page.read(at, counter(value))
    series = one(page)
    assert series.scrape == "engine"
    assert series.name == "vllm:generation_tokens_total"
    assert (series.times, series.values) == ([2.0, 3.0, 7.0], [25.0, 0.0, 50.0])


def test_a_restart_is_no_fall() -> None:
    page = Page("engine")
    for at, value in ((0.0, 1000), (1.0, 1100), (2.0, 30), (3.0, 80)):
        page.read(at, counter(value))
    assert one(page).values == [100.0, 30.0, 50.0]


def test_what_appears_later_began_at_nothing_since() -> None:
    page = Page("gateway")
    name = "gptoss_gateway_requests_total"
    page.read(0.0, counter(500, name, '{outcome="ok"}'))
    later = counter(510, name, '{outcome="ok"}') + f'{name}{{outcome="engine_error"}} 7\n'
    page.read(1.0, later)
    assert one(page, outcome="ok").values == [10.0]
    assert one(page, outcome="engine_error").values == [7.0]


def test_labels_that_are_not_told_apart_are_added_up() -> None:
    page = Page("gateway")
    name = "gptoss_gateway_requests_total"
    for at, (a, b) in enumerate([(10, 1), (14, 3)]):
        text = f"# TYPE {name} counter\n"
        text += f'{name}{{outcome="ok",team="a",status="200"}} {a}\n'
        text += f'{name}{{outcome="ok",team="b",status="200"}} {b}\n'
        page.read(float(at), text)
    assert one(page, outcome="ok").values == [6.0]


def test_a_restart_of_one_of_several_that_are_added_up_is_seen() -> None:
    page = Page("engine")
    name = "vllm:generation_tokens_total"
    for at, (a, b) in enumerate([(100, 100), (5, 300)]):
        page.read(
            float(at),
            f'# TYPE {name} counter\n{name}{{engine="0"}} {a}\n{name}{{engine="1"}} {b}\n',
        )
    assert one(page).values == [205.0], "their sum rose, and hides that one began anew"


def test_a_gauge_is_as_it_is_and_a_share_is_never_added_up() -> None:
    page = Page("engine")
    running, used = "vllm:num_requests_running", "vllm:kv_cache_usage_perc"
    page.read(
        1.5,
        gauge(3, running, '{engine="0"}')
        + f'{running}{{engine="1"}} 4\n'
        + gauge(0.7, used, '{engine="0"}')
        + f'{used}{{engine="1"}} 0.9\n',
    )
    found = {series.name: (series.times, series.values) for series in page.series()}
    assert found == {running: ([1.5], [7.0]), used: ([1.5], [0.9])}


def test_of_a_histogram_there_are_the_mean_and_p99_of_what_came_since() -> None:
    registry = CollectorRegistry()
    name = "gptoss_gateway_time_to_first_token_seconds"
    histogram = Histogram(name, "", ["route"], registry=registry, buckets=(0.1, 0.5, 1, 5))
    page = Page("gateway")
    for _ in range(1000):
        histogram.labels("chat").observe(4.9)
    page.read(0.0, generate_latest(registry).decode())
    for number in range(100):
        histogram.labels("chat" if number % 2 else "responses").observe(0.3)
    page.read(1.0, generate_latest(registry).decode())
    page.read(2.0, generate_latest(registry).decode())
    mean, p99 = one(page, statistic="mean"), one(page, statistic="p99")
    assert mean.times == [1.0], "where nothing was observed there is no mean"
    assert mean.values == [pytest.approx(0.3)]
    assert p99.values == [pytest.approx(0.1 + 0.99 * 0.4)]


def test_what_never_was_anything_is_not_drawn_for_each_label() -> None:
    page = Page("gateway")
    name = "gptoss_gateway_retries_total"
    for at in (0.0, 1.0):
        page.read(at, counter(0, name, '{fault="cut"}') + f'{name}{{fault="full"}} {5 * at}\n')
    assert [series.labels for series in page.series()] == [{"fault": "full"}]
    page = Page("gateway")
    for at in (0.0, 1.0):
        page.read(at, counter(0, name, '{fault="cut"}') + f'{name}{{fault="full"}} 0\n')
    (series,) = page.series()
    assert (series.labels, series.values) == ({}, [0.0]), "that there was none is worth a line"


def test_of_a_long_run_there_are_few_points_and_the_same_total() -> None:
    page = Page("engine")
    readings = 10 * MOST_POINTS
    for at in range(readings):
        page.read(float(at), counter(float(at * at)))
    series = one(page)
    assert MOST_POINTS / 2 <= len(series.times) <= MOST_POINTS
    steps = {b - a for a, b in zip(series.times, series.times[1:], strict=False)}
    assert len(steps) == 1, "points are evenly spread"
    step = steps.pop()
    assert sum(series.values) * step == pytest.approx(series.times[-1] ** 2)


def test_what_was_before_the_run_is_not_drawn_but_counts_as_its_beginning() -> None:
    page = Page("engine")
    for at, value in ((-1.0, 10), (1.0, 14)):
        page.read(at, counter(value))
    assert (one(page).times, one(page).values) == ([1.0], [2.0])


def test_of_a_reading_from_before_time_was_known_no_rate_is_taken() -> None:
    page = Page("engine")
    for at, value in ((-math.inf, 10), (-math.inf, 20), (1.0, 300), (3.0, 304)):
        page.read(at, counter(value))
    assert (one(page).times, one(page).values) == ([3.0], [2.0])


@pytest.mark.parametrize("name", ["my_jobs", "my_jobs_total"])
def test_a_scenario_names_metrics_of_its_own_with_or_without_total(name: str) -> None:
    page = Page("mine", [name])
    for at in (0.0, 1.0):
        page.read(at, counter(3 * at, "my_jobs_total") + counter(at) + gauge(1, "my_jobs_other"))
    assert [(series.name, series.values) for series in page.series()] == [("my_jobs_total", [3.0])]


@pytest.mark.parametrize(
    "text", ["", "<!doctype html><title>Grafana</title>", '{"up": 1}', "up 1\n", "\x00\xff"]
)
def test_a_page_without_anything_wanted_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="none of the wanted metrics"):
        Page("engine").read(0.0, text)


@given(
    st.lists(
        st.text(alphabet='vlm:generation_tokens_total{}", =0123456789.eE+-\n#TYPE'), max_size=9
    )
)
def test_whatever_a_page_says_is_read_or_refused(texts: list[str]) -> None:
    page = Page("engine")
    for at, text in enumerate(texts):
        try:
            page.read(float(at), f"vllm:generation_tokens_total{text}")
        except (ValueError, LookupError):
            continue
    for series in page.series():
        assert len(series.times) == len(series.values)


@given(st.data())
def test_rates_over_their_time_come_to_all_that_was_counted(data: st.DataObject) -> None:
    """Of a server with several counters, which begins anew when it likes and is read when one
    likes. One that begins anew and has counted more than before cannot be told from one that goes
    on: that is left out."""
    page, name = Page("gateway"), "gptoss_gateway_requests_total"
    values = {"a": 5}
    now, counted = 0.0, 0
    page.read(now, _outcomes(name, values))
    for _ in range(data.draw(st.integers(1, 9))):
        now += data.draw(st.floats(0.1, 10))
        if all(values.values()) and data.draw(st.booleans()):
            values = {key: data.draw(st.integers(0, last - 1)) for key, last in values.items()}
            counted += sum(values.values())
        else:
            for key, by in data.draw(st.dictionaries(st.sampled_from("abc"), COUNT)).items():
                values[key] = values.get(key, 0) + by
                counted += by
        page.read(now, _outcomes(name, values))
    came = 0.0
    for series in page.series():
        before = 0.0
        for at, rate in zip(series.times, series.values, strict=True):
            assert rate >= 0
            came += rate * (at - before)
            before = at
    assert came == pytest.approx(counted)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([], None),
        ([(1.0, 0.0), (float("inf"), 0.0)], None),
        ([(1.0, 100.0), (float("inf"), 100.0)], 0.99),
        ([(1.0, 50.0), (2.0, 100.0), (float("inf"), 100.0)], 1.98),
        ([(1.0, 50.0), (float("inf"), 100.0)], 1.0),
        ([(float("inf"), 100.0)], None),
    ],
)
def test_a_quantile_of_buckets_is_that_of_prometheus(
    buckets: list[tuple[float, float]], expected: float | None
) -> None:
    found = quantile(buckets, 0.99)
    assert found == (None if expected is None else pytest.approx(expected))


def test_every_known_metric_is_one_that_gateways_or_engines_have() -> None:
    gateway = GATEWAY.read_text()
    engine = json.loads(ENGINE.read_text())["families"]
    for name, known in KNOWN.items():
        if name.startswith("gptoss_"):
            row = next(line for line in gateway.splitlines() if line.startswith(f"| `{name}` |"))
            assert all(f"`{label}`" in row for label in known.labels), name
        elif name.startswith("vllm:"):
            family = engine[name] if name in engine else engine[name.removesuffix("_total")]
            assert set(known.labels) <= set(family["labels"]), name


def test_a_page_as_large_as_an_engines_is_read_in_little_time() -> None:
    registry = CollectorRegistry()
    for number in range(60):
        made = Histogram(f"other_{number}", "", ["engine"], registry=registry)
        for engine in range(8):
            made.labels(str(engine)).observe(1)
    Counter("vllm:generation_tokens", "", registry=registry).inc(5)
    Gauge("vllm:num_requests_running", "", registry=registry).set(5)
    text = generate_latest(registry).decode()
    assert text.count("\n") > 8000
    page = Page("engine")
    page.read(0.0, text)
    assert {series.name for series in page.series()} == {"vllm:num_requests_running"}


def _outcomes(name: str, values: Mapping[str, int]) -> str:
    lines = [f'{name}{{outcome="{key}"}} {value}' for key, value in values.items()]
    return "\n".join([f"# TYPE {name} counter", *lines]) + "\n"
