"""What is written down of a request that has ended: metrics, objectives, a line of log, a span.

Never what was said in it.
"""

import logging

from service.gateway.exchange import Exchange
from service.gateway.timing import Timing
from service.gateway.usage import Usage
from service.quota.limits import Tier
from service.telemetry.contract import NONE
from service.telemetry.facts import Facts
from service.telemetry.metrics import Children, Metrics
from service.telemetry.slo import Seen, judge
from service.telemetry.trace import Sampling
from service.telemetry.tracing import Tracer

log = logging.getLogger(__name__)

_NOTHING = Usage()
_CLIENT_CLOSED = 499  # nginx's number for a client that left before its answer
_ENDS = {
    "ok": "complete",
    "client_gone": "client_left",
    "client_stalled": "client_left",
    "engine_error": "engine_error",
    "engine_disconnected": "engine_cut",
    "engine_timeout": "engine_silent",
    "gateway_shutdown": "shutdown",
    "invalid_request_error": "refused",
    "context_length_exceeded": "refused",
}


class Recorder:
    """Writes down requests that have ended. Raises nothing."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._requests = Children(metrics.requests)
        self._duration = Children(metrics.duration)
        self._ttft = Children(metrics.ttft)
        self._tpot = Children(metrics.tpot)
        self._added = Children(metrics.added)
        self._slo_requests = Children(metrics.slo_requests)
        self._slo_good = Children(metrics.slo_good)

    @property
    def sampling(self) -> Sampling:
        """Which requests are traced."""
        return self._tracer.sampling

    def record(self, exchange: Exchange) -> None:
        """Count it, log it, trace it."""
        if exchange.streaming:
            self._metrics.streams_open.dec()
        try:
            facts, tpot = _facts(exchange), _tpot(exchange)
            _log(facts, exchange.timing, tpot)
            self._count(exchange, facts, tpot)
            self._tracer.record(facts)
        except Exception:  # nothing here is worth an answer
            log.exception("a request was not written down", extra={"request_id": exchange.id})

    def _count(self, exchange: Exchange, facts: Facts, tpot: float | None) -> None:
        metrics, timing = self._metrics, exchange.timing
        route, model = exchange.route, exchange.model
        team, example = metrics.teams.label(facts.team or None), {"trace_id": facts.trace.trace_id}
        seconds = timing.seconds
        self._requests[route, model, team, str(facts.status), facts.outcome].inc()
        self._duration[route, model].observe(seconds, example)
        if timing.ttft is not None:
            self._ttft[route, model].observe(timing.ttft, example)
            metrics.itl.add(model, timing.gaps, timing.streamed)
            metrics.chunks.labels(model).inc(timing.pieces)
        whole = facts.outcome == "ok" and not exchange.streaming
        if exchange.replica and (timing.ttft is not None or whole):
            self._added[model,].observe(timing.added)
        if tpot is not None:
            self._tpot[model,].observe(tpot)
        if exchange.streaming:
            metrics.streams.labels(model, _ENDS.get(facts.outcome, "other")).inc()
        if exchange.inference:
            seen = Seen(
                facts.status,
                facts.outcome,
                facts.streamed,
                seconds,
                timing.ttft,
                tpot,
                exchange.principal is not None and exchange.principal.team.tier is Tier.BATCH,
            )
            for slo, good in judge(seen, metrics.bounds).items():
                self._slo_requests[model, team, slo].inc()
                self._slo_good[model, team, slo].inc(good)


def _facts(exchange: Exchange) -> Facts:
    principal, bill = exchange.principal, exchange.bill
    usage = bill.usage if bill else _NOTHING
    return Facts(
        exchange.id,
        exchange.trace,
        exchange.route,
        exchange.status or _CLIENT_CLOSED,
        exchange.outcome,
        exchange.began_ns,
        exchange.began_ns + int(exchange.timing.seconds * 1e9),
        "" if exchange.model == NONE else exchange.model,
        exchange.asked_model or ("" if exchange.model == NONE else exchange.model),
        principal.team.name if principal else "",
        principal.id if principal else "",
        exchange.replica or "",
        exchange.asked_stream,
        exchange.timing.ttft,
        exchange.timing.queued,
        usage.prompt,
        usage.completion,
        usage.cached,
        usage.reasoning,
        bill.settlement.value if bill else "",
        tuple(exchange.attempts),
    )


def _log(facts: Facts, timing: Timing, tpot: float | None) -> None:
    log.info(
        "request",
        extra={
            "request_id": facts.request_id,
            "trace_id": facts.trace.trace_id,
            "route": facts.route,
            "model": facts.model or NONE,
            "key": facts.key or None,
            "team": facts.team or None,
            "status": facts.status,
            "outcome": facts.outcome,
            "replica": facts.replica or None,
            "attempts": len(facts.attempts),
            "stream": facts.streamed,
            "seconds": round(timing.seconds, 4),
            "ttft_seconds": _rounded(timing.ttft),
            "tpot_seconds": _rounded(tpot),
            "queue_seconds": round(timing.queued, 4),
            "settlement": facts.settlement or None,
            "prompt_tokens": facts.prompt_tokens,
            "completion_tokens": facts.completion_tokens,
            "cached_tokens": facts.cached_tokens,
            "reasoning_tokens": facts.reasoning_tokens,
        },
    )


def _tpot(exchange: Exchange) -> float | None:
    """Of one stream of at least two tokens, as far as the engine has said how many there were."""
    bill = exchange.bill
    if bill is None or exchange.timing.ttft is None or bill.usage.completion < 2:
        return None
    if bill.tab.asked.choices * bill.tab.asked.prompts != 1:
        return None  # several at once: there is no time between the tokens of all
    timing = exchange.timing
    if exchange.outcome in ("ok", "client_stalled"):  # or it was the client that was slow
        return timing.streamed / (bill.usage.completion - 1)
    # The silence at its end was part of what the client waited for.
    return (timing.streamed + timing.silence) / (bill.usage.completion - 1)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
