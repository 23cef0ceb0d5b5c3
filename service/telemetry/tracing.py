"""Where the spans of requests go: nowhere, or to a collector.

Imports nothing of OpenTelemetry unless a collector is set.
"""

from typing import Protocol

from service.errors import UserError
from service.settings import TelemetrySettings
from service.telemetry.facts import Facts
from service.telemetry.trace import Sampling


class Tracer(Protocol):
    """Gets the facts of each request at its end."""

    @property
    def sampling(self) -> Sampling:
        """Which requests it records."""

    @property
    def dropped(self) -> int:
        """Spans that did not get to a collector."""

    def record(self, facts: Facts) -> None:
        """Keep a request's spans if it is sampled. Returns at once and never fails."""

    async def close(self) -> None:
        """Get the last spans through, within two seconds."""


class NoTracer:
    """Records nothing."""

    sampling = Sampling()
    dropped = 0

    def record(self, facts: Facts) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def open_tracer(settings: TelemetrySettings) -> Tracer:
    """The tracer that is configured. Raises `UserError` for one that is not installed."""
    if not settings.otlp_endpoint:
        return NoTracer()
    try:
        from service.telemetry.spans import SpanTracer
    except ImportError as error:
        raise UserError(
            "GPTOSS_TELEMETRY__OTLP_ENDPOINT is set and OpenTelemetry is not installed"
            f" ({error.name}): pip install 'gptoss-serving[tracing]'"
        ) from None
    return SpanTracer.to_collector(settings)
