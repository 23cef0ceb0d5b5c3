"""What is asked: the bodies of `/v1/chat/completions`, one after the other of a conversation.

How many tokens a prompt has is known in advance:

- The first turn of a conversation without tools is exact for gpt-oss, given the `overhead` that
  was measured. For other vocabularies it is near.
- Later turns have the model's answers in them, whose text without markers has fewer tokens than
  the server counted; what is between messages is gpt-oss's. They are a little too high.
- With tools it is an estimate: each server writes functions in a way of its own.

An answer that calls functions gets their results, made up, as a turn of its own.
"""

import json
import math
import random
from typing import Any, Final

import msgspec

from loadtest.plan import lengths, seeds, tools
from loadtest.plan.arrival import Arrival
from loadtest.plan.words import Words
from loadtest.scenario.lengths import Uniform
from loadtest.scenario.workload import Workload

# What gpt-oss's format (Harmony) puts around each, in tokens. The first user message and what the
# answer begins with are in the measured overhead.
_INSTRUCTIONS: Final = 7
_USER: Final = 4
_ANSWER: Final = 6
_CALL: Final = 14
_RESULT: Final = 12

_RESULT_LENGTH: Final = Uniform(kind="uniform", low=20, high=220)
_MOST_ROUNDS: Final = 8
"""Of calls in a row. A model that does nothing but call gets the next message after them."""

_encode = msgspec.json.Encoder().encode


class ToolCall(msgspec.Struct):
    """A function that the model called."""

    id: str
    name: str
    arguments: str
    """JSON, or what the model took for that."""


class Answer(msgspec.Struct):
    """What came to a turn."""

    content: str
    """Without the reasoning, which does not go into the next prompt."""
    tool_calls: list[ToolCall] = []
    output_tokens: int = 0
    """As the server counted them, with the reasoning."""
    reasoning_tokens: int = 0
    """Those among them that are reasoning; 0 where the server does not say it."""


class Turn(msgspec.Struct):
    """One request, ready to be sent."""

    body: bytes
    """JSON."""
    prompt_planned: int
    """Tokens of all that is sent, with what the server puts around it."""
    output_planned: int
    """The most tokens of an answer."""
    think: float
    """To be waited before it, after the answer before, s."""
    cancel_after: float | None
    """When its client gives it up, s after the sending; None: never."""


class Prompts:
    """Makes conversations. `overhead` is what the server puts around a prompt that is one message,
    in tokens: the `prompt_tokens` that it counts for n words, less n."""

    def __init__(self, words: Words, overhead: int) -> None:
        self._words = words
        self._overhead = overhead

    def conversation(
        self, workload: Workload, arrival: Arrival, model: str, team_seed: int
    ) -> "Conversation":
        """The one that an arrival begins. The same arguments give the same bytes, as far as the
        answers are the same; what is shared within a team comes of `team_seed`."""
        return Conversation(self._words, self._overhead, workload, arrival, model, team_seed)


class Conversation:
    """A request, or several, each of which has all before it in its prompt."""

    def __init__(
        self,
        words: Words,
        overhead: int,
        workload: Workload,
        arrival: Arrival,
        model: str,
        team_seed: int,
    ) -> None:
        self._words = words
        self._workload = workload
        self._arrival = arrival
        self._team_seed = team_seed
        self._frame = _frame(workload, model)
        self._messages: list[dict[str, Any]] = []
        # The first user message is in the overhead.
        self._tokens = overhead - _USER + tools.tokens(workload.tools)
        rng = random.Random(seeds.of(arrival.seed, "conversation"))  # noqa: S311  # no secret
        self._turns = lengths.draw(workload.turns, rng)
        self._group = rng.random()
        self._turn = 0
        self._round = 0

    def turn(self, answer: Answer | None) -> Turn | None:
        """The next request: the first for None, then for the answer to the one before.

        None: the conversation is over. So it is after an answer that did not come.
        """
        if answer is None:
            return None if self._messages else self._first()
        self._hear(answer)
        self._round += 1
        self._return(answer.tool_calls)
        if answer.tool_calls and self._round <= _MOST_ROUNDS:
            return self._listen()
        return None if self._turn == self._turns else self._next()

    def _first(self) -> Turn:
        prefix = self._workload.prefix
        if prefix:
            group = int(self._group * prefix.groups)
            seed = seeds.of(self._team_seed, "prefix", self._workload.name, group)
            self._say("system", self._words.text(seed, prefix.tokens))
            self._tokens += prefix.tokens + _INSTRUCTIONS
        return self._next()

    def _next(self) -> Turn:
        """Something that the user says. What was called before it changes nothing in it."""
        self._round = 0
        rng = self._random()
        prompt = lengths.draw(self._workload.prompt, rng)
        output = lengths.draw(self._workload.output, rng)
        think = -math.log(1 - rng.random()) * self._workload.think if self._turn else 0.0
        if self._turn == 0:
            prompt = self._arrival.prompt or prompt
            output = self._arrival.output or output
        self._say("user", self._text(prompt))
        self._tokens += prompt + _USER
        turn = self._made(output, think, rng)
        self._turn += 1
        return turn

    def _return(self, calls: list[ToolCall]) -> None:
        """What the functions returned. Servers refuse calls that have no result."""
        for number, call in enumerate(calls):
            seed = self._seed("result", number)
            count = lengths.draw(_RESULT_LENGTH, random.Random(seed))  # noqa: S311  # no secret
            text = self._words.text(seed, count)
            self._messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
            self._tokens += count + _RESULT

    def _listen(self) -> Turn:
        """With the results alone, at once: the user says nothing."""
        rng = self._random()
        return self._made(lengths.draw(self._workload.output, rng), 0.0, rng)

    def _hear(self, answer: Answer) -> None:
        """Take an answer into what the next prompt has."""
        message: dict[str, Any] = {"role": "assistant", "content": _sendable(answer.content)}
        if answer.tool_calls:
            message["tool_calls"] = [_called(call) for call in answer.tool_calls]
            self._tokens += _CALL * len(answer.tool_calls)
        if answer.content:
            self._tokens += _ANSWER
        if answer.content or answer.tool_calls:
            self._tokens += max(0, answer.output_tokens - answer.reasoning_tokens)
        self._messages.append(message)

    def _text(self, count: int) -> str:
        """A user's message. The first one begins with the blocks that a trace says."""
        own = self._seed("prompt")
        blocks = self._arrival.prefix if self._turn == 0 else ()
        pieces, left = [], count
        for block in blocks:
            taken = min(left, self._arrival.block)
            pieces.append(self._words.after(seeds.of(self._team_seed, "block", block), taken))
            left -= taken
            if left == 0:
                break
        pieces.append(self._words.after(own, left))
        return "".join(pieces)[1:]

    def _say(self, role: str, text: str) -> None:
        self._messages.append({"role": role, "content": text})

    def _made(self, output: int, think: float, rng: random.Random) -> Turn:
        body = self._frame | {"messages": self._messages, "max_tokens": output}
        if self._workload.exact_output:
            body |= {"ignore_eos": True, "min_tokens": output}
        gives_up = rng.random() * 100 < self._workload.cancel_percent
        return Turn(
            body=_encode(body | self._workload.extra),
            prompt_planned=self._tokens,
            output_planned=output,
            think=think,
            cancel_after=self._workload.cancel_after if gives_up else None,
        )

    def _seed(self, what: str, number: int = 0) -> int:
        return seeds.of(self._arrival.seed, what, self._turn, self._round, number)

    def _random(self) -> random.Random:
        """Of this turn: what was drawn before it changes nothing."""
        return random.Random(self._seed("turn"))  # noqa: S311  # no secret


def _frame(workload: Workload, model: str) -> dict[str, Any]:
    """What is alike in all requests of a workload."""
    body: dict[str, Any] = {"model": model, "temperature": workload.temperature}
    if workload.stream:
        # With the counts in each piece nothing has to be counted here. A server that refuses the
        # second option, which is vLLM's, gets others by `extra`.
        options = {"include_usage": True, "continuous_usage_stats": True}
        body |= {"stream": True, "stream_options": options}
    if workload.reasoning_effort:
        body["reasoning_effort"] = workload.reasoning_effort
    if workload.tools:
        body["tools"] = tools.functions(workload.tools)
    if workload.schema_:
        body["response_format"] = tools.answer_format()
    return body


def _called(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": _arguments(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments(text: str) -> str:
    """Servers refuse a history with arguments that are no JSON object: a model that writes such
    would end its conversation with a 400."""
    try:
        whole = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        whole = False
    return _sendable(text) if whole else "{}"


def _sendable(text: str) -> str:
    """Half a character, which a model may write in JSON as an escape, has no UTF-8."""
    return text.encode("utf-8", "replace").decode()
