"""What is known of an answer does not depend on how its bytes came, and its times do."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.answer import Reading
from loadtest.outcome import Outcome
from loadtest.record import Record
from tests.loadtest.test_stream import cut

DELTAS = st.sampled_from(
    [
        {"content": "a"},
        {"content": ""},
        {"role": "assistant"},
        {"reasoning": "r"},
        {"reasoning_content": "r"},
        {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{"}}]},
    ]
)
ENDS = st.sampled_from(["stop", "length", "tool_calls", None])


def stream(deltas: list[dict[str, Any]], finish: str | None, done: bool) -> bytes:
    events = []
    for number, delta in enumerate(deltas, 1):
        usage = {"prompt_tokens": 3, "completion_tokens": number}
        events.append({"choices": [{"delta": delta, "finish_reason": None}], "usage": usage})
    events.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return data + (b"data: [DONE]\n\n" if done else b"")


@given(
    st.lists(DELTAS, max_size=8), ENDS, st.booleans(), st.lists(st.integers(0, 2000), max_size=20)
)
def test_any_split_gives_the_same_answer_and_times_that_add_up(
    deltas: list[dict[str, Any]], finish: str | None, done: bool, places: list[int]
) -> None:
    reads = [piece for piece in cut(stream(deltas, finish, done), places) if piece]
    reading = Reading(keep_text=True, keep_gaps=True)
    for number, data in enumerate(reads):
        reading.feed(data, 100.0 + number)
    record = Record(index=0, team="a", scheduled=0.0)
    reading.fill(record, 100.0)

    assert reading.content == "".join(delta.get("content", "") for delta in deltas)
    whole = done and finish is not None
    expected = Outcome.LENGTH if finish == "length" else Outcome.OK
    assert reading.outcome() is (expected if whole else Outcome.TRUNCATED)
    assert (reading.code() == "") == whole
    assert record.output_tokens == len(deltas)
    tokens = [d for d in deltas if d.get("content") or len(d.keys() - {"content", "role"})]
    assert bool(record.pieces) == bool(tokens)
    assert record.pieces <= min(len(reads), len(tokens))
    assert len(record.gaps) == max(record.pieces - 1, 0)
    assert all(gap >= 1 for gap in record.gaps)
    if tokens:
        assert record.first is not None
        assert record.last is not None
        assert record.first + sum(record.gaps) == record.last
        assert record.max_gap == max(record.gaps, default=0)
        spoken = [d for d in tokens if d.get("content") or d.get("tool_calls")]
        assert (record.output is not None) == bool(spoken)
        # So many tokens had come with the first read that brought one.
        assert record.first_tokens >= deltas.index(tokens[0]) + 1
