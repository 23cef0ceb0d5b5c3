"""Streams pass in whole events, however the network cuts them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.events import EventStream
from service.gateway.routes import Dialect

DONE = b"data: [DONE]\n\n"

events = st.lists(
    st.sampled_from(
        [b'data: {"a": "data: [DONE]"}\n\n', b": keep-alive\n\n", b'event: x\ndata: {"b": 1}\n\n']
    ),
    max_size=6,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


@given(events, st.lists(st.integers(0, 1000), max_size=12))
def test_every_byte_arrives_in_order_and_in_whole_events(
    sent: list[bytes], cuts: list[int]
) -> None:
    stream = EventStream(Dialect.OPENAI)
    received = [stream.feed(piece) for piece in pieces(b"".join(sent) + DONE, cuts)]
    assert b"".join(received) == b"".join(sent) + DONE
    assert all(not part or part.endswith(b"\n\n") for part in received)
    assert stream.complete


@given(events, st.lists(st.integers(0, 1000), max_size=12), st.integers(1, len(DONE)))
def test_a_stream_without_its_end_is_never_taken_for_complete(
    sent: list[bytes], cuts: list[int], missing: int
) -> None:
    stream = EventStream(Dialect.OPENAI)
    data = (b"".join(sent) + DONE)[:-missing]
    received = b"".join(stream.feed(piece) for piece in pieces(data, cuts))
    assert not stream.complete
    assert received == b"".join(sent)


@pytest.mark.parametrize(
    ("dialect", "last"),
    [
        (Dialect.RESPONSES, b"event: response.completed\ndata: {}\n\n"),
        (Dialect.RESPONSES, b"event: response.incomplete\ndata: {}\n\n"),
        (Dialect.RESPONSES, b"event: response.failed\ndata: {}\n\n"),
        (Dialect.ANTHROPIC, b"event: message_stop\ndata: {}\n\n"),
        (Dialect.ANTHROPIC, b"event: error\ndata: {}\n\n"),
    ],
)
def test_each_dialect_has_its_own_end(dialect: Dialect, last: bytes) -> None:
    stream = EventStream(dialect)
    stream.feed(b"event: begin\ndata: {}\n\n")
    assert not stream.complete
    stream.feed(last + b": more\n\n")
    assert stream.complete
