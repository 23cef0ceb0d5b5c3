"""What bounds the metrics, and what they add up to."""

import ast
import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from service.gateway import errors, failure, ratelimit, routes
from service.ledger.record import Settlement
from service.quota.reservation import Kind
from service.routing.health import State
from service.telemetry import contract
from service.telemetry.metrics import Metrics
from service.telemetry.page import page
from service.telemetry.slo import Bounds
from service.telemetry.tally import Tally
from service.telemetry.teams import Teams

teams = st.lists(st.text("abcdef", min_size=1, max_size=3))


@given(st.integers(1, 5), teams)
def test_there_are_never_more_labels_than_allowed(most: int, seen: list[str]) -> None:
    labels = Teams(most)
    given = [labels.label(team) for team in seen]
    assert len(set(given) - {contract.OTHER}) <= most
    assert all(label in (team, contract.OTHER) for label, team in zip(given, seen, strict=True))


@given(st.integers(1, 5), teams)
def test_a_team_keeps_the_label_it_got(most: int, seen: list[str]) -> None:
    labels = Teams(most)
    first = {team: labels.label(team) for team in seen}
    assert {team: labels.label(team) for team in seen} == first
    others = sum(label == contract.OTHER for label in first.values())
    assert labels.unnamed == min(others, 10 * most)


def test_gateways_agree_about_the_teams_there_are() -> None:
    there = [f"team-{number}" for number in range(20)]
    named = []
    for seed in (1, 2):
        labels = Teams(5)
        labels.know(random.Random(seed).sample(there, len(there)))
        named.append(labels.names)
    assert named[0] == named[1]


def test_nobody_is_no_team() -> None:
    assert Teams(1).label(None) == contract.NONE


@given(st.lists(st.lists(st.floats(0, 20), max_size=30), max_size=4))
def test_a_tally_is_the_librarys_histogram(requests: list[list[float]]) -> None:
    family, registry = contract.ITL, CollectorRegistry()
    tally = Tally(family)
    library = Histogram(
        family.name, family.help, family.label_names, buckets=family.buckets, registry=registry
    )
    tally.begin("tiny")
    library.labels("tiny")
    for gaps in requests:
        counts = [0] * (len(family.buckets) + 1)
        for gap in gaps:
            counts[sum(edge < gap for edge in family.buckets)] += 1
            library.labels("tiny").observe(gap)
        tally.add("tiny", counts, sum(gaps))
    (ours,), (theirs,) = tally.collect(), registry.collect()
    assert _buckets(ours) == _buckets(theirs)


def _buckets(metric: Metric) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for sample in metric.samples
        if not sample.name.endswith(("_sum", "_created"))
    }


def test_what_is_enumerated_is_what_there_is() -> None:
    assert tuple(fault.value for fault in failure.Fault) == contract.FAULTS
    assert tuple(state.value for state in State) == contract.STATES
    assert tuple(one.value for one in Settlement) == contract.SETTLEMENTS
    assert tuple(kind.value for kind in Kind) == contract.LIMITS
    inference = [route.name for route in routes.INFERENCE.values()]
    assert (*inference, "models", "quota", contract.NONE) == contract.ROUTES


def test_every_error_that_clients_get_is_an_outcome() -> None:
    """An outcome is an error's code, or its type where it has none."""
    found = {"ok", "client_gone", "client_stalled", "context_length_exceeded"}
    for module in (errors, ratelimit):
        assert module.__file__
        for call in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "APIError":
                named = {word.arg: word.value for word in call.keywords}
                code = named.get("code")
                word = code.value if isinstance(code, ast.Constant) else "invalid_request_error"
                found.add(str(word))
    assert found == set(contract.OUTCOMES)


def test_nothing_takes_the_engines_names() -> None:
    names = [family.name for family in contract.FAMILIES]
    assert len(set(names)) == len(names)
    assert all(name.startswith("gptoss_gateway_") for name in names)


def test_no_histogram_has_a_team() -> None:
    histograms = [one for one in contract.FAMILIES if one.kind is contract.Kind.HISTOGRAM]
    assert histograms
    assert not [one.name for one in histograms if "team" in one.label_names]


def test_a_rate_sees_the_first_failure_of_a_team() -> None:
    metrics = Metrics(5, Bounds(3.0, 0.08))
    metrics.know(["tiny"], ["tiny"], ["search"])
    labels = {"model": "tiny", "team": "search", "slo": "availability"}
    for name in ("slo_requests", "slo_good"):
        assert metrics.registry.get_sample_value(f"gptoss_gateway_{name}_total", labels) == 0


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_page_that_is_made_in_steps_is_the_librarys(accept: str) -> None:
    metrics = Metrics(300, Bounds(3.0, 0.08))
    metrics.know(["tiny"], ["tiny"], [f"team-{number}" for number in range(300)])
    metrics.ttft.labels("chat", "tiny").observe(0.2, {"trace_id": "4bf92f3577b34da6"})
    encode, content_type = choose_encoder(accept)
    body, said = asyncio.run(page(metrics.registry, accept))
    assert said == content_type
    assert _without_process(body) == _without_process(encode(metrics.registry))


def _without_process(body: bytes) -> list[str]:
    """Without what changes from one moment to the next."""
    lines = body.decode().splitlines()
    return [line for line in lines if not line.startswith(("process_", "python_gc"))]
