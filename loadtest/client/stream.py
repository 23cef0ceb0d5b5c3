"""Server-sent events of `/v1/chat/completions`, out of whatever bytes a socket gives.

`Events` cuts, `Chunk` is what an event says. Both are told apart from what it means (answer.py).
"""

import re
from typing import Annotated, Any

import msgspec

DONE = b"[DONE]"
LONGEST = 64 * 1024 * 1024
"""Bytes of one event, beyond which what comes is no stream of events."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Events:
    """Cuts a stream of bytes into events, and gives the `data` of each.

    How the bytes were split on their way makes no difference. As the HTML standard says: lines end
    with LF, CR or CRLF, comments and other fields mean nothing here, several `data` lines are one
    text, and what has no empty line after it is no event.
    """

    __slots__ = ("_after_cr", "_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that are whole with these bytes. Raises `ValueError` if one never ends."""
        if not (self._rest or self._data or self._after_cr):
            # Nearly all reads are one event, and nothing else: this costs a tenth of the rest.
            end = data.find(b"\n")
            if end == len(data) - 2 and data[end:] == b"\n\n" and data[:6] == b"data: ":
                text = data[6:end]
                if b"\r" not in text:
                    return [text]
        return self._lines(data)

    def _lines(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            # The second half of a CRLF whose first half has ended its line already.
            self._after_cr = False
            data = data.removeprefix(b"\n")
        seen = len(self._rest)
        buffer = self._rest + data
        events: list[bytes] = []
        start = 0
        for end in _LINE_END.finditer(buffer, seen):
            self._line(buffer[start : end.start()], events)
            start = end.end()
        self._after_cr = self._after_cr or (start == len(buffer) > 0 and buffer[-1:] == b"\r")
        self._rest = buffer[start:]
        if len(self._rest) > LONGEST:
            raise ValueError(f"an event of more than {LONGEST} bytes")
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            self._data.append(b"")


# More is no count of tokens, nor a number that every reader of records can read.
Count = Annotated[int, msgspec.Meta(le=2**53)]


class FunctionDelta(msgspec.Struct, gc=False):
    """Of a tool call: pieces of what is called, and with what."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct):
    """A piece of a tool call, or in a whole answer all of it."""

    index: int = 0
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(msgspec.Struct):
    """What a chunk adds to an answer, or in a whole answer all of it."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """As vLLM 0.32 and OpenRouter call it; `reasoning_content` is the older name."""
    tool_calls: list[ToolCallDelta] | None = None


class Choice(msgspec.Struct):
    """One of the answers: there is one."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct, gc=False):
    """Of the prompt's tokens."""

    cached_tokens: Count | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """Of the answer's tokens."""

    reasoning_tokens: Count | None = None


class Usage(msgspec.Struct):
    """What the server counted: in the end, or with `continuous_usage_stats` up to each chunk."""

    prompt_tokens: Count = 0
    completion_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


class Chunk(msgspec.Struct):
    """An event, or a whole answer. `choices` is None where there was none of it at all."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    object: str | None = None
    """`error` where the error's fields are the answer's own, as old vLLM has it."""
    code: Any = None
    type: Any = None

    @property
    def failed(self) -> bool:
        """Whether it says that the answer failed."""
        return self.error is not None or self.object == "error"


class Failure(msgspec.Struct, frozen=True):
    """What an error says of itself. Empty where it says nothing."""

    code: str = ""
    type: str = ""


_chunks = msgspec.json.Decoder(Chunk)


def chunk(text: bytes) -> Chunk:
    """What an event says. Raises `ValueError` if it is nothing that such a server sends."""
    try:
        found = _chunks.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if found.choices is None and found.usage is None and not found.failed:
        raise ValueError("neither choices nor an error")
    return found


def failure(found: Chunk) -> Failure:
    """The code and type of an error, as text: codes may be numbers."""
    error = found.error
    if isinstance(error, dict):
        return Failure(_text(error.get("code")), _text(error.get("type")))
    if error is not None:
        return Failure(code=_text(error)[:100])
    return Failure(_text(found.code), _text(found.type))


def failure_of(body: bytes) -> Failure:
    """The code and type in the body of an error answer; empty where that is no JSON."""
    try:
        return failure(_chunks.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Failure()


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)
