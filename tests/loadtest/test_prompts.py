"""What is asked, byte by byte and token by token."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from loadtest.plan import tools
from loadtest.plan.arrival import Arrival
from loadtest.plan.prompts import Answer, Conversation, Prompts, ToolCall, Turn
from loadtest.plan.words import Words
from loadtest.scenario.workload import Workload

WORDS: Final = Words.load()
OVERHEAD: Final = 67
SEED: Final = 2**62 + 12345
CALL: Final = ToolCall("call_1", "read_documents", '{"path": "a.txt"}')


def workload(**fields: Any) -> Workload:
    return Workload.model_validate(fields)


def conversation(
    asked: Workload, seed: int = SEED, team_seed: int = 1, **fields: Any
) -> Conversation:
    arrival = Arrival(0, 0.0, 0, seed, **fields)
    return Prompts(WORDS, OVERHEAD).conversation(asked, arrival, "gpt-oss-120b", team_seed)


def first(asked: Workload, seed: int = SEED, team_seed: int = 1, **fields: Any) -> Turn:
    turn = conversation(asked, seed, team_seed, **fields).turn(None)
    assert turn
    return turn


def body(turn: Turn | None) -> dict[str, Any]:
    assert turn
    found: dict[str, Any] = json.loads(turn.body)
    return found


def said(turn: Turn | None) -> list[tuple[str, int]]:
    """Of each message: whose, and how many words."""
    return [(one["role"], len(one["content"].split())) for one in body(turn)["messages"]]


def answer(words: int = 20, *calls: ToolCall) -> Answer:
    return Answer(WORDS.text(words, words), list(calls), output_tokens=words)


# --- the body ---------------------------------------------------------------------------------


def test_a_plain_request_asks_for_a_stream_with_counts_in_each_piece() -> None:
    found = body(first(workload(prompt=30, output=40)))
    text = found.pop("messages")[0]["content"]
    assert len(text.split(" ")) == 30
    assert found == {
        "model": "gpt-oss-120b",
        "temperature": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 40,
    }


def test_a_whole_answer_is_asked_for_without_any_option_of_streams() -> None:
    found = body(first(workload(stream=False)))
    assert not {"stream", "stream_options"} & set(found)


def test_an_exact_answer_is_as_long_as_asked_for() -> None:
    found = body(first(workload(output=77, exact_output=True)))
    assert (found["max_tokens"], found["min_tokens"], found["ignore_eos"]) == (77, 77, True)


def test_effort_temperature_tools_and_schema_are_in_it() -> None:
    found = body(first(workload(reasoning_effort="high", temperature=0, tools=3, schema=True)))
    assert found["reasoning_effort"] == "high"
    assert found["temperature"] == 0
    assert len(found["tools"]) == 3
    assert found["response_format"]["type"] == "json_schema"


def test_further_fields_come_last_and_win() -> None:
    found = body(first(workload(extra={"top_p": 0.5, "max_tokens": 1})))
    assert (found["top_p"], found["max_tokens"]) == (0.5, 1)


def test_all_functions_differ_and_have_schemas_that_are_valid() -> None:
    functions = [one["function"] for one in tools.functions(tools.MOST)]
    assert len({one["name"] for one in functions}) == 128
    for one in functions:
        Draft202012Validator.check_schema(one["parameters"])
        assert set(one["parameters"]["required"]) <= set(one["parameters"]["properties"])
    Draft202012Validator.check_schema(tools.answer_format()["json_schema"]["schema"])


# --- seeds ------------------------------------------------------------------------------------

RICH: Final = workload(
    prompt={"kind": "uniform", "low": 10, "high": 500},
    output={"kind": "lognormal", "median": 100, "sigma": 1},
    prefix={"tokens": 100, "groups": 5},
    turns={"kind": "uniform", "low": 2, "high": 4},
    think=3,
    tools=2,
    cancel_percent=50,
)


def talk(seed: int, calls: int = 0, team_seed: int = 1, asked: Workload = RICH) -> list[Turn]:
    """A whole conversation in which each answer to the user calls functions so many times."""
    one = conversation(asked, seed, team_seed)
    turns: list[Turn] = []
    heard: Answer | None = None
    left = 0
    while turn := one.turn(heard):
        turns.append(turn)
        of_user = body(turn)["messages"][-1]["role"] == "user"
        left = calls if of_user else left - 1
        heard = answer(20, CALL) if left > 0 else answer(20)
    return turns


@given(st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    assert talk(seed, 1) == talk(seed, 1)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_another_seed_gives_another_text(one: int, other: int) -> None:
    asked = workload(prompt=8)
    assert (first(asked, one).body == first(asked, other).body) == (one == other)


@given(st.integers(0, 2**63 - 1), st.integers(1, 4))
def test_what_the_user_says_does_not_depend_on_what_was_called(seed: int, calls: int) -> None:
    def user(turns: list[Turn]) -> list[Any]:
        last = [(body(turn)["messages"][-1], turn) for turn in turns]
        return [
            (message["content"], turn.output_planned, turn.think, turn.cancel_after)
            for message, turn in last
            if message["role"] == "user"
        ]

    assert user(talk(seed, calls)) == user(talk(seed, 0))


# --- prefixes ---------------------------------------------------------------------------------


def system(seed: int, asked: Workload, team_seed: int = 1) -> str:
    message = body(first(asked, seed, team_seed))["messages"][0]
    assert message["role"] == "system"
    text: str = message["content"]
    return text


def test_a_group_shares_its_prefix_and_groups_are_as_many_and_as_large() -> None:
    asked = workload(prefix={"tokens": 40, "groups": 4}, prompt=5)
    texts = [system(seed, asked) for seed in range(400)]
    assert len(set(texts)) == 4
    assert all(len(text.split()) == 40 for text in texts)
    assert all(60 < texts.count(text) < 140 for text in set(texts))
    own = [body(first(asked, seed))["messages"][1]["content"] for seed in range(400)]
    assert len(set(own)) == 400


def test_another_team_has_another_prefix() -> None:
    asked = workload(prefix={"tokens": 40})
    assert system(1, asked, team_seed=1) == system(2, asked, team_seed=1)
    assert system(1, asked, team_seed=1) != system(1, asked, team_seed=2)


def traced(prompt: int, prefix: tuple[int, ...], seed: int = SEED, block: int = 512) -> list[str]:
    turn = first(workload(), seed, prompt=prompt, output=9, prefix=prefix, block=block)
    assert (turn.prompt_planned, turn.output_planned) == (OVERHEAD + prompt, 9)
    text: str = body(turn)["messages"][0]["content"]
    return text.split(" ")


def test_a_traces_prompts_share_the_blocks_that_they_have_in_common() -> None:
    one, other = traced(2000, (7, 8, 9)), traced(1600, (7, 8, 10), seed=99)
    assert (len(one), len(other)) == (2000, 1600)
    assert one[:1024] == other[:1024]
    assert one[1024:1040] != other[1024:1040]
    assert one[1536:] != traced(2000, (7, 8, 9), seed=99)[1536:]
    assert one[:1536] == traced(2000, (7, 8, 9), seed=99)[:1536]


@given(
    st.integers(1, 4000),
    st.lists(st.integers(0, 2**64), max_size=9).map(tuple),
    st.sampled_from([16, 512]),
)
def test_a_traces_prompt_is_as_long_as_it_says(
    prompt: int, prefix: tuple[int, ...], block: int
) -> None:
    assert len(traced(prompt, prefix, block=block)) == prompt


def test_a_trace_sets_the_lengths_of_the_first_turn_alone() -> None:
    one = conversation(workload(prompt=11, output=12, turns=2), prompt=700, output=5, prefix=(3,))
    assert said(opening := one.turn(None)) == [("user", 700)]
    following = one.turn(answer(20))
    assert said(following) == [("user", 700), ("assistant", 20), ("user", 11)]
    assert opening and following
    assert (opening.output_planned, following.output_planned) == (5, 12)
    texts = [body(following)["messages"][number]["content"].split()[:6] for number in (0, 2)]
    assert texts[0] != texts[1]


# --- turns ------------------------------------------------------------------------------------


def test_each_turn_has_all_before_it_with_the_answers_that_came() -> None:
    one = conversation(workload(prompt=30, turns=3, prefix={"tokens": 50}))
    start = [("system", 50), ("user", 30)]
    assert said(one.turn(None)) == start
    assert said(one.turn(answer(21))) == [*start, ("assistant", 21), ("user", 30)]
    third = body(one.turn(answer(22)))["messages"]
    assert third[4]["content"] == answer(22).content
    assert one.turn(answer(23)) is None


def test_an_answer_that_did_not_come_ends_the_conversation() -> None:
    one = conversation(workload(turns=3))
    assert one.turn(None)
    assert one.turn(None) is None


def test_calls_get_their_results_at_once_and_in_no_turn_of_the_users() -> None:
    one = conversation(workload(tools=4, turns=2, think=100, prompt=30))
    assert one.turn(None)
    results = one.turn(answer(3, CALL, ToolCall("call_2", "x", "{}")))
    messages = body(results)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["tool_calls"][0] == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "read_documents", "arguments": '{"path": "a.txt"}'},
    }
    assert [message["tool_call_id"] for message in messages[2:]] == ["call_1", "call_2"]
    assert all(20 <= len(message["content"].split()) <= 220 for message in messages[2:])
    assert messages[2]["content"] != messages[3]["content"]
    assert results and results.think == 0
    second = one.turn(answer(5))
    assert second and second.think > 0
    assert said(second)[-1] == ("user", 30)
    assert one.turn(answer(5)) is None


def test_a_model_that_only_calls_does_not_go_on_for_ever_and_leaves_no_call_without_result() -> (
    None
):
    one = conversation(workload(tools=4, turns=2))
    turn, turns = one.turn(None), 0
    while turn:
        turns += 1
        assert turns <= 18
        roles = [message["role"] for message in body(turn)["messages"]]
        assert roles.count("assistant") == roles.count("tool")
        turn = one.turn(answer(3, CALL))
    assert turns == 18  # two of the user's, each with eight calls


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": ', "{}"),
        ("[1]", "{}"),
        ("", "{}"),
        ("nonsense", "{}"),
        ("[" * 10**5, "{}"),
    ],
)
def test_arguments_that_are_no_object_are_not_sent_back(arguments: str, sent: str) -> None:
    """vLLM refuses them with 400, which would be the model's failure and none of the server's."""
    one = conversation(workload(tools=1))
    one.turn(None)
    call = body(one.turn(answer(1, ToolCall("a", "b", arguments))))["messages"][1]["tool_calls"][0]
    assert call["function"]["arguments"] == sent


def test_half_a_character_in_an_answer_breaks_no_request() -> None:
    one = conversation(workload(turns=2))
    one.turn(None)
    heard = Answer("well \ud83d", output_tokens=3)
    assert body(one.turn(heard))["messages"][1]["content"] == "well ?"


def test_thinking_takes_its_mean_and_comes_before_later_turns_alone() -> None:
    asked = workload(turns=2, think=10, prompt=1)
    thought = []
    for seed in range(2000):
        one = conversation(asked, seed)
        opening, following = one.turn(None), one.turn(answer(1))
        assert opening and following
        assert opening.think == 0
        thought.append(following.think)
    mean = sum(thought) / 2000
    assert abs(mean - 10) < 5 * 10 / 2000**0.5
    assert abs(sum(one > 10 for one in thought) / 2000 - 0.368) < 0.06  # exponential: 1/e


def test_so_many_percent_are_given_up() -> None:
    asked = workload(cancel_percent=30, cancel_after="2s", prompt=1)
    given_up = [first(asked, seed).cancel_after for seed in range(2000)]
    assert set(given_up) == {None, 2.0}
    assert abs(given_up.count(2.0) / 2000 - 0.3) < 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert first(workload(cancel_percent=0)).cancel_after is None
    assert first(workload(cancel_percent=100, cancel_after=0)).cancel_after == 0


# --- tokens -----------------------------------------------------------------------------------

Render = Callable[[dict[str, Any]], int]


@pytest.fixture(scope="module")
def render() -> Render:
    """Tokens of a body's messages as gpt-oss gets them."""
    harmony: Any = pytest.importorskip(
        "openai_harmony", reason="gpt-oss's format is in oss-harmony, which comes with vLLM"
    )
    encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    role, message = harmony.Role, harmony.Message.from_role_and_content

    def rendered(one: dict[str, Any]) -> Any:
        text = one["content"]
        match one["role"]:
            case "system":
                instructions = harmony.DeveloperContent.new().with_instructions(text)
                return message(role.DEVELOPER, instructions)
            case "assistant":
                return message(role.ASSISTANT, text).with_channel("final")
            case _:
                return message(role.USER, text)

    def tokens(body: dict[str, Any]) -> int:
        begin = message(role.SYSTEM, harmony.SystemContent.new())
        all_ = [begin, *map(rendered, body["messages"])]
        talk = harmony.Conversation.from_messages(all_)
        return len(encoding.render_conversation_for_completion(talk, role.ASSISTANT))

    return tokens


def overhead(render: Render) -> int:
    """As it is measured: of a request whose words are known."""
    return render({"messages": [{"role": "user", "content": WORDS.text(1, 9)}]}) - 9


@pytest.mark.parametrize("seed", range(10))
def test_the_first_prompt_has_exactly_the_tokens_that_are_planned(
    render: Render, seed: int
) -> None:
    asked = workload(
        prompt={"kind": "uniform", "low": 1, "high": 3000}, prefix={"tokens": 500, "groups": 3}
    )
    for one in (asked, asked.model_copy(update={"prefix": None})):
        arrival = Arrival(0, 0.0, 0, seed)
        prompts = Prompts(WORDS, overhead(render))
        turn = prompts.conversation(one, arrival, "m", 1).turn(None)
        assert turn and turn.prompt_planned == render(body(turn))


def test_later_prompts_too_where_the_server_counts_no_more_than_the_text(render: Render) -> None:
    arrival = Arrival(0, 0.0, 0, SEED)
    one = Prompts(WORDS, overhead(render)).conversation(
        workload(prompt=40, turns=4, prefix={"tokens": 30}), arrival, "m", 1
    )
    heard: Answer | None = None
    for number in range(4):
        turn = one.turn(heard)
        assert turn and turn.prompt_planned == render(body(turn))
        heard = Answer(WORDS.text(number, 25), output_tokens=125, reasoning_tokens=100)


def test_what_functions_add_is_planned_to_a_tenth(render: Render) -> None:
    """The figures are those of vLLM 0.32, which `tools.tokens` was fitted to."""
    for count, added in [(1, 95), (3, 243), (8, 639), (16, 1253), (64, 5015), (128, 10035)]:
        assert tools.tokens(count) == pytest.approx(added, rel=0.1)
    assert tools.tokens(0) == 0
