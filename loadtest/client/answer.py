"""What is known of one answer while it comes.

A *piece* is what one read of the socket brought with at least one token in it. Events that came
together in one read have one time, since nobody knows another, and are one piece; an event that
came in two reads has the time of the second. Gaps are between pieces, so that there are none of 0.
A token is content, reasoning or a part of a tool call: a role alone, or an empty text, is none.
"""

from loadtest.client.stream import (
    DONE,
    Choice,
    Delta,
    Events,
    Failure,
    ToolCallDelta,
    Usage,
    chunk,
    failure,
)
from loadtest.outcome import Outcome
from loadtest.record import Record


class ToolCallText:
    """A tool call, put together."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = ""


class Reading:
    """Takes what comes, and notes when. Times are of the clock whose values it is given, s."""

    __slots__ = (
        "_events",
        "_gaps",
        "_keep_text",
        "_texts",
        "done",
        "failed",
        "finish",
        "first",
        "first_tokens",
        "free",
        "gap",
        "last",
        "malformed",
        "max_gap",
        "output",
        "pieces",
        "tools",
        "usage",
    )

    def __init__(self, keep_text: bool, keep_gaps: bool) -> None:
        self.first: float | None = None
        self.output: float | None = None
        self.last = 0.0
        self.pieces = 0
        self.free = 0.0
        """When its client can go on, s since the run's start: after `[DONE]` the end of the body
        may be waited for, so that the connection can be used again."""
        self.gap = 0.0
        """The latest."""
        self.max_gap = 0.0
        self.first_tokens = 0
        self.finish = ""
        self.usage: Usage | None = None
        self.done = False
        """`[DONE]` has come."""
        self.failed: Failure | None = None
        self.malformed = ""
        self.tools: dict[int, ToolCallText] = {}
        self._events = Events()
        self._keep_text = keep_text
        self._texts: list[str] = []
        self._gaps: list[float] | None = [] if keep_gaps else None

    @property
    def over(self) -> bool:
        """Whether nothing more is of interest."""
        return self.done or self.failed is not None or bool(self.malformed)

    @property
    def content(self) -> str:
        """The answer's text, without reasoning, where it was to be kept."""
        return "".join(self._texts)

    def feed(self, data: bytes, now: float) -> None:
        """Take what one read brought at `now`."""
        has_token = has_output = False
        usage = None
        try:
            for text in self._events.feed(data):
                if text == DONE:
                    self.done = True
                    break
                found = chunk(text)
                if found.choices:
                    choice = found.choices[0]
                    if choice.finish_reason:
                        self.finish = choice.finish_reason
                    delta = choice.delta
                    if delta is not None:
                        if delta.content or delta.tool_calls:
                            has_token = has_output = True
                            self._keep(delta)
                        elif delta.reasoning or delta.reasoning_content:
                            has_token = True
                if found.usage is not None:
                    self.usage = usage = found.usage
                if found.failed:
                    self.failed = failure(found)
                    break
        except ValueError as error:
            self.malformed = str(error)
        if has_token:
            self._piece(now, has_output, usage)

    def _piece(self, now: float, has_output: bool, usage: Usage | None) -> None:
        if self.first is None:
            self.first = now
            self.first_tokens = (usage.completion_tokens or 0) if usage else 0
        else:
            self.gap = gap = now - self.last
            if gap > self.max_gap:
                self.max_gap = gap
            if self._gaps is not None:
                self._gaps.append(gap)
        if has_output and self.output is None:
            self.output = now
        self.last = now
        self.pieces += 1

    def whole(self, body: bytes, now: float) -> None:
        """Take an answer that was not streamed: all its tokens come at its end, in one piece."""
        try:
            found = chunk(body)
        except ValueError as error:
            self.malformed = str(error)
            return
        self.usage = found.usage
        if found.failed:
            self.failed = failure(found)
        elif not found.choices or found.choices[0].message is None:
            self.malformed = "no message"
        else:
            self.done = True
            self._message(found.choices[0], found.choices[0].message, now)

    def _message(self, choice: Choice, message: Delta, now: float) -> None:
        self.finish = choice.finish_reason or ""
        has_output = bool(message.content or message.tool_calls)
        for number, call in enumerate(message.tool_calls or ()):
            call.index = number
        self._keep(message)
        if has_output or message.reasoning or message.reasoning_content:
            self._piece(now, has_output, self.usage)

    def _keep(self, delta: Delta) -> None:
        if self._keep_text:
            if delta.content:
                self._texts.append(delta.content)
            for call in delta.tool_calls or ():
                self._keep_call(call)

    def _keep_call(self, call: ToolCallDelta) -> None:
        tool = self.tools.setdefault(call.index, ToolCallText())
        tool.id = call.id or tool.id
        if call.function is not None:
            tool.name += call.function.name or ""
            tool.arguments += call.function.arguments or ""

    def outcome(self) -> Outcome:
        """How it ended, when it has ended of itself."""
        if self.failed is not None:
            return Outcome.ERROR_EVENT
        if self.malformed:
            return Outcome.MALFORMED
        if not (self.done and self.finish):
            return Outcome.TRUNCATED
        return Outcome.LENGTH if self.finish == "length" else Outcome.OK

    def code(self) -> str:
        """What the outcome comes from, where it is not good: the server's word, or one of ours."""
        if self.failed is not None:
            return self.failed.code or self.failed.type
        if self.malformed:
            return self.malformed
        if self.done and self.finish:
            return ""
        return "no_finish" if self.done else "no_done" if self.finish else "no_end"

    def fill(self, record: Record, began: float) -> None:
        """Write down what came. `began` is the time of the run's start."""
        if self.first is not None:
            record.first = self.first - began
            record.last = self.last - began
        if self.output is not None:
            record.output = self.output - began
        record.finish = self.finish
        record.pieces = self.pieces
        record.max_gap = self.max_gap
        record.gaps = self._gaps or []
        record.first_tokens = self.first_tokens
        if usage := self.usage:
            record.prompt_tokens = usage.prompt_tokens
            record.output_tokens = usage.completion_tokens or 0
            if prompt := usage.prompt_tokens_details:
                record.cached_tokens = prompt.cached_tokens or 0
            if completion := usage.completion_tokens_details:
                record.reasoning_tokens = completion.reasoning_tokens or 0
