"""What of a body reaches the engine, and what does not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.errors import APIError
from service.gateway.policy import decide
from service.gateway.routes import INFERENCE, Route

CHAT = INFERENCE["/v1/chat/completions"]
RESPONSES = INFERENCE["/v1/responses"]

# What would let one tenant starve, read or impersonate another, or take over the engine.
FORBIDDEN = (
    "priority",
    "cache_salt",
    "request_id",
    "session_id",
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "prompt_logprobs",
    "use_beam_search",
    "ignore_eos",
    "min_tokens",
    "prompt_embeds",
    "background",
    "previous_response_id",
    "stream_interval",
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def passed(route: Route, document: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(decide(route, json.dumps(document).encode()).body)
    return body


@pytest.mark.parametrize("route", INFERENCE.values(), ids=lambda route: route.name)
@pytest.mark.parametrize("field", FORBIDDEN)
def test_no_route_lets_a_tenant_set_what_is_not_theirs(route: Route, field: str) -> None:
    with pytest.raises(APIError) as refusal:
        passed(route, {"model": "m", field: 1})
    assert refusal.value.status == 400
    assert refusal.value.param == field


@pytest.mark.parametrize("name", [r"\u0070riority", r"p\u0072iority"])
def test_an_escaped_name_is_the_same_name(name: str) -> None:
    with pytest.raises(APIError, match="priority"):
        decide(CHAT, b'{"model": "m", "%s": 1}' % name.encode())


def test_a_name_given_twice_reaches_the_engine_once() -> None:
    request = decide(CHAT, b'{"model": "a", "model": "b", "stream": true, "stream": false}')
    assert request.model == "b"
    assert request.stream is False
    assert request.body.count(b"model") == 1
    assert json.loads(request.body)["model"] == "b"


@given(st.dictionaries(st.sampled_from(sorted(CHAT.fields.passed - {"stream"})), json_values))
def test_values_pass_unchanged(document: dict[str, Any]) -> None:
    # Effort is said in the engine's words, which is tested by itself.
    for effort in ("reasoning_effort", "reasoning"):
        document.pop(effort, None)
    document["model"] = "m"
    assert passed(CHAT, document) == document


@given(st.dictionaries(st.text(max_size=12), json_values, max_size=6))
def test_nothing_but_allowed_fields_ever_passes(document: dict[str, Any]) -> None:
    for route in INFERENCE.values():
        try:
            body = passed(route, {"model": "m"} | document)
        except APIError as refusal:
            assert refusal.status == 400
        else:
            assert body.keys() <= route.fields.passed


def test_what_names_a_person_is_accepted_and_goes_no_further() -> None:
    document = {"model": "m", "user": "jane", "metadata": {"a": "b"}, "safety_identifier": "x"}
    assert passed(CHAT, document) == {"model": "m"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model": "m",}',
        b"{'model': 'm'}",
        b'{"model": NaN}',
        b'\xef\xbb\xbf{"model": "m"}',
        b'{"model": "m", "messages": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model": "m"} {"model": "n"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_one_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(APIError, match="could not parse the JSON body") as refusal:
        decide(CHAT, body)
    assert refusal.value.status == 400


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    with pytest.raises(APIError):
        decide(CHAT, body + b"\xff")


@pytest.mark.parametrize("model", [None, 1, [], {"a": 1}])
def test_a_model_that_is_no_text_is_refused(model: object) -> None:
    with pytest.raises(APIError, match="'model'"):
        passed(CHAT, {"model": model})


def test_a_request_without_a_model_is_refused() -> None:
    with pytest.raises(APIError, match="Missing required parameter: 'model'"):
        passed(CHAT, {})


@pytest.mark.parametrize("stream", [1, "true", []])
def test_a_stream_flag_that_is_no_boolean_is_refused(stream: object) -> None:
    with pytest.raises(APIError, match="'stream'"):
        passed(CHAT, {"model": "m", "stream": stream})


@pytest.mark.parametrize(
    ("said", "meant"),
    [("minimal", "low"), ("none", "low"), ("xhigh", "high"), ("medium", "medium"), ("odd", "odd")],
)
def test_openais_words_for_effort_are_said_in_the_engines(said: str, meant: str) -> None:
    assert passed(CHAT, {"model": "m", "reasoning_effort": said})["reasoning_effort"] == meant
    reasoning = {"effort": said, "summary": "auto"}
    answer = passed(RESPONSES, {"model": "m", "reasoning": reasoning})
    assert answer["reasoning"] == {"effort": meant, "summary": "auto"}


@pytest.mark.parametrize("value", [None, 3, [], {"effort": []}, {"effort": None}])
def test_an_effort_that_is_no_word_is_left_for_the_engine_to_refuse(value: object) -> None:
    assert passed(CHAT, {"model": "m", "reasoning_effort": value})["reasoning_effort"] == value
    assert passed(RESPONSES, {"model": "m", "reasoning": value})["reasoning"] == value
