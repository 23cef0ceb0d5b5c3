"""Trace context: what is valid goes on, and nothing else ever reaches an engine."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.telemetry.trace import Sampling, Trace

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
ON, OFF = Sampling(1.0), Sampling()
Headers = list[tuple[bytes, bytes]]

# Written apart from the code, from the ABNF of the recommendation.
SENT_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
SENT_STATE = re.compile(rf"{KEY}={VALUE}(?:,{KEY}={VALUE}){{0,31}}")


def headers(*states: bytes, parent: bytes = PARENT) -> Headers:
    return [
        (b"host", b"x"),
        (b"traceparent", parent),
        *((b"tracestate", state) for state in states),
    ]


def told(*states: bytes) -> str:
    return Trace.of(headers(*states), ID, ON).headers(1).get("tracestate", "")


def check(sent: dict[str, str]) -> None:
    """What goes to an engine is of the grammar, to its last character."""
    assert sent.keys() <= {"traceparent", "tracestate"}
    if sent:
        assert SENT_PARENT.fullmatch(sent["traceparent"])
    if "tracestate" in sent:
        assert SENT_STATE.fullmatch(sent["tracestate"])
        assert len(sent["tracestate"]) <= 512


def test_a_trace_begins_with_the_id_of_the_request() -> None:
    trace = Trace.of([(b"host", b"x")], ID, ON)
    assert trace == Trace(ID, ID[16:], sampled=True)
    assert trace.headers(1) == {"traceparent": f"00-{ID}-{trace.attempt(1)}-01"}


def test_a_trace_goes_on_below_its_caller() -> None:
    trace = Trace.of(headers(b"rojo=00f067aa0ba902b7"), ID, ON)
    assert (trace.trace_id, trace.parent_id, trace.span_id) == (TRACE, SPAN, ID[16:])
    assert trace.headers(1) == {
        "traceparent": f"00-{TRACE}-{trace.attempt(1)}-01",
        "tracestate": "rojo=00f067aa0ba902b7",
    }


@pytest.mark.parametrize("span", ["0000000000000001", "ffffffffffffffff", ID[16:]])
def test_every_attempt_is_a_span_of_its_own(span: str) -> None:
    trace = Trace(TRACE, span)
    ids = [span, *(trace.attempt(number) for number in range(1, 7))]
    assert len(set(ids)) == 7
    assert all(re.fullmatch("[0-9a-f]{16}", id) and int(id, 16) for id in ids)


def test_a_gateway_that_records_nothing_passes_on_what_it_was_told() -> None:
    for flags in ("00", "01"):
        given = f"00-{TRACE}-{SPAN}-{flags}"
        sent = Trace.of(headers(b"a=1", parent=given.encode()), ID, OFF).headers(2)
        assert sent == {"traceparent": given, "tracestate": "a=1"}
    trace = Trace.of([], ID, OFF)
    assert (trace.trace_id, trace.sampled, trace.headers(1)) == (ID, False, {})


# As in w3c/trace-context, test/test.py: after each of these a new trace begins.
BAD_PARENTS = {
    "empty": b"",
    "illegal characters in the version": b".0-" + PARENT[3:],
    "version in capitals": b"0A-" + PARENT[3:],
    "version too long": b"000-" + PARENT[3:],
    "version too short": b"0-" + PARENT[3:],
    "version ff": b"ff-" + PARENT[3:],
    "version 00 goes on": PARENT + b"-what-the-future-will-be-like",
    "version 00 goes on without a hyphen": PARENT + b".what",
    "version 00 ends with a hyphen": PARENT + b"-",
    "version cc goes on without a hyphen": b"cc" + PARENT[2:] + b".what",
    "trace id of zeros": b"00-" + b"0" * 32 + PARENT[35:],
    "trace id in capitals": b"00-" + TRACE.upper().encode() + PARENT[35:],
    "trace id with illegal characters": b"00-." + PARENT[4:],
    "trace id too long": b"00-0" + PARENT[3:],
    "trace id too short": b"00-" + PARENT[4:],
    "span id of zeros": PARENT[:36] + b"0" * 16 + b"-01",
    "span id in capitals": PARENT[:36] + SPAN.upper().encode() + b"-01",
    "span id with illegal characters": PARENT[:36] + b"." + PARENT[37:],
    "span id too long": PARENT[:36] + b"0" + PARENT[36:],
    "span id too short": PARENT[:36] + PARENT[37:],
    "flags with illegal characters": PARENT[:-2] + b".1",
    "flags in capitals": PARENT[:-2] + b"0A",
    "flags too long": PARENT + b"1",
    "flags too short": PARENT[:-1],
    "no flags": PARENT[:-3],
    "a line feed at the end": PARENT + b"\n",
    "a header of the caller's": PARENT + b"\r\nx-vllm-priority: -9",
    "digits that are not ASCII's": b"00-" + "٣".encode() * 16 + PARENT[35:],
    "two in one": PARENT + b"," + PARENT,
}


@pytest.mark.parametrize("parent", BAD_PARENTS.values(), ids=BAD_PARENTS)
@pytest.mark.parametrize("sampling", [ON, OFF], ids=["on", "off"])
def test_what_is_not_valid_begins_a_trace(parent: bytes, sampling: Sampling) -> None:
    trace = Trace.of(headers(b"foo=1", parent=parent), ID, sampling)
    assert trace == Trace.of([], ID, sampling)
    assert "tracestate" not in trace.headers(1)


def test_two_callers_are_none() -> None:
    twice = [(b"traceparent", PARENT), (b"traceparent", PARENT)]
    for again in (twice, [*twice, twice[0]]):
        assert Trace.of(again, ID, ON) == Trace.of([], ID, ON)


@pytest.mark.parametrize(
    "parent",
    [
        b"cc" + PARENT[2:],
        b"cc" + PARENT[2:] + b"-what-the-future-will-be-like",
        b"cc" + PARENT[2:] + b"-",
        b" \t" + PARENT + b"\t ",
    ],
)
def test_a_later_version_is_read_as_far_as_it_is_known(parent: bytes) -> None:
    trace = Trace.of(headers(parent=parent), ID, ON)
    assert (trace.trace_id, trace.parent_id) == (TRACE, SPAN)
    check(trace.headers(1))


@pytest.mark.parametrize(
    ("states", "sent"),
    [
        ([b"foo=1,bar=2"], "foo=1,bar=2"),
        ([b"foo=1", b"bar=2"], "foo=1,bar=2"),
        ([b"foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
        ([b"foo=1", b"", b",,", b"bar=2"], "foo=1,bar=2"),
        ([b""], ""),
        ([b"t@v=1,a*/_-b=x y"], "t@v=1,a*/_-b=x y"),
        ([b"a" * 256 + b"=1"], "a" * 256 + "=1"),
        ([b"foo=" + b" " * 255 + b"v"], "foo=" + " " * 255 + "v"),
        ([b",".join(b"bar%02d=%02d" % (n, n) for n in range(1, 33))], None),
    ],
)
def test_a_state_goes_on(states: list[bytes], sent: str | None) -> None:
    assert told(*states) == (states[0].decode() if sent is None else sent)


BAD_STATES = [
    *(b"foo", b"=1", b"foo=", b"foo=1,bar", b"Foo=1", b"foo =1", b"foo.bar=1", b"foo@=1"),
    *(b"@foo=1", b"foo@bar@baz=1", b"foo@0=1", b"0foo=1", b"foo=a=b", b"foo=\x00", b"foo=\t1"),
    *(b"foo=1\r\nx-vllm-priority: -9", b"foo=1\n", b"foo=\x7f", "foo=ä".encode(), b"foo=1,foo=1"),
    *(b"z" * 257 + b"=1", b"t" * 242 + b"@v=1", b"t@" + b"v" * 15 + b"=1", b"foo=" + b"v" * 257),
    b",".join(b"bar%02d=1" % n for n in range(33)),
]


@pytest.mark.parametrize("state", BAD_STATES, ids=range(len(BAD_STATES)))
def test_a_state_with_anything_wrong_in_it_ends_here(state: bytes) -> None:
    assert told(state) == told(b"ok=1", state) == ""


def test_a_state_that_is_too_long_loses_its_long_members_first_then_its_last() -> None:
    long, short = b"long=" + b"v" * 200, [b"k%02d=%s" % (n, b"v" * 60) for n in range(10)]
    assert told(b",".join([long, *short[:4]])) == b",".join([long, *short[:4]]).decode()
    assert told(b",".join([long, *short[:6]])) == b",".join(short[:6]).decode()
    assert told(b",".join(short)) == b",".join(short[:7]).decode()
    assert told(b"a=" + b"v" * 256, b"b=" + b"v" * 256) == ""


PIECES = st.sampled_from(
    [PARENT, TRACE.encode(), SPAN.encode(), b"00-", b"-01", b"\r\n", b"foo=1,"]
)
BYTES = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=4).map(b"".join))
NAMES = st.sampled_from([b"traceparent", b"tracestate", b"x"])


@given(st.lists(st.tuples(NAMES, BYTES), max_size=5), st.booleans(), st.integers(1, 6))
@example([(b"traceparent", PARENT), (b"tracestate", b"a=1\r\nb: c")], True, 1)
def test_whatever_comes_what_goes_out_is_valid(given: Headers, on: bool, attempt: int) -> None:
    check(Trace.of(given, ID, ON if on else OFF).headers(attempt))


MEMBERS = st.lists(
    st.tuples(st.from_regex(KEY, fullmatch=True), st.from_regex(VALUE, fullmatch=True)),
    max_size=40,
)


@given(MEMBERS, st.integers(0, 3))
def test_whatever_state_comes_what_goes_out_is_valid(
    members: list[tuple[str, str]], cut: int
) -> None:
    values = [f"{key}={value}".encode() for key, value in members]
    sent = Trace.of(headers(b",".join(values[:cut]), *values[cut:]), ID, ON).headers(1)
    check(sent)
    assert set(filter(None, sent.get("tracestate", "").split(","))) <= {
        value.strip(b" ").decode() for value in values
    }


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.integers(1, 6))
def test_what_is_sent_can_be_read_again(trace: int, span: int, sampled: bool, n: int) -> None:
    sent = Trace(f"{trace:032x}", f"{span:016x}", sampled=sampled, state="a=1").headers(n)
    check(sent)
    again = Trace.of(
        [(name.encode(), value.encode()) for name, value in sent.items()], ID, Sampling(0.0, True)
    )
    assert again.trace_id == f"{trace:032x}"
    assert (again.sampled, again.state) == (sampled, "a=1")


def test_a_caller_decides_only_where_it_is_trusted() -> None:
    for flag in (b"00", b"01"):
        given = headers(parent=PARENT[:-2] + flag)
        asked = flag == b"01"
        assert Trace.of(given, ID, Sampling(1.0)).sampled
        assert not Trace.of(given, ID, Sampling(0.0)).sampled
        assert Trace.of(given, ID, Sampling(1.0, True)).sampled is asked
        assert Trace.of(given, ID, Sampling(0.0, True)).sampled is asked
    assert Trace.of(headers(parent=PARENT[:-2] + b"03"), ID, Sampling(0.0, True)).sampled


def test_a_share_is_a_share() -> None:
    ids = [f"{number * 2654435761 % 2**32:08x}" + "1" * 24 for number in range(10_000)]
    assert sum(Sampling(0.1).of_new(id) for id in ids) == pytest.approx(1000, abs=20)
    assert not any(Sampling(0.0).of_new(id) for id in ids)
    assert all(Sampling(1.0).of_new(id) for id in ids)
