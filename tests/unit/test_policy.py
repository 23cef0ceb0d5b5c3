"""What of a body reaches the engine, and what does not."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.caps import Caps
from service.gateway.errors import APIError
from service.gateway.policy import Bounds, Request, compose, read
from service.gateway.routes import INFERENCE, Route
from service.gateway.usage import Shown
from service.quota.limits import Effort

CHAT = INFERENCE["/v1/chat/completions"]
RESPONSES = INFERENCE["/v1/responses"]
BOUNDS, NO_CAPS = Bounds(choices=8, depth=64), Caps()

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


def decide(route: Route, body: bytes, caps: Caps = NO_CAPS, prompt: int = 10) -> Request:
    asked, fields = read(route, body, BOUNDS)
    return compose(asked, fields, caps, prompt, asked.model)


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


# What decides something here is tested by itself, below.
DECISIVE = {"model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"}
LEFT_ALONE = sorted(CHAT.fields.passed - DECISIVE - {"reasoning_effort"})


@given(st.dictionaries(st.sampled_from(LEFT_ALONE), json_values))
def test_values_pass_unchanged(document: dict[str, Any]) -> None:
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


# --- what a request may ask for

MESSAGES = INFERENCE["/v1/messages"]
COMPLETIONS = INFERENCE["/v1/completions"]


def composed(
    route: Route, document: dict[str, Any], caps: Caps, prompt: int = 10
) -> dict[str, Any]:
    asked = json.dumps({"model": "m"} | document).encode()
    body: dict[str, Any] = json.loads(decide(route, asked, caps, prompt).body)
    return body


@pytest.mark.parametrize(
    ("route", "field"),
    [
        (CHAT, "max_completion_tokens"),
        (CHAT, "max_tokens"),
        (COMPLETIONS, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
        (MESSAGES, "max_tokens"),
    ],
)
def test_more_output_than_the_team_may_have_is_refused(route: Route, field: str) -> None:
    caps = Caps(max_output=100)
    assert composed(route, {field: 100}, caps)[field] == 100
    with pytest.raises(APIError, match=f"{field} is too large: 101.*at most 100") as refusal:
        composed(route, {field: 101}, caps)
    assert (refusal.value.status, refusal.value.param) == (400, field)


@pytest.mark.parametrize("route", [CHAT, RESPONSES, MESSAGES], ids=lambda route: route.name)
def test_an_answer_that_the_client_does_not_bound_is_bounded_for_it(route: Route) -> None:
    assert composed(route, {}, Caps(max_output=100))[route.output[0]] == 100
    assert route.output[0] not in composed(route, {}, NO_CAPS)


@pytest.mark.parametrize("value", ["5", 5.0, True, [5]])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
def test_no_other_spelling_of_a_number_gets_around_a_cap(field: str, value: object) -> None:
    with pytest.raises(APIError, match=f"'{field}': expected an integer"):
        composed(CHAT, {field: value}, Caps(max_output=100))


def test_more_context_than_the_team_may_have_is_refused() -> None:
    caps = Caps(max_context=100)
    assert composed(CHAT, {"max_tokens": 60}, caps, prompt=40)["max_tokens"] == 60
    assert composed(CHAT, {}, caps, prompt=40)["max_completion_tokens"] == 60
    for prompt, document in ((100, {}), (41, {"max_tokens": 60})):
        with pytest.raises(APIError, match="maximum context length is 100") as refusal:
            composed(CHAT, document, caps, prompt=prompt)
        assert refusal.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("route", "path"),
    [
        (CHAT, ("reasoning_effort",)),
        (RESPONSES, ("reasoning", "effort")),
        (MESSAGES, ("output_config", "effort")),
    ],
)
def test_only_the_efforts_of_the_team_can_be_asked_for(route: Route, path: tuple[str, ...]) -> None:
    def said(effort: str) -> dict[str, Any]:
        return {path[0]: {path[1]: effort} if path[1:] else effort}

    caps = Caps(efforts=(Effort.LOW, Effort.MEDIUM))
    for word in ("low", "minimal", "none", "medium"):
        composed(route, said(word), caps)
    for word in ("high", "xhigh", "odd"):
        with pytest.raises(APIError, match="use low or medium") as refusal:
            composed(route, said(word), caps)
        assert refusal.value.param == ".".join(path)


@pytest.mark.parametrize(
    ("allowed", "meant"), [(["low"], "low"), (["high"], "high"), (["low", "high"], "low")]
)
def test_who_says_nothing_of_effort_gets_the_next_that_is_allowed(
    allowed: list[str], meant: str
) -> None:
    caps = Caps(efforts=tuple(Effort(word) for word in allowed))
    assert composed(CHAT, {}, caps)["reasoning_effort"] == meant
    assert composed(RESPONSES, {}, caps)["reasoning"] == {"effort": meant}


@pytest.mark.parametrize("count", [0, -1, 9, 16384])
def test_n_is_small(count: int) -> None:
    """CVE-2025-62426 and vLLM's own default of 16384: one request must not fill every seat."""
    with pytest.raises(APIError, match="Invalid 'n': expected 1 to 8"):
        composed(CHAT, {"n": count}, NO_CAPS)


@pytest.mark.parametrize(
    ("prompt", "prompts", "ids"),
    [
        ('"a, b"', 1, None),
        ("[]", 1, 1),
        ("[1, 2, 3]", 1, 3),
        ('["a", "b"]', 2, None),
        ('[ "a, b"]', 1, None),
        ("[[1, 2], [3], [4]]", 3, None),
    ],
)
def test_prompts_and_token_ids_are_counted(prompt: str, prompts: int, ids: int | None) -> None:
    asked, _ = read(COMPLETIONS, b'{"model": "m", "prompt": %s}' % prompt.encode(), BOUNDS)
    assert (asked.prompts, asked.token_ids) == (prompts, ids)


def test_millions_of_token_ids_are_counted_without_being_built() -> None:
    body = b'{"model": "m", "prompt": [' + b"1," * (4 << 20) + b"1]}"
    began = time.process_time()
    assert read(COMPLETIONS, body, BOUNDS)[0].token_ids == (4 << 20) + 1
    read_in = time.process_time() - began
    began = time.process_time()
    json.loads(body)
    assert read_in < (time.process_time() - began) / 2


def test_a_raw_prompt_is_refused_where_the_effort_is_limited() -> None:
    """It could say `Reasoning: high` in Harmony's own words."""
    with pytest.raises(APIError, match="takes raw prompts") as refusal:
        composed(COMPLETIONS, {"prompt": "x"}, Caps(efforts=(Effort.LOW,)))
    assert refusal.value.status == 403


@pytest.mark.parametrize("value", [10_000_001, 2**63 - 1, 2**63, 2**64, -1])
def test_a_bound_that_is_no_sensible_number_is_refused(value: int) -> None:
    """Counters are integers of the store: none of a tenant's choosing may break them."""
    with pytest.raises(APIError, match=r"max_tokens|parse the JSON"):
        composed(CHAT, {"max_tokens": value}, NO_CAPS)


def test_prompts_of_one_request_are_few() -> None:
    with pytest.raises(APIError, match="Invalid 'prompt': expected 1 to 8"):
        composed(COMPLETIONS, {"prompt": ["a"] * 9}, NO_CAPS)


def test_a_body_that_is_nested_too_deep_is_refused() -> None:
    """CVE-2025-48944: a deep `pattern` or schema must not reach a parser of the engine."""
    deep: object = "x"
    for _ in range(70):
        deep = [deep]
    with pytest.raises(APIError, match="deeper than 64 levels"):
        composed(CHAT, {"messages": deep}, NO_CAPS)


# --- what is added for the engine


def test_the_cache_of_a_team_is_its_own_on_every_route_that_generates() -> None:
    for route in INFERENCE.values():
        body = composed(route, {}, Caps(cache_salt="pepper"))
        assert body.get("cache_salt") == ("pepper" if route.salted else None)
        assert "cache_salt" not in composed(route, {}, NO_CAPS)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (None, Shown.NONE),
        ({}, Shown.NONE),
        ({"include_usage": False}, Shown.NONE),
        ({"continuous_usage_stats": True}, Shown.NONE),
        ({"include_usage": True}, Shown.FINAL),
        ({"include_usage": True, "continuous_usage_stats": True}, Shown.CONTINUOUS),
    ],
)
def test_usage_is_always_asked_for_and_what_the_client_wanted_is_remembered(
    options: dict[str, object] | None, shown: Shown
) -> None:
    document = {"model": "m", "stream": True, "stream_options": options}
    asked, fields = read(CHAT, json.dumps(document).encode(), BOUNDS)
    assert asked.shown is shown
    sent = json.loads(compose(asked, fields, NO_CAPS, 10, "m").body)["stream_options"]
    assert sent == {"include_usage": True, "continuous_usage_stats": True}


def test_nothing_is_asked_for_where_nothing_streams() -> None:
    assert "stream_options" not in composed(CHAT, {"stream": False}, NO_CAPS)
    assert "stream_options" not in composed(RESPONSES, {"stream": True}, NO_CAPS)


@pytest.mark.parametrize("options", [1, "x", [], {"include_usage": "true"}])
def test_stream_options_of_the_wrong_type_are_refused(options: object) -> None:
    with pytest.raises(APIError, match="stream_options"):
        composed(CHAT, {"stream": True, "stream_options": options}, NO_CAPS)
