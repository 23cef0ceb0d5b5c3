"""All turns of a conversation are known by the same beginning; others by another."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.conversation import beginning, conversation
from service.gateway.policy import Bounds, read
from service.gateway.routes import INFERENCE

BOUNDS = Bounds(choices=8, depth=64)
SYSTEM = {"role": "system", "content": "You are helpful."}


def begins(path: str, **body: Any) -> bytes:
    text = json.dumps({"model": "m"} | body).encode()
    return beginning(read(INFERENCE[path], text, BOUNDS)[1])


def chat(*messages: dict[str, Any], **more: Any) -> bytes:
    return begins("/v1/chat/completions", messages=list(messages), **more)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_every_turn_of_a_chat_begins_alike(texts: list[str]) -> None:
    turns = [SYSTEM, user("What is a ring?")]
    first = chat(*turns)
    for text in texts:
        turns += [answer(text), user(text)]
        assert chat(*turns) == first


def test_other_users_messages_and_other_systems_are_other_conversations() -> None:
    one = chat(SYSTEM, user("a"))
    assert one != chat(SYSTEM, user("b"))
    assert one != chat(SYSTEM | {"content": "Be brief."}, user("a"))


def test_a_cache_key_of_the_client_decides_alone() -> None:
    assert chat(user("a"), prompt_cache_key="k") == chat(user("b"), prompt_cache_key="k")
    assert chat(user("a"), prompt_cache_key="k") != chat(user("a"), prompt_cache_key="l")


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/completions", "prompt"), ("/v1/responses", "input")]
)
def test_a_text_that_is_continued_begins_alike(path: str, field: str) -> None:
    long = "word " * 2000
    assert begins(path, **{field: long}) == begins(path, **{field: long + "more"})
    assert begins(path, **{field: long}) != begins(path, **{field: "x" + long})


def test_responses_and_messages_are_known_by_their_instructions_too() -> None:
    turn = [user("a")]
    one, two = (begins("/v1/responses", input=turn, instructions=text) for text in ("x", "y"))
    assert one != two
    one, two = (begins("/v1/messages", messages=turn, system=text) for text in ("x", "y"))
    assert one != two


@pytest.mark.parametrize(
    "messages", [[], [1], ["text"], [{"role": 7}], [{"no": "role"}], "text", None, 7, {"a": 1}]
)
def test_what_is_malformed_is_left_to_the_engine_to_refuse(messages: object) -> None:
    begins("/v1/chat/completions", messages=messages)


def test_teams_do_not_share_a_place_and_without_a_beginning_there_is_none() -> None:
    said = {"prompt": msgspec.Raw(b'"a"')}
    assert conversation("one", said) != conversation("two", said)
    assert conversation("one", said) == conversation("one", said)
    assert conversation("one", {}) is None
