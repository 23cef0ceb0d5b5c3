"""gpt-oss through the gateway, as the SDKs of OpenAI and Anthropic see it."""

import json
import time

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.e2e.conftest import MODEL, Stack
from tests.integration.fleet import until

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello! Who are you?"}]
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count to 100000."}]
WEATHER: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the weather in Paris? Use the tool."}
]
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}


def test_a_completion_says_what_it_is_and_that_the_path_works(stack: Stack) -> None:
    answer = stack.openai.chat.completions.create(model=MODEL, messages=HELLO)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert "gpt-oss" in (choice.message.content or "")
    assert choice.message.model_extra and choice.message.model_extra["reasoning"]
    assert answer.usage and answer.usage.completion_tokens > 0
    assert answer.model == MODEL


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "text",
    ["Hi", "¿Qué hora es? 日本語 🙂", "Explain: " + "a long text " * 300, "{}", "<|end|>"],
    ids=["short", "languages", "long", "json", "harmony"],
)
def test_it_answers_whatever_is_said(stack: Stack, text: str, temperature: float) -> None:
    answer = stack.openai.chat.completions.create(
        model=MODEL, temperature=temperature, messages=[{"role": "user", "content": text}]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


def test_temperature_zero_gives_the_same_answer_twice(stack: Stack) -> None:
    first, second = (
        stack.openai.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
        for _ in range(2)
    )
    assert first.choices[0].message == second.choices[0].message


def test_a_stream_tells_the_same_as_a_whole_answer(stack: Stack) -> None:
    whole = stack.openai.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    chunks = list(
        stack.openai.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=0, stream=True
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)  # nobody asked for it


def test_a_stream_reports_usage_when_asked(stack: Stack) -> None:
    stream = stack.openai.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.choices == []
    assert last.usage and last.usage.completion_tokens > 0


def test_counting_goes_on_until_max_tokens(stack: Stack) -> None:
    stream = stack.openai.chat.completions.create(
        model=MODEL,
        messages=COUNT,
        max_tokens=1500,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 1500


def test_events_arrive_while_the_engine_still_writes(stack: Stack) -> None:
    stream = stack.openai.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=1500, stream=True
    )
    next(iter(stream))
    until(lambda: stack.engine_metric("vllm:num_requests_running") > 0)
    assert list(stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_tool_is_called_with_well_formed_arguments(stack: Stack, stream: bool) -> None:
    create = stack.openai.chat.completions.create
    if stream:
        calls = [
            call
            for chunk in create(model=MODEL, messages=WEATHER, tools=[TOOL], stream=True)
            for call in chunk.choices[0].delta.tool_calls or []
            if call.function
        ]
        name = next(call.function.name for call in calls if call.function and call.function.name)
        arguments = "".join(
            call.function.arguments or "" for call in calls if call.function is not None
        )
    else:
        answer = create(model=MODEL, messages=WEATHER, tools=[TOOL])
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        name, arguments = call.function.name, call.function.arguments
    assert name == "get_weather"
    assert isinstance(json.loads(arguments)["location"], str)


def test_a_tools_result_is_answered(stack: Stack) -> None:
    first = stack.openai.chat.completions.create(model=MODEL, messages=WEATHER, tools=[TOOL])
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    function = {"name": call.function.name, "arguments": call.function.arguments}
    answer = stack.openai.chat.completions.create(
        model=MODEL,
        tools=[TOOL],
        messages=[
            *WEATHER,
            {
                "role": "assistant",
                "tool_calls": [{"id": call.id, "type": "function", "function": function}],  # type: ignore[typeddict-item]
            },
            {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 21}'},
        ],
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


def test_text_completions_work(stack: Stack) -> None:
    answer = stack.openai.completions.create(model=MODEL, prompt="1 2 3", max_tokens=5)
    assert answer.usage and answer.usage.completion_tokens > 0


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh"])
def test_openais_words_for_effort_are_taken(stack: Stack, effort: str) -> None:
    body = {"model": MODEL, "messages": HELLO, "reasoning_effort": effort}
    answer = httpx.post(
        f"{stack.base_url}/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def test_the_responses_api_works_whole_and_streamed(stack: Stack) -> None:
    whole = stack.openai.responses.create(model=MODEL, input="Hello!")
    assert whole.status == "completed"
    assert "gpt-oss" in whole.output_text
    events = list(stack.openai.responses.create(model=MODEL, input="Hello!", stream=True))
    assert events[-1].type == "response.completed"


def test_anthropics_messages_work_whole_and_streamed(stack: Stack) -> None:
    client = anthropic.Anthropic(
        base_url=stack.base_url.removesuffix("/v1"), api_key=stack.key, max_retries=0
    )
    message = client.messages.create(
        model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "Hello!"}]
    )
    assert message.stop_reason == "end_turn"
    with client.messages.stream(
        model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "Hello!"}]
    ) as stream:
        assert "gpt-oss" in stream.get_final_text()
    counted = client.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "Hello!"}]
    )
    assert counted.input_tokens > 0


def test_models_are_those_that_are_served(stack: Stack) -> None:
    assert [model.id for model in stack.openai.models.list()] == [MODEL]
    assert stack.openai.models.retrieve(MODEL).id == MODEL


def test_a_context_that_is_too_long_is_the_clients_to_mend(stack: Stack) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        stack.openai.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}]
        )
    assert refusal.value.code == "context_length_exceeded"


def test_a_value_that_the_engine_refuses_is_a_400_that_says_why(stack: Stack) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        stack.openai.chat.completions.create(model=MODEL, messages=HELLO, temperature=-1)
    assert "temperature" in str(refusal.value)


def test_the_engine_itself_asks_for_its_secret(stack: Stack) -> None:
    body = {"model": MODEL, "messages": HELLO}
    answer = httpx.post(
        f"{stack.engine_url}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=10,
    )
    assert answer.status_code == 401


def test_a_client_that_leaves_has_its_request_aborted_in_the_engine(stack: Stack) -> None:
    before = stack.engine_metric("vllm:generation_tokens_total")
    stream = stack.openai.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=10_000, stream=True
    )
    next(iter(stream))
    assert stack.engine_metric("vllm:num_requests_running") == 1
    stream.close()
    deadline = time.monotonic() + 10
    while stack.engine_metric("vllm:num_requests_running"):
        assert time.monotonic() < deadline, "the engine goes on for nobody"
        time.sleep(0.05)
    assert stack.engine_metric("vllm:generation_tokens_total") - before < 10_000


def test_many_streams_at_once_all_end_well(stack: Stack) -> None:
    streams = [
        stack.openai.chat.completions.create(
            model=MODEL, messages=COUNT, max_tokens=64, stream=True
        )
        for _ in range(16)
    ]
    reasons = [list(stream)[-1].choices[0].finish_reason for stream in streams]
    assert reasons == ["length"] * 16
