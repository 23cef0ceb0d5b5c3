"""What a request used, as the engine says while it answers.

Of a stream the gateway always asks for vLLM's *continuous* usage: every chunk then says how much
was used so far, and a stream that is cut anywhere is settled at what the engine last said. A client
that did not ask sees none of it: neither the field in every chunk nor the chunk at the end.

An engine's answer that cannot be read here is passed on as it is: accounting never breaks bytes.
"""

import contextlib
import re
from dataclasses import dataclass
from enum import Enum

import msgspec

from service.gateway.routes import Dialect


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached` are among `prompt`, `reasoning` among `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class Shown(Enum):
    """How much usage a client of a stream asked for."""

    NONE = "none"
    FINAL = "final"
    CONTINUOUS = "continuous"


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Counts(msgspec.Struct):
    """The union of how OpenAI's two APIs and Anthropic's say it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> Usage:
        """One meaning for all."""
        cached = self.cache_read_input_tokens or 0
        # Anthropic counts cached tokens apart; OpenAI counts them among the others.
        apart = cached + (self.cache_creation_input_tokens or 0)
        prompt = self.prompt_tokens or (self.input_tokens or 0) + apart
        completion = self.completion_tokens or self.output_tokens or 0
        before, after = (
            self.prompt_tokens_details or self.input_tokens_details or _Details(),
            self.completion_tokens_details or self.output_tokens_details or _Details(),
        )
        cached = cached or before.cached_tokens or 0
        counts = (prompt, completion, cached, after.reasoning_tokens or 0)
        return Usage(*(max(count, 0) for count in counts))


class _Answer(msgspec.Struct):
    usage: _Counts | None = None


class _Choice(msgspec.Struct):
    index: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw()  # empty where there is none
    error: msgspec.Raw = msgspec.Raw()


class _Nested(msgspec.Struct):
    """Responses: `response.usage`; Anthropic: `message.usage`, and `usage` at the end."""

    response: _Answer | None = None
    message: _Answer | None = None
    usage: _Counts | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_counts = msgspec.json.Decoder(_Counts).decode
_decode_nested = msgspec.json.Decoder(_Nested).decode

# The last one: of what is nested too deeply.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_DATA = b"data: "
_END = b"\n\n"
_FIELD = b',"usage":{'
_NO_CHOICES = b'"choices":[],'
# As vLLM writes it in nearly all chunks: the last field. Its values are numbers, one level deep.
_LAST_FIELD = re.compile(rb',"usage":(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})\}\n\n\Z')
_FINAL_EVENTS = (
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"message_delta",
)
_FIRST_EVENTS = (b"message_start",)
_TOKEN_EVENTS = (b".delta", b"content_block_delta")


class Meter:
    """The usage of one answer.

    `final` is whether `usage` is all of it; `pieces` how many pieces of output were seen of one
    that reports only at its end; `failed` whether the engine ended a stream with an error of its
    own; `worked` whether an engine took the request on at all.
    """

    def __init__(
        self,
        dialect: Dialect,
        shown: Shown = Shown.CONTINUOUS,
        choices: int = 1,
        prompts: int = 1,
    ) -> None:
        self._shown = shown
        self._reports_at_end = dialect is not Dialect.OPENAI
        self._choices = choices
        self._single = choices * prompts == 1
        self._by_choice: dict[int, Usage] = {}
        self._unread = b""
        self._usage: Usage | None = None
        self.final = False
        self.pieces = 0
        self.failed = False
        self.worked = False

    def feed(self, events: bytes) -> bytes:
        """Take whole events. Returns what of them the client gets."""
        if self._reports_at_end:
            return self._events(events)
        if events.find(_END) == len(events) - len(_END):  # one, as nearly always
            return self._chunk(events)
        return b"".join([self._chunk(event + _END) for event in events.split(_END) if event])

    @property
    def usage(self) -> Usage | None:
        """What the engine has reported so far; None while it has said nothing."""
        if self._unread:
            unread, self._unread = self._unread, b""
            with contextlib.suppress(*_UNREADABLE):
                self._usage = _decode_counts(unread).usage()
        return self._usage

    @property
    def begun(self) -> bool:
        """Whether a token was generated, as far as can be known: some do not say before the end."""
        if self._reports_at_end:
            return self.pieces > 0 or self.final
        usage = self.usage
        return usage is None or usage.completion > 0

    @property
    def is_empty(self) -> bool:
        """Whether the engine has said that all of its answer is no token at all.

        The last token of an answer, which says that it ends, is counted: there always is one.
        """
        usage = self.usage
        return self.final and usage is not None and usage.completion == 0

    def answer(self, body: bytes) -> None:
        """Read a whole JSON answer."""
        try:
            counts = _decode_answer(body).usage
        except _UNREADABLE:
            return
        if counts:
            self._usage, self.final = counts.usage(), True

    def _chunk(self, event: bytes) -> bytes:
        """What the client gets of one event, which is given with its end.

        Within a JSON string a quote is escaped, so that what is looked for here can only be fields.
        """
        found = self._single and _LAST_FIELD.match(event, max(event.rfind(_FIELD), 0))
        if not found:
            return self._any_chunk(event)
        self._unread = found[1]  # read when somebody wants to know: most chunks are not the last
        if _NO_CHOICES in event:
            self.final = True
            return b"" if self._shown is Shown.NONE else event
        if self._shown is Shown.CONTINUOUS:
            return event
        return event[: found.start()] + b"}\n\n"

    def _any_chunk(self, whole: bytes) -> bytes:
        if not whole.startswith(_DATA + b"{"):
            return whole  # [DONE], a comment that keeps the connection alive
        try:
            chunk = _decode_chunk(whole[len(_DATA) :])
            if bytes(chunk.error):
                self.failed = True
            raw = bytes(chunk.usage)
            if raw in (b"", b"null"):
                return whole
            self._count(_decode_counts(raw).usage(), chunk.choices)
        except _UNREADABLE:
            return whole
        if self._shown is Shown.CONTINUOUS or (self._shown is Shown.FINAL and not chunk.choices):
            return whole
        return whole.replace(b',"usage":' + raw, b"", 1) if chunk.choices else b""

    def _count(self, usage: Usage, choices: list[_Choice]) -> None:
        """A chunk of one choice counts that choice; the one without choices counts them all."""
        if not choices:
            self._usage, self.final = usage, True
            return
        self._by_choice[choices[0].index] = usage
        self._usage = usage if len(self._by_choice) == 1 else self._sum()

    def _sum(self) -> Usage:
        every = self._by_choice.values()
        # The choices of one prompt follow each other, and each reports that prompt.
        prompts = {index // self._choices: usage for index, usage in self._by_choice.items()}
        return Usage(
            sum(usage.prompt for usage in prompts.values()),
            sum(usage.completion for usage in every),
            sum(usage.cached for usage in prompts.values()),
            sum(usage.reasoning for usage in every),
        )

    def _events(self, events: bytes) -> bytes:
        for event in events.split(_END):
            name, _, data = event.partition(b"\n")
            name = name.removeprefix(b"event: ")
            if name.endswith(_TOKEN_EVENTS):
                self.pieces += 1
            elif name == b"error":
                self.failed = True
            elif name in _FINAL_EVENTS or name in _FIRST_EVENTS:
                self._report(data.removeprefix(_DATA), final=name in _FINAL_EVENTS)
        return events

    def _report(self, data: bytes, *, final: bool) -> None:
        try:
            nested = _decode_nested(data)
        except _UNREADABLE:
            return
        holder = nested.response or nested.message or nested
        if holder.usage is not None:
            reported, before = holder.usage.usage(), self.usage or Usage()
            # Anthropic's last report may leave out what its first one said of the prompt.
            self._usage = Usage(
                reported.prompt or before.prompt,
                reported.completion,
                reported.cached or before.cached,
                reported.reasoning,
            )
            self.final = final
