"""Spans: what is in them, and that they are those the engines were told of."""

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.telemetry.facts import Attempt, Facts
from service.telemetry.spans import Spans
from service.telemetry.trace import Sampling, Trace

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = [
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"rojo=1"),
]
START = 1_800_000_000_000_000_000
REPLICA = "http://10.0.0.7:8000"
FACTS = Facts(
    request_id=f"req_{ID}",
    trace=Trace.of(CALLER, ID, Sampling(1.0)),
    route="chat",
    status=200,
    outcome="ok",
    started_ns=START,
    ended_ns=START + 900,
    model="gpt-oss-120b",
    asked_model="gpt-oss-120b",
    team="search",
    key="k1",
    replica=REPLICA,
    streamed=True,
    first_token_seconds=0.25,
    queue_seconds=0.01,
    prompt_tokens=100,
    completion_tokens=20,
    cached_tokens=64,
    reasoning_tokens=8,
    settlement="exact",
    attempts=(
        Attempt("http://[fd00::9]:8000", START + 100, START + 200, "cut"),
        Attempt(REPLICA, START + 200, START + 900),
    ),
)


def made(facts: Facts) -> list[ReadableSpan]:
    """The spans of a request, its own first."""
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter))
    spans.make(facts)
    return sorted(exporter.get_finished_spans(), key=lambda span: span.kind is SpanKind.CLIENT)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_the_span_of_a_request_says_all_that_is_known() -> None:
    span = made(FACTS)[0]
    assert (span.name, span.kind) == ("chat gpt-oss-120b", SpanKind.SERVER)
    assert (span.start_time, span.end_time) == (START, START + 900)
    assert span.resource.attributes["service.name"] == "gptoss-gateway"
    assert span.resource.attributes["service.version"]
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "gpt-oss-120b",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "http.response.status_code": 200,
        "gptoss.request_id": f"req_{ID}",
        "gptoss.outcome": "ok",
        "gptoss.team": "search",
        "gptoss.key": "k1",
        "gptoss.replica": REPLICA,
        "gptoss.settlement": "exact",
        "gptoss.queue_seconds": 0.01,
    }


@pytest.mark.parametrize("caller", [CALLER, []], ids=["goes on", "begins"])
def test_the_ids_are_those_that_were_sent(caller: list[tuple[bytes, bytes]]) -> None:
    trace = Trace.of(caller, ID, Sampling(1.0))
    server, *attempts = made(replace(FACTS, trace=trace))
    assert server.context is not None
    assert f"{server.context.trace_id:032x}" == trace.trace_id
    assert f"{server.context.span_id:016x}" == trace.span_id
    parent = server.parent
    assert (f"{parent.span_id:016x}" if parent else "") == trace.parent_id
    for number, attempt in enumerate(attempts, 1):
        assert attempt.context is not None
        assert attempt.parent is not None
        sent = trace.headers(number)["traceparent"].split("-")
        assert f"{attempt.context.trace_id:032x}" == sent[1]
        assert f"{attempt.context.span_id:016x}" == sent[2]
        assert attempt.parent.span_id == server.context.span_id


def test_every_attempt_is_a_span_below_it() -> None:
    first, second = made(FACTS)[1:]
    assert (first.start_time, first.end_time) == (START + 100, START + 200)
    assert attributes(first)["server.address"] == "fd00::9"
    assert attributes(first)["error.type"] == "cut"
    assert first.status.status_code is StatusCode.ERROR
    assert attributes(second)["server.address"] == "10.0.0.7"
    assert attributes(second)["server.port"] == 8000
    assert "error.type" not in attributes(second)
    # Whoever adds up tokens over spans must not count them twice.
    assert not any(name.startswith("gen_ai.usage") for name in attributes(second))


@pytest.mark.parametrize(
    ("status", "outcome", "error"),
    [
        (200, "ok", None),
        (200, "client_gone", None),
        (499, "client_gone", None),
        (429, "rate_limit_exceeded", None),
        (400, "invalid_value", None),
        (200, "engine_disconnected", "engine_disconnected"),
        (503, "engine_unavailable", "engine_unavailable"),
    ],
)
def test_an_error_is_what_the_gateway_failed_at(
    status: int, outcome: str, error: str | None
) -> None:
    span = made(replace(FACTS, status=status, outcome=outcome))[0]
    assert attributes(span).get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) is (error is not None)
    assert attributes(span)["gptoss.outcome"] == outcome


@pytest.mark.parametrize(
    ("route", "model", "name"),
    [
        ("completions", "m", "text_completion m"),
        ("responses", "m", "chat m"),
        ("messages", "m", "chat m"),
        ("count_tokens", "m", "count_tokens m"),
        ("chat", "", "chat"),
        ("models", "", "models"),
        ("none", "", "none"),
    ],
)
def test_it_is_called_by_operation_and_model(route: str, model: str, name: str) -> None:
    facts = Facts("req_x", Trace(ID, ID[16:], sampled=True), route, 200, "ok", START, START, model)
    (span,) = made(facts)
    assert span.name == name
    assert ("gen_ai.operation.name" in attributes(span)) is (route not in ("models", "none"))
    assert not any(name.startswith("gen_ai.usage") for name in attributes(span))


def test_a_fallback_is_seen() -> None:
    span = made(replace(FACTS, model="gpt-oss-20b"))[0]
    assert attributes(span)["gen_ai.request.model"] == "gpt-oss-120b"
    assert attributes(span)["gen_ai.response.model"] == "gpt-oss-20b"
