"""Server-sent events on their way through: whole ones only, and whether the last one came."""

from service.gateway.routes import Dialect

_TERMINAL = {
    Dialect.OPENAI: (b"data: [DONE]",),
    Dialect.RESPONSES: (
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
        b"event: error",
    ),
    Dialect.ANTHROPIC: (b"event: message_stop", b"event: error"),
}


class EventStream:
    """Passes an engine's bytes on in whole events.

    A stream that is cut within an event would otherwise leave half a line with the client, whose
    parser fails on it before it reaches the error event that says what happened.
    """

    def __init__(self, dialect: Dialect) -> None:
        # At the start of a line only: within JSON a newline is always escaped, so that no text of
        # the model can look like the end.
        self._terminal = [(marker, b"\n" + marker) for marker in _TERMINAL[dialect]]
        self._rest = b""
        self.complete = False
        """Whether the event came with which a stream of this dialect ends."""

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes; what is left waits for more."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._rest = data
            return b""
        self._rest = data[end:]
        whole = data[:end] if end < len(data) else data
        for marker, on_a_line in self._terminal:
            if whole.startswith(marker) or on_a_line in whole:
                self.complete = True
        return whole
