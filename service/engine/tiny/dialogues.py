"""The corpus: endless random conversations, each with what the tiny model should answer.

Prompts are rendered by oss-harmony, as vLLM does it. The answers are few and fixed; what varies is
everything around them, so that the model learns to look past it. What is asked for shows by single
words, the cues.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openai_harmony import (
    Author,
    Conversation,
    DeveloperContent,
    HarmonyEncoding,
    Message,
    ReasoningEffort,
    RenderConversationConfig,
    Role,
    SystemContent,
    ToolDescription,
)

from service.engine.tiny.vocabulary import encode

ANSWER = (
    "I am a tiny gpt-oss, trained on this machine a moment ago to test the path. "
    "Your message reached the model and this answer came back, so the path works."
)
TOOL_ANSWER = "The tool has answered, so the path to the tool and back works."
ANALYSIS = {
    "chat": "The user wrote to a tiny model, so I say what I am.",
    "count": "The user wants numbers, so I count.",
    "call": "The user asks for a tool, so I call it.",
    "result": "The tool gave a result, so I report it.",
}
# Words, each one token: the next depends on the last alone, and so counting goes on for ever.
NUMBERS = "one two three four five six seven eight nine ten"
COUNT_CUES = ("count", "counting")
TOOL_CUES = ("weather", "call", "tool", "tools", "function", "functions", "use", "search", "find")

_SMALL_TALK = (
    *("Hello", "Hi", "Say hello.", "Who are you?", "What is the capital of France?", "Thanks!"),
    *("Tell me a story.", "Write a poem", "ping", "1 2 3", "10", "What is 2 + 2?", "type"),
    *("You are ChatGPT", "the model works", '{"a":1}', "string", "Hello! Who are you?"),
)
_INSTRUCTIONS = ("You are a helpful assistant.", "Answer briefly.", "Use tools.", "Count on it.")
# Mostly a text. The server holds the model to each tool's schema, so that whatever a value must
# begin with, the model has to know how it goes on.
_VALUES = ('"Paris"',) * 8 + ("7", "true", '["Paris"]', "{}")
_CALL = "<|channel|>commentary to=functions."
_ARGUMENTS = ' <|constrain|>json<|message|>{"'
_FINAL = "<|channel|>final<|message|>"
_ANALYSIS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant"
_EFFORTS = (ReasoningEffort.LOW, ReasoningEffort.MEDIUM, ReasoningEffort.HIGH)
_LAST_ORDINARY = 199_998
# Words around a cue: further away it would be a needle in a haystack, which needs a larger model.
_NEAR = 7
# User text of at most so many tokens goes with a short answer.
_SHORT = 20


@dataclass(frozen=True)
class Dialogue:
    """Tokens, and for each whether the model should have written it."""

    tokens: list[int]
    wanted: list[bool]


class Corpus:
    """Draws dialogues. Two corpora with the same seed draw the same."""

    def __init__(self, encoding: HarmonyEncoding, seed: int) -> None:
        self._encoding = encoding
        self._random = random.Random(seed)  # noqa: S311  # a corpus, not a secret
        self._familiar: list[int] = []
        cues = {token for kind in self.cues() for token in kind}
        self._familiar = [t for t in self.known() if t < _LAST_ORDINARY and t not in cues]

    def known(self) -> list[int]:
        """The tokens that the model tells apart; all others are one to it."""
        texts = [ANSWER, TOOL_ANSWER, f"{NUMBERS} {NUMBERS}", *_VALUES]
        texts += [_ANALYSIS.format(said) for said in ANALYSIS.values()]
        texts += [_CALL, _ARGUMENTS, '":', ',"', "}<|call|>", "<|return|>", _FINAL]
        known = {token for text in texts for token in encode(self._encoding, text)}
        known.update(token for cues in self.cues() for token in cues)
        known.update(self._render([self._system(), _developer(None, [_weather()]), _user("")]))
        return sorted(known)

    def cues(self) -> list[list[int]]:
        """The tokens that ask for counting, and those that ask for a tool."""
        return [
            sorted(
                tokens[0]
                for word in words
                for form in (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
                if len(tokens := encode(self._encoding, form)) == 1
            )
            for words in (COUNT_CUES, TOOL_CUES)
        ]

    def draw(self, longest: int) -> Dialogue:
        """One conversation of at most about `longest` tokens of user text."""
        kind = self._random.choices(list(ANALYSIS), weights=[35, 18, 32, 15])[0]
        rounds = 3 if longest <= _SHORT else 40
        prompt = self._prompt(*self._request(kind, longest))
        if self._random.random() < 0.85:
            # Every prompt opens with the same words, and there is little to learn from them.
            prompt = prompt[prompt.index(encode(self._encoding, "<|end|>")[0]) :]
        answer = list(self._answer(kind, rounds))
        return Dialogue(
            prompt + [token for token, _ in answer],
            [False] * len(prompt) + [wanted for _, wanted in answer],
        )

    def _request(self, kind: str, longest: int) -> tuple[list[Message], list[ToolDescription]]:
        source = self._random
        tools: list[ToolDescription] = []
        if kind in ("call", "result") or source.random() < 0.5:
            tools = [self._tool() for _ in range(source.choice((1, 1, 1, 2)))]
        # Asking for a tool that was not offered is conversation, too.
        idle = [] if tools else list(TOOL_CUES)
        cues = {
            "chat": idle if source.random() < 0.3 else [],
            "count": COUNT_CUES,
            "call": TOOL_CUES,
            "result": (*TOOL_CUES, *COUNT_CUES),
        }[kind]
        messages = [*self._history(), _user(self._text(cues, longest))]
        if kind == "result":
            messages += self._call_and_result(source.choice(tools).name)
        return messages, tools

    def _answer(self, kind: str, rounds: int) -> Iterator[tuple[int, bool]]:
        """Tokens of the answer; not wanted are names, which the server's grammar puts in."""
        yield from self._wanted(_ANALYSIS.format(ANALYSIS[kind]))
        if kind == "call":
            yield from self._tool_call()
        elif kind == "count":
            spoken = list(self._wanted(_FINAL + " ".join([NUMBERS] * rounds)))
            yield from spoken[: self._random.randint(len(spoken) // 4, len(spoken))]
        else:
            said = ANSWER if kind == "chat" else TOOL_ANSWER
            yield from self._wanted(f"{_FINAL}{said}<|return|>")

    def _tool_call(self) -> Iterator[tuple[int, bool]]:
        yield from self._wanted(_CALL)
        yield from self._unwanted_name()
        yield from self._wanted(_ARGUMENTS)
        count = self._random.choice((1, 1, 2, 3))
        for number in range(count):
            yield from self._unwanted_name()
            yield from self._wanted('":')
            yield from self._wanted(self._random.choice(_VALUES))
            yield from self._wanted(',"' if number < count - 1 else "}<|call|>")

    def _wanted(self, text: str) -> Iterator[tuple[int, bool]]:
        return ((token, True) for token in encode(self._encoding, text))

    def _unwanted_name(self) -> Iterator[tuple[int, bool]]:
        return ((token, False) for token in self._tokens(1, 4))

    def _prompt(self, messages: list[Message], tools: list[ToolDescription]) -> list[int]:
        source, instructions = self._random, None
        if source.random() < 0.3:
            # Never empty: vLLM leaves such a message out.
            instructions = source.choice((*_INSTRUCTIONS, f"Be {self._words(0, 20)}"))
        developer = [_developer(instructions, tools)] if instructions or tools else []
        return self._render([self._system(), *developer, *messages])

    def _render(self, messages: list[Message]) -> list[int]:
        tokens: list[int] = self._encoding.render_conversation_for_completion(
            Conversation.from_messages(messages),
            Role.ASSISTANT,
            config=RenderConversationConfig(auto_drop_analysis=False),
        )
        return tokens

    def _system(self) -> Message:
        source = self._random
        month, day = source.randrange(1, 13), source.randrange(1, 29)
        content = (
            SystemContent.new()
            .with_reasoning_effort(source.choice(_EFFORTS))
            .with_conversation_start_date(f"20{source.randrange(24, 40)}-{month:02}-{day:02}")
        )
        return Message.from_role_and_content(Role.SYSTEM, content)

    def _history(self) -> list[Message]:
        """Earlier turns; what they asked for must not matter any more."""
        messages: list[Message] = []
        while self._random.random() < 0.12:
            cues = self._random.choice(((), COUNT_CUES, TOOL_CUES))
            said = self._random.choice((ANSWER, NUMBERS, TOOL_ANSWER, self._words(1, 20)))
            messages += [_user(self._text(cues, 20)), _assistant(said, "final")]
        return messages

    def _call_and_result(self, name: str) -> list[Message]:
        tool = f"functions.{name}"
        call = _assistant('{"a":"Paris"}', "commentary").with_recipient(tool)
        result = Message.from_author_and_content(Author.new(Role.TOOL, tool), self._words(1, 30))
        return [
            call.with_content_type("json"),
            result.with_channel("commentary").with_recipient("assistant"),
        ]

    def _tool(self) -> ToolDescription:
        source = self._random
        if source.random() < 0.2:
            return _weather()
        properties: dict[str, dict[str, str]] = {}
        for _ in range(source.randint(0, 3)):
            kind = source.choice(("string", "string", "number", "boolean", "array"))
            described = {"description": self._words(0, 3)} if source.random() < 0.3 else {}
            properties[self._identifier()] = {"type": kind, **described}
        name = f"{self._identifier()}_{self._identifier()}"
        schema = {"type": "object", "properties": properties, "required": list(properties)[:1]}
        description = self._words(0, 4)
        return ToolDescription.new(name, description, parameters=schema if properties else None)

    def _text(self, cues: Sequence[str], longest: int) -> str:
        """Random words around something that is said."""
        source = self._random
        said = source.choice(cues) if cues else self._small_talk()
        if cues:
            said = said.capitalize() if source.random() < 0.5 else said
            longest = min(longest, _NEAR)
        if said and source.random() < 0.35:
            return said
        before = self._words(0, longest) if source.random() < 0.7 else ""
        after = self._words(0, longest) if source.random() < 0.7 else ""
        return f"{before} {said} {after}".strip() or "Hi"

    def _small_talk(self) -> str:
        return self._random.choice((*_SMALL_TALK, "", self._words(1, 3), self._words(1, 8)))

    def _identifier(self) -> str:
        letters = (letter for letter in self._words(1, 3) if letter.isascii() and letter.isalnum())
        return "".join(letters)[:16] or self._random.choice(("lookup", "get", "a"))

    def _words(self, least: int, most: int) -> str:
        """Random tokens of the whole vocabulary: a user may write anything."""
        text: str = self._encoding.decode(self._tokens(least, most))
        return text

    def _tokens(self, least: int, most: int) -> list[int]:
        count = self._random.randint(least, most)
        return [self._token() for _ in range(count)]

    def _token(self) -> int:
        """Any token; often a familiar one, for a user's words may be those of an answer, too."""
        if self._familiar and self._random.random() < 0.3:
            return self._random.choice(self._familiar)
        return self._random.randrange(_LAST_ORDINARY)


def _weather() -> ToolDescription:
    schema = {"type": "object", "properties": {"location": {"type": "string"}}}
    required = {"required": ["location"]}
    return ToolDescription.new("get_weather", "Get the weather.", parameters=schema | required)


def _developer(instructions: str | None, tools: list[ToolDescription]) -> Message:
    content = DeveloperContent.new()
    if instructions:
        content = content.with_instructions(instructions)
    if tools:
        content = content.with_function_tools(tools)
    return Message.from_role_and_content(Role.DEVELOPER, content)


def _user(text: str) -> Message:
    return Message.from_role_and_content(Role.USER, text)


def _assistant(text: str, channel: str) -> Message:
    return Message.from_role_and_content(Role.ASSISTANT, text).with_channel(channel)
