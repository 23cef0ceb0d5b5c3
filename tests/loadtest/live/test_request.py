"""Every way in which a request can end is told apart, and its times are those of the server."""

import asyncio
import json
import math
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from loadtest.client.answer import Reading
from loadtest.client.data import Endpoint
from loadtest.client.request import Request, Sender
from loadtest.outcome import GOOD, Outcome
from loadtest.record import Record, line
from loadtest.scenario.document import Timeouts
from tests.loadtest.live.golden import (
    DONE,
    ROLE,
    Close,
    Gate,
    Golden,
    Reset,
    Script,
    Seen,
    Send,
    Stall,
    Step,
    Wait,
    answer,
    chunk,
    content,
    event,
    finish,
    golden,
    refusal,
    usage_event,
    used,
    whole,
)

PATIENT = Timeouts(connect=30, first_token=30, idle=30, total=60)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def ask(
    url: str,
    *,
    streamed: bool = True,
    timeouts: Timeouts = PATIENT,
    patience: float = math.inf,
    body: bytes = b'{"messages": []}',
) -> tuple[Record, Reading]:
    """One request, with a record of its own that has times of the monotonic clock."""
    record = Record(index=0, team="a", scheduled=0.0)
    async with Sender(Endpoint(url, "m"), timeouts, keep_gaps=True) as sender:
        reading = sender.reading(keep_text=True)
        request = Request(body, {"x-a": "b"}, streamed, time.monotonic() + patience)
        await sender.send(request, record, reading)
        assert not sender.open
    return record, reading


def asked(script: Script, **options: Any) -> tuple[Record, Reading, Seen]:
    """What becomes of one request that gets this answer."""
    found: list[tuple[Record, Reading, Seen]] = []

    async def work() -> None:
        async with golden(script) as server:
            record, reading = await ask(server.url, **options)
            found.append((record, reading, server.seen[0]))

    run(work())
    return found[0]


TOKENS = [content() for _ in range(3)]
MALFORMED_JSON = Send(b'data: {"choices": [{"delta": \n\n')
HTML = {"content-type": "text/html; charset=utf-8"}
TWO_BY_TWO = event(chunk({"content": "a"})) + event(chunk({"content": "b"}))

CASES: dict[str, tuple[Script, Outcome, str, int]] = {
    # What is sent, how it ends, the code, and the pieces with tokens.
    "answer": (answer(3), Outcome.OK, "", 3),
    "answer at its limit": (answer(3, reason="length"), Outcome.LENGTH, "", 3),
    "tool calls finish it": (answer(3, reason="tool_calls"), Outcome.OK, "", 3),
    "no tokens": (answer(0), Outcome.OK, "", 0),
    "error within the stream": (
        Script([ROLE, *TOKENS, Send(event({"error": {"code": 500, "type": "x"}})), DONE]),
        Outcome.ERROR_EVENT,
        "500",
        3,
    ),
    "error within the stream, at once": (
        Script([Send(event({"error": {"message": "m", "type": "overloaded"}}))]),
        Outcome.ERROR_EVENT,
        "overloaded",
        0,
    ),
    "error after the finish reason": (
        Script([*TOKENS, finish(), Send(event({"error": {"code": "died"}})), DONE]),
        Outcome.ERROR_EVENT,
        "died",
        3,
    ),
    "end without [DONE]": (Script([ROLE, *TOKENS, finish()]), Outcome.TRUNCATED, "no_done", 3),
    "[DONE] without a finish reason": (
        Script([ROLE, *TOKENS, DONE]),
        Outcome.TRUNCATED,
        "no_finish",
        3,
    ),
    "end without both": (Script([ROLE, *TOKENS]), Outcome.TRUNCATED, "no_end", 3),
    "nothing at all": (Script([]), Outcome.TRUNCATED, "no_end", 0),
    "a last event without its empty line": (
        Script([*TOKENS, finish(), Send(b"data: [DONE]\n")]),
        Outcome.TRUNCATED,
        "no_done",
        3,
    ),
    "reset": (Script([*TOKENS, Wait(0.2), Reset()]), Outcome.TRUNCATED, "cut", 3),
    "closed": (Script([*TOKENS, Wait(0.2), Close()]), Outcome.TRUNCATED, "cut", 3),
    "no HTTP": (Script(status=0, before=[Close()]), Outcome.MALFORMED, "not_http", 0),
    "body without a length": (
        Script([ROLE, *TOKENS, finish(), DONE], raw=True),
        Outcome.OK,
        "",
        3,
    ),
    "quota": (refusal(429, "rate_limit_exceeded"), Outcome.QUOTA_429, "rate_limit_exceeded", 0),
    "no room": (refusal(429, "queue_full"), Outcome.CAPACITY_429, "queue_full", 0),
    "no room, by its type": (refusal(429, "", "overloaded"), Outcome.CAPACITY_429, "overloaded", 0),
    "no engine": (refusal(503, "unavailable"), Outcome.CAPACITY_503, "unavailable", 0),
    "wrong key": (refusal(401, "invalid_api_key"), Outcome.AUTH, "invalid_api_key", 0),
    "not allowed": (refusal(403, "no"), Outcome.AUTH, "no", 0),
    "bad request": (refusal(400, "context_length"), Outcome.BAD_4XX, "context_length", 0),
    "error": (refusal(500, "internal"), Outcome.SERVER_5XX, "internal", 0),
    "error of a proxy": (
        Script([Send(b"<html>bad gateway</html>")], 502, HTML),
        Outcome.SERVER_5XX,
        "",
        0,
    ),
    "error that breaks off": (
        Script([Send(b'{"error"'), Wait(0.2), Close()], 503),
        Outcome.CAPACITY_503,
        "",
        0,
    ),
    "HTML": (Script([Send(b"<html>hi</html>")], 200, HTML), Outcome.MALFORMED, "text/html", 0),
    "redirect": (
        Script([], 302, {"location": "http://127.0.0.1:9/"}),
        Outcome.MALFORMED,
        "status_302",
        0,
    ),
    "whole answer to a stream": (whole(), Outcome.MALFORMED, "not_streamed", 1),
    "error as a whole answer": (
        Script([Send(b'{"error": {"code": "x"}}')], 200, {"content-type": "application/json"}),
        Outcome.ERROR_EVENT,
        "x",
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_end_is_told_apart(name: str) -> None:
    script, outcome, code, pieces = CASES[name]
    record, _, _ = asked(script)
    assert (record.outcome, record.code) == (outcome, code)
    assert record.pieces <= pieces
    assert record.good == (outcome in GOOD)
    assert record.ended is not None
    assert record.status == script.status
    assert (record.first is not None) == bool(pieces)


@pytest.mark.parametrize(
    "wrong",
    [MALFORMED_JSON, Send(b"data: <html>\n\n"), Send(b"data: {}\n\n"), Send(b"data: \xff\n\n")],
)
def test_what_is_no_json_makes_a_stream_malformed(wrong: Send) -> None:
    record, _, _ = asked(Script([ROLE, *TOKENS, Wait(0.05), wrong, finish(), DONE]))
    assert record.outcome is Outcome.MALFORMED
    assert record.code
    assert record.first is not None


def test_every_outcome_has_a_case() -> None:
    covered = {outcome for _, outcome, _, _ in CASES.values()}
    waits = {outcome for _, _, outcome in STALLED}
    # These two have tests of their own, below.
    assert covered | waits | {Outcome.CONNECT, Outcome.CANCELLED} == set(Outcome)


# Times


def gated(groups: Sequence[Sequence[bytes]]) -> tuple[Script, list[asyncio.Event]]:
    """A script that sends each group when its gate is opened, and the gates."""
    gates = [asyncio.Event() for _ in groups]
    steps: list[Step] = []
    for gate, group in zip(gates, groups, strict=True):
        steps += [Gate(gate), *(Send(data) for data in group)]
    return Script([*steps, finish(), DONE]), gates


async def until(met: Callable[[], bool]) -> None:
    while not met():  # noqa: ASYNC110  # what it waits for tells nobody
        await asyncio.sleep(0.001)


async def step_by_step(
    groups: Sequence[Sequence[bytes]], see: Callable[[int, Reading], bool]
) -> tuple[Record, Seen, list[float]]:
    """Send a group only when what came of the one before has been seen; and when it was."""
    script, gates = gated(groups)
    seen_at = []
    async with (
        golden(script) as server,
        Sender(Endpoint(server.url, "m"), PATIENT, keep_gaps=True) as sender,
    ):
        record, reading = Record(index=0, team="a", scheduled=0.0), sender.reading()
        task = asyncio.create_task(sender.send(Request(b"{}", {}, True), record, reading))
        for number, gate in enumerate(gates):
            gate.set()
            await until(lambda n=number: see(n, reading))  # type: ignore[misc]
            seen_at.append(time.monotonic())
            # Waits of different lengths, so that a wrong order of gaps would be seen.
            await asyncio.sleep(0.01 + 0.02 * (number % 3))
        await task
        return record, server.seen[0], seen_at


def test_each_piece_has_the_time_between_its_sending_and_its_being_seen() -> None:
    async def work() -> None:
        pieces = [[event(chunk({"content": f"w{n}"}))] for n in range(6)]
        record, seen, seen_at = await step_by_step(pieces, lambda n, r: r.pieces == n + 1)
        sent_at = [at for at, _ in seen.sent]
        assert record.first is not None
        stamps = [record.first + sum(record.gaps[:n]) for n in range(6)]
        for sent, stamp, observed in zip(sent_at, stamps, seen_at, strict=False):
            assert sent <= stamp + 1e-6
            assert stamp <= observed + 1e-6
        assert record.max_gap == max(record.gaps)
        assert record.last == pytest.approx(stamps[-1])
        assert record.sent is not None
        assert record.headers is not None
        assert record.sent <= seen.at <= record.headers <= record.first
        assert record.ended is not None
        assert record.last is not None
        assert sent_at[-1] <= record.ended

    run(work())


def test_a_role_is_no_token_however_early_it_comes() -> None:
    async def work() -> None:
        groups = [[ROLE.data], [event(chunk({"content": "a"}))]]

        def see(number: int, reading: Reading) -> bool:
            return bool(reading.pieces) if number else True

        record, seen, _ = await step_by_step(groups, see)
        assert record.first is not None
        assert record.pieces == 1
        assert seen.sent[1][0] <= record.first
        assert record.output == record.first

    run(work())


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_a_token_and_no_output(name: str) -> None:
    async def work() -> None:
        groups = [[event(chunk({name: "hm"}))], [event(chunk({"content": "a"}))]]
        record, seen, _ = await step_by_step(groups, lambda n, r: r.pieces == n + 1)
        assert record.first is not None
        assert record.output is not None
        assert seen.sent[0][0] <= record.first <= seen.sent[1][0] <= record.output
        assert record.pieces == 2

    run(work())


def test_an_empty_text_is_no_token() -> None:
    empty: dict[str, Any] = {"content": "", "reasoning": "", "tool_calls": []}
    record, _, _ = asked(Script([Send(event(chunk(empty))), finish(), DONE]))
    assert record.pieces == 0
    assert record.first is None


def test_events_of_one_read_are_one_piece_and_their_tokens_are_counted() -> None:
    async def work() -> None:
        def bundle(*counts: int) -> bytes:
            events = (event(chunk({"content": "a"}, usage=used(n))) for n in counts)
            return b"".join(events)

        groups = [[bundle(3)], [bundle(4, 5, 6)], [bundle(9)]]
        record, _, _ = await step_by_step(groups, lambda n, r: r.pieces == n + 1)
        assert record.pieces == 3
        assert len(record.gaps) == 2
        assert min(record.gaps) > 0
        assert record.first_tokens == 3
        assert record.output_tokens == 9
        assert record.first is not None
        assert record.last is not None
        assert record.tpot == pytest.approx((record.last - record.first) / 6)

    run(work())


def test_an_event_in_two_halves_has_the_time_of_the_second() -> None:
    async def work() -> None:
        whole_event = event(chunk({"content": "a"}))
        groups = [[whole_event[:40]], [whole_event[40:]]]
        record, seen, _ = await step_by_step(groups, lambda n, r: r.pieces == 1 if n else True)
        assert record.first is not None
        assert record.first >= seen.sent[1][0]
        assert record.pieces == 1

    run(work())


def test_comments_are_neither_tokens_nor_a_reason_to_lose_some() -> None:
    steps: list[Step] = [Send(b": ping\n\n"), ROLE]
    for _ in range(4):
        steps += [Send(b": ping\n\n" + content().data), Send(b": ping\n\n")]
    record, reading, _ = asked(Script([*steps, finish(), DONE]))
    assert record.outcome is Outcome.OK
    assert reading.content == "word " * 4


def test_lines_may_end_with_crlf() -> None:
    events = [chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop")]
    steps = [Send(event(one, "\r\n")) for one in events]
    record, reading, _ = asked(Script([*steps, Send(event("[DONE]", "\r\n"))]))
    assert record.outcome is Outcome.OK
    assert reading.content == "ab"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_an_answer_in_pieces_of_any_size_is_the_same(size: int) -> None:
    text = "".join(chr(0x1F600 + n) for n in range(4))
    events = [chunk({"reasoning": "hm"}), chunk({"content": text}), chunk({}, "stop")]
    data = b"".join(map(event, events)) + event(usage_event(7, reasoning=3)) + DONE.data
    cut = [Send(data[at : at + size]) for at in range(0, len(data), size)]
    record, reading, _ = asked(Script(cut))
    assert record.outcome is Outcome.OK
    assert reading.content == text
    assert (record.output_tokens, record.reasoning_tokens) == (7, 3)


def test_tool_calls_are_tokens_and_are_put_together() -> None:
    deltas = [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    steps = [Send(event(chunk({"tool_calls": [delta]}))) for delta in deltas]
    record, reading, _ = asked(Script([ROLE, *steps, finish("tool_calls"), DONE]))
    assert record.outcome is Outcome.OK
    assert record.output == record.first
    calls = [(tool.id, tool.name, tool.arguments) for tool in reading.tools.values()]
    assert calls == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]


def test_what_the_server_counted_is_written_down() -> None:
    last = Send(event(usage_event(7, prompt=50, cached=32, reasoning=3)))
    record, _, _ = asked(Script([ROLE, *TOKENS, finish(), last, DONE]))
    counted = (record.prompt_tokens, record.cached_tokens, record.output_tokens)
    assert counted == (50, 32, 7)
    assert record.reasoning_tokens == 3


def test_a_broken_answer_has_the_tokens_that_were_counted_until_then() -> None:
    counted = [Send(event(chunk({"content": "a"}, usage=used(n)))) for n in (1, 2, 3)]
    record, _, _ = asked(Script([*counted, Wait(0.2), Close()]))
    assert record.outcome is Outcome.TRUNCATED
    assert record.output_tokens == 3


# Whole answers


def test_a_whole_answer_is_one_piece_at_its_end() -> None:
    record, reading, _ = asked(whole(6, text="hello"), streamed=False)
    assert record.outcome is Outcome.OK
    assert record.output_tokens == 6
    assert record.pieces == 1
    assert record.first == record.last == record.output
    assert record.tpot is None
    assert reading.content == "hello"


def test_a_whole_answer_may_have_reached_its_limit() -> None:
    record, _, _ = asked(whole(6, reason="length"), streamed=False)
    assert record.outcome is Outcome.LENGTH


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": [', b'{"choices": []}', b"{}"])
def test_a_whole_answer_that_is_none_is_malformed(body: bytes) -> None:
    script = Script([Send(body)], 200, {"content-type": "application/json"})
    record, _, _ = asked(script, streamed=False)
    assert record.outcome is Outcome.MALFORMED


def test_a_whole_answer_that_breaks_off_is_truncated() -> None:
    script = Script([Send(b'{"choices"'), Wait(0.1), Close()], 200, whole().headers)
    record, _, _ = asked(script, streamed=False)
    assert (record.outcome, record.code) == (Outcome.TRUNCATED, "cut")


# Waiting


SHORT = 0.15
PINGS: list[Step] = [Wait(0.02), Send(b": ping\n\n")] * 60
SLOW: list[Step] = [Wait(0.02), content()] * 60
STALLED: list[tuple[str, Script, Outcome]] = [
    ("first_token", Script(before=[Stall()]), Outcome.TIMEOUT_FIRST_TOKEN),
    ("first_token", Script([ROLE, Stall()]), Outcome.TIMEOUT_FIRST_TOKEN),
    ("first_token", Script([Stall()], 500), Outcome.TIMEOUT_FIRST_TOKEN),
    ("idle", Script([content(), Stall()]), Outcome.TIMEOUT_IDLE),
    ("idle", Script([content(), *PINGS]), Outcome.TIMEOUT_IDLE),
    ("total", Script(before=[Stall()]), Outcome.TIMEOUT_TOTAL),
    ("total", Script(SLOW), Outcome.TIMEOUT_TOTAL),
]


@pytest.mark.parametrize(("limit", "script", "outcome"), STALLED)
def test_each_wait_has_its_limit_and_its_outcome(
    limit: str, script: Script, outcome: Outcome
) -> None:
    async def work() -> None:
        async with golden(script) as server:
            timeouts = PATIENT.model_copy(update={limit: SHORT})
            before = time.monotonic()
            record, _ = await ask(server.url, timeouts=timeouts)
            assert time.monotonic() - before >= SHORT
            assert record.outcome is outcome
            # Nothing is left open: the server sees that the client has gone.
            await server.seen[0].gone.wait()

    run(work())


def test_pieces_that_keep_coming_are_no_idleness() -> None:
    # All of it takes several times the limit, each wait a fraction of it.
    script = Script([*SLOW, finish(), DONE])
    record, _, _ = asked(script, timeouts=PATIENT.model_copy(update={"idle": 1.0}))
    assert record.outcome is Outcome.OK
    assert record.first is not None
    assert record.last is not None
    assert record.last - record.first > 1.0


def test_a_user_who_leaves_closes_the_connection() -> None:
    async def work() -> None:
        async with golden(Script([content(), Stall()])) as server:
            record, _ = await ask(server.url, patience=0.2)
            assert (record.outcome, record.code) == (Outcome.CANCELLED, "user_left")
            assert record.pieces == 1
            await server.seen[0].gone.wait()

    run(work())


def test_one_that_is_told_to_leave_is_cancelled_at_once() -> None:
    async def work() -> None:
        async with (
            golden(Script([Stall()])) as server,
            Sender(Endpoint(server.url, "m"), PATIENT) as sender,
        ):
            record = Record(index=0, team="a", scheduled=0.0)
            work = sender.send(Request(b"{}", {}, True), record, sender.reading())
            task = asyncio.create_task(work)
            await until(lambda: record.headers is not None)
            for deadline in list(sender.open):
                deadline.leave(Outcome.CANCELLED, "interrupted")
            await task
            assert (record.outcome, record.code) == (Outcome.CANCELLED, "interrupted")
            await server.seen[0].gone.wait()

    run(work())


# Connections


def test_a_refused_connection_is_not_sent() -> None:
    async def work() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            record, _ = await ask(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert (record.outcome, record.code) == (Outcome.CONNECT, "econnrefused")
        assert record.sent is None
        assert record.ended is not None

    run(work())


def test_a_name_that_nobody_has_is_a_failure_to_connect() -> None:
    async def work() -> None:
        record, _ = await ask("http://nobody.invalid")
        assert (record.outcome, record.code) == (Outcome.CONNECT, "dns")

    run(work())


def test_a_server_that_accepts_nobody_is_a_failure_to_connect() -> None:
    async def work() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            # The queue takes one or two, and then no more: these wait in it.
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            timeouts = PATIENT.model_copy(update={"connect": SHORT})
            record, _ = await ask(f"http://127.0.0.1:{port}", timeouts=timeouts)
            for one in waiting:
                one.close()
        assert (record.outcome, record.code) == (Outcome.CONNECT, "timeout")
        assert record.sent is None

    run(work())


def test_a_connection_that_closes_before_the_status_is_a_failure_to_connect() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(close, "127.0.0.1", 0)
        record, _ = await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert record.outcome is Outcome.CONNECT
        assert record.code in ("closed", "econnreset")
        assert record.sent is not None
        server.close()

    run(work())


async def in_a_row(server: Golden, count: int) -> list[Record]:
    records = []
    async with Sender(Endpoint(server.url, "m"), PATIENT) as sender:
        for index in range(count):
            record = Record(index=index, team="a", scheduled=0.0)
            await sender.send(Request(b"{}", {}, True), record, sender.reading())
            records.append(record)
    return records


def test_a_connection_is_used_again_after_a_whole_answer_and_after_a_refusal() -> None:
    async def work() -> None:
        scripts = iter([answer(3), refusal(429, "queue_full"), answer(3)])
        async with golden(lambda _: next(scripts)) as server:
            records = await in_a_row(server, 3)
        outcomes = [record.outcome for record in records]
        assert outcomes == [Outcome.OK, Outcome.CAPACITY_429, Outcome.OK]
        assert [seen.connection for seen in server.seen] == [0, 0, 0]

    run(work())


def test_a_body_that_never_ends_after_done_delays_nobody_for_long() -> None:
    async def work() -> None:
        async with golden(Script([content(), finish(), DONE, Stall()])) as server:
            records = await in_a_row(server, 2)
        assert [record.outcome for record in records] == [Outcome.OK, Outcome.OK]
        assert [seen.connection for seen in server.seen] == [0, 1]
        assert records[0].ended is not None
        assert records[0].last is not None
        # The answer ended with `[DONE]`, and not when its connection was given up.
        assert records[0].ended <= server.seen[1].at - 0.2

    run(work())


def test_answers_that_are_larger_than_any_buffer_are_read_whole() -> None:
    async def work() -> None:
        text = "x" * 3_000_000
        script = Script([Send(event(chunk({"content": text}))), *TOKENS, finish(), DONE])
        async with golden(script) as server:
            record, reading = await ask(server.url)
            assert record.outcome is Outcome.OK
            assert len(reading.content) == len(text) + 15

    run(work())


def test_requests_that_are_larger_than_any_buffer_are_sent_whole() -> None:
    async def work() -> None:
        body = json.dumps({"text": "x" * 3_000_000}).encode()
        async with golden(answer()) as server:
            record, _ = await ask(server.url, body=body)
            assert record.outcome is Outcome.OK
            assert len(server.seen[0].body["text"]) == 3_000_000
            assert server.seen[0].headers["x-a"] == "b"
            assert server.seen[0].headers["content-type"] == "application/json"

    run(work())


def test_headers_of_an_answer_are_written_down() -> None:
    told = {
        "content-type": "text/event-stream",
        "x-request-id": "r1",
        "x-gptoss-replica": "http://replica-0:8000",
        "x-ratelimit-remaining-requests": "41",
        "x-ratelimit-remaining-tokens": "9000",
    }
    record, _, _ = asked(Script(answer().steps, 200, told))
    assert record.request_id == "r1"
    assert record.replica == "http://replica-0:8000"
    assert (record.remaining_requests, record.remaining_tokens) == (41, 9000)


def test_what_a_refusal_advises_is_written_down() -> None:
    record, _, _ = asked(
        refusal(429, "rate_limit_exceeded", headers={"retry-after": "2", "retry-after-ms": "1250"})
    )
    assert record.retry_after == 1.25


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("retry-after", "--5"),
        ("retry-after", "9" * 400),
        ("x-ratelimit-remaining-tokens", "9" * 400),
        ("x-ratelimit-remaining-requests", "9" * 300),
        ("x-request-id", "\xff"),
        ("x-gptoss-replica", "\xff"),
    ],
)
def test_headers_that_say_nonsense_say_nothing(header: str, value: str) -> None:
    record, _, _ = asked(refusal(429, "rate_limit_exceeded", headers={header: value}))
    assert record.outcome is Outcome.QUOTA_429
    assert record.retry_after is record.remaining_tokens is record.remaining_requests is None
    # It can be told to the parent, and be written down.
    assert msgspec.msgpack.encode(record) and line(record)


DEEP = '{"choices":' + "[" * 100_000
MANY = {"choices": [], "usage": {"prompt_tokens": 10**30, "completion_tokens": 10**30}}


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (Script([Send(event(DEEP))]), Outcome.MALFORMED),
        (Script([Send(DEEP.encode())], 500), Outcome.SERVER_5XX),
        (Script([content(), finish(), Send(event(MANY)), DONE]), Outcome.MALFORMED),
    ],
)
def test_an_answer_of_no_sense_is_an_outcome(script: Script, outcome: Outcome) -> None:
    record, _, _ = asked(script)
    assert record.outcome is outcome
    assert msgspec.msgpack.encode(record) and line(record)
