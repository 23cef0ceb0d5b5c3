"""What a client sees of a stream whose usage is always reported, and what is read from it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.routes import Dialect
from service.gateway.usage import Meter, Shown, Usage

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def event(document: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def usage(prompt: int, completion: int, **more: object) -> dict[str, object]:
    total = prompt + completion
    return {
        "prompt_tokens": prompt,
        "total_tokens": total,
        "completion_tokens": completion,
        **more,
    }


def chunk(text: str, used: dict[str, object] | None, index: int = 0, **more: Any) -> dict[str, Any]:
    """As vLLM 0.32 writes it: the usage comes after the choices, and more may come after it."""
    choice = {"index": index, "delta": {"content": text}}
    head: dict[str, Any] = {"id": "c", "choices": [choice]}
    return head | ({"usage": used} if used else {}) | more


def last(used: dict[str, object]) -> dict[str, Any]:
    return {"id": "c", "choices": [], "usage": used}


STREAM = (
    event(chunk("", usage(9, 0)))
    + event(chunk("a", usage(9, 1)))
    + COMMENT
    + event(chunk("b", usage(9, 2), system_fingerprint="x"))
    + event(last(usage(9, 3)))
    + DONE
)


def test_a_client_that_did_not_ask_for_usage_sees_none() -> None:
    shown = Meter(Dialect.OPENAI, Shown.NONE).feed(STREAM)
    assert shown == (
        event(chunk("", None))
        + event(chunk("a", None))
        + COMMENT
        + event(chunk("b", None, system_fingerprint="x"))
        + DONE
    )


def test_a_client_that_asked_for_usage_sees_it_once_at_the_end() -> None:
    shown = Meter(Dialect.OPENAI, Shown.FINAL).feed(STREAM)
    assert shown.count(b"usage") == 1
    assert shown.endswith(event(last(usage(9, 3))) + DONE)


def test_a_client_that_asked_for_continuous_usage_gets_the_engines_bytes() -> None:
    assert Meter(Dialect.OPENAI, Shown.CONTINUOUS).feed(STREAM) == STREAM


def test_a_stream_that_is_cut_anywhere_is_known_up_to_the_last_chunk() -> None:
    meter = Meter(Dialect.OPENAI, Shown.NONE)
    events = [part + b"\n\n" for part in STREAM.split(b"\n\n")[:-1]]
    seen = []
    for part in events:
        meter.feed(part)
        assert meter.usage is not None
        seen.append((meter.usage.prompt, meter.usage.completion, meter.final))
    assert seen == [
        (9, 0, False),
        (9, 1, False),
        (9, 1, False),
        (9, 2, False),
        (9, 3, True),
        (9, 3, True),
    ]


texts = st.text(max_size=40) | st.sampled_from(
    [',"usage":{"prompt_tokens":1}', '"usage":null', "data: [DONE]", '","usage":{"a":1},"b":"']
)


@given(
    st.lists(texts, max_size=6),
    st.sampled_from([Shown.NONE, Shown.FINAL]),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_no_text_of_a_model_is_taken_for_usage_or_changed(
    written: list[str], shown: Shown, choices: int, followed: bool
) -> None:
    more: dict[str, Any] = {"system_fingerprint": ',"usage":{}'} if followed else {}
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {}}
    stream = b"".join(
        event(chunk(text, usage(5, n, **details), **more)) for n, text in enumerate(written)
    )
    expected = b"".join(event(chunk(text, None, **more)) for text in written)
    meter = Meter(Dialect.OPENAI, shown, choices)
    assert meter.feed(stream) == expected
    if written:
        assert meter.usage == Usage(5, len(written) - 1, cached=4)


def test_cached_and_reasoning_tokens_are_read() -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    meter = Meter(Dialect.OPENAI)
    meter.feed(event(last(usage(9, 3, **details))))
    assert meter.usage == Usage(9, 3, cached=8, reasoning=2)


def test_several_choices_of_a_prompt_count_the_prompt_once() -> None:
    meter = Meter(Dialect.OPENAI, choices=2)
    meter.feed(event(chunk("a", usage(9, 4), 0)) + event(chunk("b", usage(9, 5), 1)))
    assert meter.usage == Usage(9, 9)


def test_several_prompts_count_each_of_them() -> None:
    meter = Meter(Dialect.OPENAI, choices=2, prompts=2)
    for index, used in enumerate([usage(9, 1), usage(9, 2), usage(7, 3), usage(7, 4)]):
        meter.feed(event(chunk("a", used, index)))
    assert meter.usage == Usage(16, 10)


def test_an_engines_own_error_in_a_stream_is_noticed_and_passed_on() -> None:
    meter = Meter(Dialect.OPENAI, Shown.NONE)
    broken = event({"error": {"message": "out of memory", "code": 500}})
    assert meter.feed(broken) == broken
    assert meter.failed


@given(st.binary(max_size=80))
def test_what_cannot_be_read_is_passed_on_as_it_is(junk: bytes) -> None:
    junk = junk.replace(b"\n", b"")
    for dialect in Dialect:
        part = b"data: {" + junk + b"\n\n"
        assert Meter(dialect, Shown.NONE).feed(part) == part
        Meter(dialect).answer(junk)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"usage": usage(9, 3)}, Usage(9, 3)),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 3,
                    "input_tokens_details": {"cached_tokens": 4},
                    "output_tokens_details": {"reasoning_tokens": 1},
                }
            },
            Usage(9, 3, 4, 1),
        ),
        (
            {"usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 3}},
            Usage(9, 3, 4),
        ),
        ({"input_tokens": 12}, None),
        ({}, None),
    ],
    ids=["chat", "responses", "messages", "count_tokens", "nothing"],
)
def test_a_whole_answer_says_what_it_used(body: dict[str, Any], expected: Usage | None) -> None:
    meter = Meter(Dialect.OPENAI)
    meter.answer(json.dumps(body).encode())
    assert meter.usage == expected
    assert meter.final is (expected is not None)


def test_a_stream_of_responses_reports_at_its_end_and_counts_pieces_until_then() -> None:
    meter = Meter(Dialect.RESPONSES)
    piece = event({"delta": "a"}, "response.output_text.delta")
    assert meter.feed(event({}, "response.created") + piece * 3) == (
        event({}, "response.created") + piece * 3
    )
    assert (meter.usage, meter.final, meter.pieces) == (None, False, 3)
    used = {"input_tokens": 9, "output_tokens": 4}
    meter.feed(event({"response": {"usage": used}}, "response.completed"))
    assert (meter.usage, meter.final) == (Usage(9, 4), True)


def test_a_stream_of_messages_says_first_what_the_prompt_was_and_last_what_the_answer_was() -> None:
    meter = Meter(Dialect.ANTHROPIC)
    first = {"message": {"usage": {"input_tokens": 9, "output_tokens": 0}}}
    meter.feed(event(first, "message_start") + event({}, "content_block_delta"))
    assert (meter.usage, meter.final, meter.pieces) == (Usage(9, 0), False, 1)
    meter.feed(event({"usage": {"output_tokens": 4}}, "message_delta"))
    assert (meter.usage, meter.final) == (Usage(9, 4), True)
