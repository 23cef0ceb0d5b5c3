"""The spans of a request, by OpenTelemetry: one of the gateway, and one for each try at an engine.

They are made at a request's end of what is known then, with the times and the ids that it had: the
ids of the tries have long been sent to the engines, whose own spans hang from them. Names are those
of the GenAI conventions (github.com/open-telemetry/semantic-conventions-genai). No attribute holds
anything of a prompt or an answer.
"""

import asyncio
import logging
import threading
from importlib.metadata import version
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from service.settings import TelemetrySettings
from service.telemetry.facts import Attempt, Facts
from service.telemetry.otlp import OTLPExporter
from service.telemetry.trace import Sampling, Trace

log = logging.getLogger(__name__)

# Spans that wait to be sent, those on their way included: about 4 MB.
_MOST_WAITING = 4096
_BATCH = 512
_DELAY_MILLISECONDS = 2000
_CLOSE_SECONDS = 2.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

_PROVIDER = "vllm"
_OPERATIONS = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "count_tokens": "count_tokens",
}
# Ends of which the client is the cause: no error of the gateway's.
_BY_CLIENT = ("client_gone", "client_stalled")

Attributes = dict[str, str | int | float | bool]


class _GivenIds(IdGenerator):
    """The ids of the next span."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class SpanTracer:
    """Makes spans of facts, and has them sent by a thread."""

    def __init__(self, exporter: OTLPExporter, sampling: Sampling) -> None:
        self.sampling = sampling
        self._exporter = exporter
        self._spans = Spans(
            BatchSpanProcessor(
                exporter,
                max_queue_size=_MOST_WAITING,
                schedule_delay_millis=_DELAY_MILLISECONDS,
                max_export_batch_size=_BATCH,
            ),
        )
        self._made = 0
        self._overflowed = 0

    @classmethod
    def to_collector(cls, settings: TelemetrySettings) -> "SpanTracer":
        """The tracer that is configured."""
        exporter = OTLPExporter(settings.otlp_endpoint, settings.otlp_header_fields)
        return cls(exporter, Sampling(settings.sample, settings.trust_sampling))

    @property
    def dropped(self) -> int:
        """Spans that did not get to the collector."""
        return self._overflowed + self._exporter.dropped

    @property
    def waiting(self) -> int:
        """Spans that are not sent yet."""
        return self._made - self._exporter.sent - self._exporter.dropped

    def record(self, facts: Facts) -> None:
        """Keep a request's spans if it is sampled. Returns at once and never fails."""
        if not facts.trace.sampled:
            return
        count = 1 + len(facts.attempts)
        if self.waiting + count > _MOST_WAITING:
            self._overflowed += count
            return
        try:
            self._spans.make(facts)
            self._made += count
        except Exception:
            log.exception("spans were not made", extra={"request_id": facts.request_id})

    async def close(self) -> None:
        """Get the last spans through, within two seconds. What is not sent by then is dropped."""
        self._exporter.end()
        # A thread that is not waited for: the processor's own end may take half a minute.
        ending = threading.Thread(target=self._spans.close, name="tracing-end", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _CLOSE_SECONDS)
        if lost := self.waiting:
            log.warning("spans are lost", extra={"spans": lost})


class Spans:
    """Makes spans, and hands them to `processor`."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._ids = _GivenIds()
        resource = Resource.create(
            {"service.name": "gptoss-gateway", "service.version": version("gptoss-serving")}
        )
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False, id_generator=self._ids
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("gptoss.gateway")

    def make(self, facts: Facts) -> None:
        """Make the spans of a request."""
        trace = facts.trace
        self._ids.trace_id = int(trace.trace_id, 16)
        self._ids.span_id = int(trace.span_id, 16)
        operation = _OPERATIONS.get(facts.route)
        asked = facts.asked_model or facts.model
        common: Attributes = {}
        if operation:
            common = {"gen_ai.operation.name": operation, "gen_ai.provider.name": _PROVIDER}
        if asked:
            common["gen_ai.request.model"] = asked
        name = " ".join(filter(None, (operation or facts.route, asked)))
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(_caller(trace))),
            kind=SpanKind.SERVER,
            attributes=common | _of_request(facts),
            start_time=facts.started_ns,
        )
        if error := _error(facts):
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        for number, attempt in enumerate(facts.attempts, 1):
            self._make_attempt(span, trace.attempt(number), attempt, name, common)
        span.end(facts.ended_ns)

    def _make_attempt(
        self, parent: Span, id: str, attempt: Attempt, name: str, common: Attributes
    ) -> None:
        self._ids.span_id = int(id, 16)
        url = urlsplit(attempt.replica)
        attributes = common | {"server.address": url.hostname or attempt.replica}
        if url.port:
            attributes["server.port"] = url.port
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(parent),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=attempt.started_ns,
        )
        if attempt.fault:
            span.set_attribute("error.type", attempt.fault)
            span.set_status(Status(StatusCode.ERROR))
        span.end(attempt.ended_ns)

    def close(self) -> None:
        """Send what is left, then end."""
        self._provider.shutdown()


def _caller(trace: Trace) -> SpanContext:
    """The span that the request's hangs from; not a valid one where a trace begins."""
    if not trace.parent_id:
        return SpanContext(0, 0, is_remote=False)
    return SpanContext(
        int(trace.trace_id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=_SAMPLED,
        trace_state=TraceState.from_header([trace.state]),
    )


def _of_request(facts: Facts) -> Attributes:
    found: Attributes = {
        "http.response.status_code": facts.status,
        "gptoss.request_id": facts.request_id,
        "gptoss.outcome": facts.outcome,
    }
    named = {
        "gptoss.team": facts.team,
        "gptoss.key": facts.key,
        "gptoss.replica": facts.replica,
        "gptoss.settlement": facts.settlement,
    }
    found |= {name: value for name, value in named.items() if value}
    if facts.queue_seconds is not None:
        found["gptoss.queue_seconds"] = facts.queue_seconds
    if facts.asked_model and facts.model not in ("", facts.asked_model):
        found["gen_ai.response.model"] = facts.model
    if facts.route not in _OPERATIONS:
        return found
    found["gen_ai.request.stream"] = facts.streamed
    if facts.first_token_seconds is not None:
        found["gen_ai.response.time_to_first_chunk"] = facts.first_token_seconds
    if facts.settlement:
        found |= {
            "gen_ai.usage.input_tokens": facts.prompt_tokens,
            "gen_ai.usage.output_tokens": facts.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": facts.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": facts.reasoning_tokens,
        }
    return found


def _error(facts: Facts) -> str:
    """What failed, if it was for the gateway to do: neither a refusal nor a client that left."""
    if facts.status >= 500 or (
        facts.status == 200 and facts.outcome != "ok" and facts.outcome not in _BY_CLIENT
    ):
        return facts.outcome
    return ""
