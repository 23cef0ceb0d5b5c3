"""Whether gpt-oss answers as its clients expect: a completion, a stream and a tool call."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from service.errors import UserError

# A real model thinks before it answers; a cold one compiles first.
_MAX_TOKENS = 1024
_TIMEOUT_SECONDS = 180.0

_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}


class SelfTest:
    """Three requests to an OpenAI-compatible endpoint, each checked for its form.

    `transport` sends them in place of httpx's own. UserError for a key that no header can hold.
    """

    def __init__(
        self, base_url: str, key: str, model: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        if not (key.isascii() and (key.isprintable() or not key)):
            raise UserError("self-test: the key holds what no key of ours does: check its source")
        self._model = model
        self._client = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,  # it talks to this machine or cluster: no proxy belongs in between
            transport=transport,
        )

    def run(self, done: Callable[[str, float], None]) -> None:
        """Make all three; `done` gets each one's name and seconds. Raises `UserError`."""
        with self._client:
            for name, check in (
                ("chat completion", self._completion),
                ("streamed completion", self._stream),
                ("tool call", self._tool_call),
            ):
                started = time.monotonic()
                try:
                    check()
                except (
                    httpx.HTTPError,
                    ValueError,
                    LookupError,
                    TypeError,
                    AttributeError,
                ) as error:
                    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                    raise UserError(
                        f"self-test: the {name} did not come back well-formed ({reason}):"
                        " see the logs of the engine and the gateway"
                    ) from error
                done(name, time.monotonic() - started)

    def _completion(self) -> None:
        answer = self._ask("Hello! Who are you?").json()
        (choice,) = answer["choices"]
        _expect(choice["finish_reason"] == "stop", "it was not finished")
        _expect((choice["message"]["content"] or "").strip() != "", "the answer is empty")
        _expect(answer["usage"]["completion_tokens"] > 0, "no tokens are reported")

    def _stream(self) -> None:
        body = self._body("Hello! Who are you?") | {"stream": True}
        with self._client.stream("POST", "/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                raise ValueError(response.text)
            chunks = list(_chunks(response.iter_lines()))
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        _expect(text.strip() != "", "the stream holds no text")
        _expect(choices[-1]["finish_reason"] == "stop", "it was not finished")

    def _tool_call(self) -> None:
        answer = self._ask("What is the weather in Paris? Use the tool.", tools=[_TOOL]).json()
        (choice,) = answer["choices"]
        (call,) = choice["message"]["tool_calls"]
        _expect(call["function"]["name"] == "get_weather", "another tool was called")
        arguments = json.loads(call["function"]["arguments"])
        _expect(isinstance(arguments["location"], str), "the argument is not a text")
        _expect(choice["finish_reason"] == "tool_calls", "it was not finished by the call")

    def _ask(self, text: str, **fields: object) -> httpx.Response:
        response = self._client.post("/chat/completions", json=self._body(text) | fields)
        _expect(response.status_code == 200, response.text)
        return response

    def _body(self, text: str) -> dict[str, object]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": _MAX_TOKENS,
            "temperature": 0,
        }


def _chunks(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The documents of a stream; raises ValueError for one without its end."""
    for line in lines:
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            document = json.loads(line.removeprefix("data: "))
            _expect("error" not in document, str(document.get("error")))
            yield document
    raise ValueError("the stream ended without [DONE]")


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
