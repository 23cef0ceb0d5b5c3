"""What is known of one request of a run: one line of JSON in `records.jsonl`.

All times are seconds of one monotonic clock, since the run's start; None where that never happened.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from loadtest.outcome import GOOD, Outcome


class Attempt(msgspec.Struct, omit_defaults=True):
    """One sending of a request that was sent more than once: all but the last, which is the
    record's own. `retry_after` is what the server advised, s."""

    sent: float
    ended: float
    outcome: Outcome
    status: int = 0
    retry_after: float | None = None


class Record(msgspec.Struct, omit_defaults=True):
    """One request."""

    index: int
    """Its number among the arrivals of its team: equal in two runs of one scenario and seed."""
    team: str
    scheduled: float
    """When it was to be sent. In a closed loop: when its client was free."""
    workload: str = ""
    """Which of its team's workloads made it."""
    conversation: int = -1
    """Its conversation's number within the team, from 0; -1 where it stands alone."""
    turn: int = 0
    began: float | None = None
    """The client set to work on it: what takes time from here on, connecting too, is not the load
    test's doing."""
    sent: float | None = None
    """The first byte of its last attempt was about to be written."""
    headers: float | None = None
    """The status and the headers of the answer were there."""
    first: float | None = None
    """The first piece with a token: of content, of reasoning or of a tool call. A role alone is
    none."""
    output: float | None = None
    """The first such piece that is not reasoning."""
    last: float | None = None
    """The last piece with a token."""
    ended: float | None = None
    """`[DONE]`, the end of a whole answer, or the failure."""
    outcome: Outcome = Outcome.CANCELLED
    status: int = 0
    code: str = ""
    """Of an error: the code that the server gave, or what happened to the connection."""
    request_id: str = ""
    replica: str = ""
    """Which replica answered, where the server says it."""
    finish: str = ""
    """The finish reason."""
    streamed: bool = True
    prompt_planned: int = 0
    """Tokens that the prompt was made to have, with all that is around it."""
    output_planned: int = 0
    """The most tokens that were asked for."""
    prompt_tokens: int = 0
    """As the server counted them; so are the next three."""
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    first_tokens: int = 0
    """Tokens in the first piece: 0 where the server does not count by piece."""
    pieces: int = 0
    """Pieces with tokens."""
    gaps: list[float] = []
    """Between each two of these, s. Empty unless the scenario keeps them."""
    max_gap: float = 0.0
    """The longest of them, s, whether they are kept or not."""
    retry_after: float | None = None
    """What a refusal advised, s."""
    remaining_requests: int | None = None
    """Of the limit headers, where the server sends them; so is the next."""
    remaining_tokens: int | None = None
    attempts: list[Attempt] = []
    """The sendings before the last one."""

    @property
    def good(self) -> bool:
        """Whether a whole answer came."""
        return self.outcome in GOOD

    @property
    def ttft(self) -> float | None:
        """From when it was to be sent to its first token, s: a late client hides nothing. Of an
        answer that is not streamed there is none, and neither are the next two."""
        return self.first - self.scheduled if self.streamed and self.first is not None else None

    @property
    def sent_ttft(self) -> float | None:
        """From when its last attempt was sent to its first token, s: what other tools say."""
        if not self.streamed or self.first is None or self.sent is None:
            return None
        return self.first - self.sent

    @property
    def ttfot(self) -> float | None:
        """From when it was to be sent to its first token of an answer, not of reasoning, s. None
        too where there was none, as where its limit of tokens was used up by reasoning."""
        return self.output - self.scheduled if self.streamed and self.output is not None else None

    @property
    def e2e(self) -> float | None:
        """From when it was to be sent to its end, s, of whole answers."""
        return self.ended - self.scheduled if self.good and self.ended is not None else None

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first piece, s; None where there was one piece only."""
        if self.first is None or self.last is None or self.pieces < 2:
            return None
        later = self.output_tokens - max(self.first_tokens, 1)
        return (self.last - self.first) / later if later > 0 else None

    @property
    def opened(self) -> float | None:
        """When the client set to work on it, or if that was not noted first sent it: from then on
        it is open, also while it waits to be sent again."""
        if self.began is not None:
            return self.began
        return self.attempts[0].sent if self.attempts else self.sent

    @property
    def lag(self) -> float | None:
        """How late the client itself was, s: of its first attempt."""
        return None if self.opened is None else self.opened - self.scheduled


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def line(record: Record) -> bytes:
    """A line of `records.jsonl`."""
    return _encoder.encode(record) + b"\n"


def read(path: Path) -> Iterator[Record]:
    """The records of a run. Raises `ValueError` that names the line that is none."""
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            try:
                yield _decoder.decode(text)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path}:{number} is no record of a run: {error}") from None


def write(path: Path, records: Iterable[Record]) -> None:
    """All of a run, in a file."""
    with path.open("wb") as file:
        file.writelines(map(line, records))
