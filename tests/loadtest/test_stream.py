"""Server-sent events are cut right, however their bytes were split on the way."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.stream import Chunk, Events, Failure, chunk, failure, failure_of

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20
).map(str.encode)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """The bytes of a stream, and the events that are in it by construction."""
    out, events = b"", []
    for _ in range(draw(st.integers(0, 6))):
        end = draw(LINE_ENDS)
        # A line that ended with CR would swallow an LF that follows.
        lines = draw(st.lists(TEXTS, min_size=1, max_size=3))
        noise = draw(st.sampled_from([b"", b": ping", b"event: message", b"id: 7", b": ping\n"]))
        if noise:
            out += noise.removesuffix(b"\n") + end + (end if noise.endswith(b"\n") else b"")
        for line in lines:
            out += b"data: " + line + end
        out += end
        events.append(b"\n".join(lines))
    return out, events


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def read(pieces: list[bytes]) -> list[bytes]:
    events = Events()
    return [event for piece in pieces for event in events.feed(piece)]


@given(streams(), st.lists(st.integers(min_value=0), max_size=12))
def test_any_split_of_a_stream_gives_its_events(
    stream: tuple[bytes, list[bytes]], places: list[int]
) -> None:
    data, events = stream
    assert read([data]) == events
    assert read(cut(data, places)) == events


@given(streams())
def test_a_stream_byte_by_byte_gives_its_events(stream: tuple[bytes, list[bytes]]) -> None:
    data, events = stream
    assert read([bytes([byte]) for byte in data]) == events


def test_an_event_is_there_with_the_last_byte_of_its_empty_line_and_not_before() -> None:
    events = Events()
    assert events.feed(b"data: a\n") == []
    assert events.feed(b"\n") == [b"a"]
    # So it is with CR: nobody waits for the LF that may follow.
    assert events.feed(b"data: b\r\n\r") == [b"b"]
    assert events.feed(b"\ndata: c\n\n") == [b"c"]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b": ping\n\n: ping\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n: ping\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data: \n\n", [b""]),
        (b"event: x\n\n", []),
        (b"datax: a\n\n", []),
        (b"data: never ended\n", []),
        (b"\n\n\n", []),
        (b"data: a\rb\n\n", [b"a"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    ],
)
def test_events_are_cut_as_the_html_standard_says(data: bytes, events: list[bytes]) -> None:
    assert read([data]) == events


def test_an_event_that_never_ends_is_an_error_and_not_all_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loadtest.client.stream.LONGEST", 1000)
    events = Events()
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        for _ in range(2000):
            events.feed(b"x")


def test_a_chunk_says_content_reasoning_tools_finish_and_usage() -> None:
    found = chunk(
        json.dumps(
            {
                "id": "x",
                "unknown": {},
                "choices": [
                    {
                        "index": 0,
                        "delta": {
                            "content": "a",
                            "reasoning": "b",
                            "tool_calls": [
                                {"index": 1, "id": "t", "function": {"name": "f", "arguments": "{"}}
                            ],
                        },
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 3},
                    "completion_tokens_details": {"reasoning_tokens": 2},
                },
            }
        ).encode()
    )
    assert found.choices is not None
    assert found.choices[0].delta is not None
    assert found.choices[0].delta.content == "a"
    assert found.choices[0].delta.reasoning == "b"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.completion_tokens == 5


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"[]", b"{}", b'{"choices": 1}', b'{"choices": [{"delta": ', b"\xff"]
)
def test_what_no_such_server_sends_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        chunk(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"error": {"code": "queue_full", "type": "busy"}}', Failure("queue_full", "busy")),
        ('{"error": {"code": 500, "type": null}}', Failure("500", "")),
        ('{"error": "it broke"}', Failure("it broke", "")),
        ('{"object": "error", "code": 400, "type": "BadRequest"}', Failure("400", "BadRequest")),
    ],
)
def test_an_error_is_known_in_all_shapes_that_servers_give_it(text: str, said: Failure) -> None:
    found = chunk(text.encode())
    assert found.failed
    assert failure(found) == said == failure_of(text.encode())


def test_an_error_body_that_is_no_json_says_nothing() -> None:
    assert failure_of(b"<html>no</html>") == Failure()
    assert not Chunk(choices=[]).failed
