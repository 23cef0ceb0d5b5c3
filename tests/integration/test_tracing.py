"""Spans get to a collector, and whatever it does is no trouble of the gateway's. While nobody wants
spans, nothing is made or imported.

No collector is packaged here, so a small HTTP server that decodes OTLP's protobuf, by
OpenTelemetry's own definitions, stands for one.
"""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from service.errors import UserError
from service.settings import TelemetrySettings
from service.telemetry import spans as module
from service.telemetry.otlp import OTLPExporter
from service.telemetry.spans import Spans, SpanTracer
from service.telemetry.trace import Sampling
from service.telemetry.tracing import NoTracer, open_tracer
from tests.unit.test_spans import FACTS, START

BUSY = 3.0
"""What a busy machine may add to any time, s."""


class Collector(ThreadingHTTPServer):
    """Takes OTLP. `statuses` are its next answers; then it is 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.taken: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.asked = threading.Event()
        self.hold = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.taken
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        time.sleep(self.server.hold)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.server.paths.append(self.path)
        self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        if status == 200:
            self.server.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running() as server:
        yield server


def tracer(endpoint: str, **more: Any) -> SpanTracer:
    opened = open_tracer(TelemetrySettings(otlp_endpoint=endpoint, **more))
    assert isinstance(opened, SpanTracer)
    return opened


def test_a_collector_gets_what_was_recorded(collector: Collector) -> None:
    headers = SecretStr("authorization=Bearer%20abc%3D, x-scope=a")
    traces = tracer(f"{collector.url}/otlp/", otlp_headers=headers)
    assert traces.sampling == Sampling(1.0, trusts_callers=False)
    traces.record(FACTS)
    asyncio.run(traces.close())
    assert collector.paths == ["/otlp/v1/traces"]
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    assert collector.headers[0]["authorization"] == "Bearer abc="
    assert collector.headers[0]["x-scope"] == "a"
    by_kind = {span.kind: span for span in collector.spans}
    server = by_kind[2]  # SPAN_KIND_SERVER
    assert len(collector.spans) == 3
    assert server.trace_id.hex() == FACTS.trace.trace_id
    assert server.span_id.hex() == FACTS.trace.span_id
    assert server.parent_span_id.hex() == FACTS.trace.parent_id
    assert server.trace_state == "rojo=1"
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (START, START + 900)
    assert {one.key: one.value.string_value for one in server.attributes}["gptoss.team"] == "search"
    (resource,) = [one.resource for one in collector.taken[0].resource_spans]
    assert ("service.name", "gptoss-gateway") in {
        (one.key, one.value.string_value) for one in resource.attributes
    }
    assert (traces.dropped, traces.waiting) == (0, 0)


def test_what_is_not_sampled_is_not_recorded(collector: Collector) -> None:
    traces = tracer(collector.url)
    traces.record(replace(FACTS, trace=replace(FACTS.trace, sampled=False)))
    asyncio.run(traces.close())
    assert not collector.asked.is_set()


def batch() -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    Spans(SimpleSpanProcessor(exporter)).make(FACTS)
    return list(exporter.get_finished_spans())


def test_a_collector_that_is_busy_is_asked_again(collector: Collector) -> None:
    collector.statuses = [503, 429]
    exporter = OTLPExporter(collector.url, {}, pauses=(0, 0))
    exporter.export(batch())
    assert (len(collector.paths), exporter.sent, exporter.dropped) == (3, 3, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_collector_that_does_not_want_them_is_not(
    collector: Collector, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    collector.statuses = [status]
    exporter = OTLPExporter(collector.url, {"authorization": "hush"}, pauses=(0, 0))
    exporter.export(batch())
    assert (len(collector.paths), exporter.sent, exporter.dropped) == (1, 0, 3)
    (record,) = caplog.records
    assert f"status {status}" in str(vars(record))
    assert "hush" not in str(vars(record))


@pytest.fixture
def nowhere() -> str:
    with running() as server:
        return server.url


def test_no_collector_is_said_once_in_a_while(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = OTLPExporter(nowhere, {}, pauses=(0, 0))
    for _ in range(20):
        exporter.export(batch())
    assert exporter.dropped == 60
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_no_collector_is_nobodys_trouble(nowhere: str) -> None:
    traces = tracer(nowhere)
    for _ in range(100):
        traces.record(FACTS)
    started = time.monotonic()
    asyncio.run(traces.close())
    assert time.monotonic() - started < 2 + BUSY
    assert (traces.dropped, traces.waiting) == (300, 0)


def test_a_collector_that_hangs_does_not_hold_the_end(collector: Collector) -> None:
    collector.hold = 30
    traces = tracer(collector.url)
    traces.record(FACTS)
    assert collector.asked.wait(10)
    traces.record(FACTS)
    started = time.monotonic()
    asyncio.run(traces.close())
    assert time.monotonic() - started < 2 + BUSY
    assert traces.waiting == 6


def test_spans_that_wait_are_bounded_and_counted(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 600)
    traces = tracer(nowhere)
    for _ in range(1000):
        traces.record(FACTS)
    assert traces.dropped >= 2400
    asyncio.run(traces.close())
    assert (traces.dropped, traces.waiting) == (3000, 0)


def test_nothing_is_traced_by_default() -> None:
    assert isinstance(open_tracer(TelemetrySettings()), NoTracer)
    assert NoTracer.sampling == Sampling(None)


def test_a_gateway_that_traces_nothing_imports_nothing() -> None:
    code = (
        "import json, sys, service.gateway.server, service.settings, service.telemetry.tracing\n"
        "service.telemetry.tracing.open_tracer(service.settings.TelemetrySettings())\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    # redis-py imports OpenTelemetry's metrics by itself where they are installed.
    for name in json.loads(done.stdout):
        assert not name.startswith(("opentelemetry.exporter", "opentelemetry.proto")), name
        assert name not in ("service.telemetry.spans", "google.protobuf"), name


def test_where_it_is_not_installed_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "service.telemetry.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(UserError, match=r"pip install 'gptoss-serving\[tracing\]'"):
        open_tracer(TelemetrySettings(otlp_endpoint="http://collector:4318"))
