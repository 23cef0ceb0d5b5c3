"""A stream goes out once the engine has generated something, and all of it goes out."""

import json
from typing import Any

import pytest

from service.gateway.opening import Opening
from service.gateway.policy import Request
from service.gateway.routes import INFERENCE, Dialect
from service.gateway.usage import Meter, Shown

CHAT = INFERENCE["/v1/chat/completions"]
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
WORD = {"choices": [{"index": 0, "delta": {"content": "word"}}]}
NOTHING: dict[str, Any] = {"choices": []}
DONE = b"data: [DONE]\n\n"


def event(document: dict[str, Any], completion: int) -> bytes:
    usage = {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": completion}
    return (
        b"data: "
        + json.dumps(document | {"usage": usage}, separators=(",", ":")).encode()
        + b"\n\n"
    )


def opening(*, may_be_empty: bool = False) -> tuple[Opening, Meter]:
    meter = Meter(Dialect.OPENAI, Shown.CONTINUOUS)
    return Opening(Request(CHAT, "m", True, b"", may_be_empty=may_be_empty), meter), meter


def test_what_says_nothing_yet_waits_for_the_first_token() -> None:
    held, meter = opening()
    role, word = event(ROLE, 0), event(WORD, 1)
    assert held.feed(meter.feed(role), complete=False) == b""
    assert not held.is_over
    assert held.feed(meter.feed(word), complete=False) == role + word
    assert held.is_over


def test_an_answer_of_an_engine_that_is_shutting_down_is_known_by_its_emptiness() -> None:
    """As vLLM 0.32.0 ends a request that comes after SIGTERM."""
    held, meter = opening()
    held.feed(meter.feed(event(ROLE, 0)), complete=False)
    held.feed(meter.feed(event(NOTHING, 0) + DONE), complete=True)
    assert held.is_over
    assert held.is_empty


def test_an_answer_of_one_token_is_not_empty() -> None:
    held, meter = opening()
    held.feed(meter.feed(event(ROLE, 0) + event(WORD, 1)), complete=False)
    held.feed(meter.feed(event(NOTHING, 1) + DONE), complete=True)
    assert not held.is_empty


def test_where_nothing_was_asked_for_nothing_is_an_answer() -> None:
    held, meter = opening(may_be_empty=True)
    held.feed(meter.feed(event(NOTHING, 0) + DONE), complete=True)
    assert not held.is_empty


def test_an_engine_that_does_not_say_what_it_used_is_passed_on_at_once() -> None:
    held, meter = opening()
    plain = b'data: {"choices":[{"index":0,"delta":{}}]}\n\n'
    assert held.feed(meter.feed(plain), complete=False) == plain


@pytest.mark.parametrize(
    ("dialect", "first", "token"),
    [
        (Dialect.RESPONSES, b"response.created", b"response.output_text.delta"),
        (Dialect.ANTHROPIC, b"message_start", b"content_block_delta"),
    ],
)
def test_in_other_dialects_a_piece_of_output_is_the_first_token(
    dialect: Dialect, first: bytes, token: bytes
) -> None:
    meter = Meter(dialect)
    held = Opening(Request(CHAT, "m", True, b""), meter)
    events = [b"event: %s\ndata: {}\n\n" % name for name in (first, token)]
    assert held.feed(meter.feed(events[0]), complete=False) == b""
    assert held.feed(meter.feed(events[1]), complete=False) == b"".join(events)
