"""Sends spans to a collector: OTLP over HTTP.

OpenTelemetry's own exporter would add 3.8 MB to the gateway's image, environment variables that
nobody sees among our settings, and a log line for each batch. All of this runs in the thread of the
batch processor.
"""

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

_PATH = "/v1/traces"
_TIMEOUT_SECONDS = 5.0
# Before the second and the third try, as long as the collector is away or says that it is busy.
_PAUSES = (1.0, 2.0)
_BUSY = (429, 502, 503, 504)
_LOG_SECONDS = 60.0


class _Refused(Exception):
    """The collector does not take the batch."""


class OTLPExporter(SpanExporter):
    """Sends batches; what it cannot send is dropped and counted."""

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], pauses: Sequence[float] = _PAUSES
    ) -> None:
        url = urlsplit(endpoint)
        self._host, self._port = url.hostname or "", url.port
        self._path = url.path.rstrip("/") + _PATH
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._headers = {"content-type": "application/x-protobuf", **headers}
        self._endpoint = f"{url.scheme}://{url.netloc}{self._path}"
        self._pauses = pauses
        self._ending = threading.Event()
        self._quiet_until = 0.0
        self.sent = 0
        self.dropped = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, again if need be."""
        try:
            body = encode_spans(spans).SerializeToString()
            self._send(body)
        except Exception as error:  # whatever it is, the next batch has to be tried
            self.dropped += len(spans)
            self._complain(error)
            return SpanExportResult.FAILURE
        self.sent += len(spans)
        return SpanExportResult.SUCCESS

    def end(self) -> None:
        """From now on nothing is tried twice."""
        self._ending.set()

    def _send(self, body: bytes) -> None:
        for pause in (*self._pauses, None):
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException):
                if pause is None or self._ending.wait(pause):
                    raise
                continue
            if 200 <= status < 300:
                return
            if status not in _BUSY or pause is None or self._ending.wait(pause):
                raise _Refused(f"status {status}")

    def _post(self, body: bytes) -> int:
        timeout = 1.0 if self._ending.is_set() else _TIMEOUT_SECONDS
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        )
        try:
            connection.request("POST", self._path, body, self._headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _LOG_SECONDS
        log.warning(
            "spans do not get to the collector",
            extra={
                "endpoint": self._endpoint,
                "error": f"{type(error).__name__}: {error}",
                "dropped": self.dropped,
            },
        )
