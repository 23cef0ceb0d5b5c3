"""W3C trace context: which trace a request belongs to, and what its engine is told of it.

A tenant sends what is read here, and a part of it goes into a header to the engine. So it is taken
apart, and put together anew from what the grammar allows: no byte passes that it does not.
https://www.w3.org/TR/trace-context-1/
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Version 00 ends here. A later one may go on, after another hyphen, with what we do not know.
_PARENT = re.compile(
    rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?[ \t]*"
)
_MEMBER = re.compile(
    rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_MOST_MEMBERS = 32
_LONGEST_STATE = 512
# Of what is too long, members that are longer than this go first.
_LONG_MEMBER = 128
_SAMPLED = 1
# The ids that there are: 0 is none.
_SPANS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which requests are recorded.

    `share` of them is; None: spans are not collected here. Where callers are trusted, those that
    bring a trace decide for it. By default they are not: one team could make the gateway record all
    of its requests, or none, whatever the operator's share is. A gateway that does not collect
    passes on what it gets: then it is for the engines to decide.
    """

    share: float | None = None
    trusts_callers: bool = False

    def of_new(self, id: str) -> bool:
        """Whether to record the request with this id, of random hex digits."""
        share = self.share or 0.0
        return share >= 1 or int(id[:8], 16) < share * (1 << 32)


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in a trace.

    `parent_id` is the caller's span, or empty; `span_id` is the gateway's own. `state` is the other
    vendors' part. `passive` is a gateway that does not record: engines are told what the caller
    said, or nothing, so that no span of theirs hangs from one that nobody has.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = False
    state: str = ""
    passive: bool = False

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]], id: str, sampling: Sampling) -> "Trace":
        """The trace of a request with these headers; names are in lower case, as ASGI has them.

        `id` are the request's own 32 random hex digits: the id of a trace that begins here, so that
        both are found by the same word. The last 16 are the id of the gateway's span.
        """
        parent: bytes | None = None
        for name, value in headers:
            if name == b"traceparent":
                if parent is not None:  # two: nobody can say which
                    parent = None
                    break
                parent = value
        passive = sampling.share is None
        found = _parent(parent) if parent is not None else None
        if found is None:
            return cls(id, id[16:], "", not passive and sampling.of_new(id), "", passive)
        trace_id, parent_id, flagged = found
        sampled = flagged if passive or sampling.trusts_callers else sampling.of_new(id)
        state = _state([value for name, value in headers if name == b"tracestate"])
        return cls(trace_id, id[16:], parent_id, sampled, state, passive)

    def attempt(self, number: int) -> str:
        """The id of the span of the n-th attempt at an engine, from 1 on."""
        return f"{(int(self.span_id, 16) + number - 1) % _SPANS + 1:016x}"

    def headers(self, attempt: int) -> dict[str, str]:
        """What that engine is told: its span hangs from the attempt's."""
        if self.passive:
            if not self.parent_id:
                return {}
            span = self.parent_id
        else:
            span = self.attempt(attempt)
        flags = "01" if self.sampled else "00"
        told = {"traceparent": f"00-{self.trace_id}-{span}-{flags}"}
        if self.state:
            told["tracestate"] = self.state
        return told


def _parent(value: bytes) -> tuple[str, str, bool] | None:
    """Trace, span and whether it is recorded, of a valid `traceparent`."""
    parts = _PARENT.fullmatch(value)
    if parts is None:
        return None
    version, trace, span, flags, rest = parts.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    if trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return trace.decode(), span.decode(), bool(int(flags, 16) & _SAMPLED)


def _state(values: list[bytes]) -> str:
    """All `tracestate` headers as one; empty where any of them is not valid."""
    if not values:
        return ""
    members = [member.strip(b" \t") for value in values for member in value.split(b",")]
    members = [member for member in members if member]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _MOST_MEMBERS or len(keys) < len(members):
        return ""
    if not all(_MEMBER.fullmatch(member) for member in members):
        return ""
    if _length(members) > _LONGEST_STATE:
        members = [member for member in members if len(member) <= _LONG_MEMBER]
    while _length(members) > _LONGEST_STATE:
        members.pop()
    return b",".join(members).decode()


def _length(members: list[bytes]) -> int:
    return sum(map(len, members)) + len(members) - 1
