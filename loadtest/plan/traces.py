"""Requests of a trace: when they came, how long they were, and what they began with.

- `mooncake`: JSON lines of Mooncake; `timestamp` in ms, each of `hash_ids` is 512 tokens.
- `timed_trace`: JSON lines as `vllm bench serve --dataset-name timed_trace` takes them by default:
  `timestamp` in s, each of `hash_ids` is 16 tokens. Of a file in ms, `speed: 1000` makes seconds.
- `azure`: CSV of Azure's LLM inference traces of 2023 and 2024; `TIMESTAMP` is a date and time.
- `burstgpt`: CSV of BurstGPT; `Timestamp` in s. All its models are one here.

Time counts from a file's first line. Requests without prompt or without answer are left out: the
service that the trace is of had refused or lost them.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from loadtest.errors import UserError
from loadtest.scenario.arrivals import Trace

_NO_JSON: Final = "is no JSON, or not all of it: of a CSV the format is azure, or burstgpt"
_COUNT = Annotated[int, msgspec.Meta(ge=0)]


class Row(NamedTuple):
    """One request."""

    at: float
    """S since the first one, at the speed that is asked for."""
    prompt: int
    output: int
    prefix: tuple[int, ...] = ()
    block: int = 512
    """Tokens of each block of the prefix."""


def read(trace: Trace, seconds: float) -> Iterator[Row]:
    """The requests of the first `seconds`, in order; of a long file no more is read than that.

    Raises `UserError`, with the line that cannot be read, that is out of order, or if there is
    none.
    """
    try:
        yield from _within(trace, seconds)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise UserError(f"{trace.file} cannot be read: {reason}") from None


class _Line(NamedTuple):
    """What a line says, at its own time in s."""

    number: int
    at: float
    prompt: int
    output: int
    prefix: tuple[int, ...] = ()


def _within(trace: Trace, seconds: float) -> Iterator[Row]:
    first, before, found = None, 0.0, False
    for line in _READERS[trace.format](trace.file):
        if not math.isfinite(line.at):
            raise _wrong(trace.file, line.number, f"has {line.at} for a time")
        if first is None:
            first = before = line.at
        if line.at < before:
            raise _wrong(trace.file, line.number, "is earlier than the one before: sort it by time")
        before = line.at
        at = (line.at - first) / trace.speed
        if at >= seconds:
            break
        if line.prompt and line.output:
            found = True
            yield Row(at, line.prompt, line.output, line.prefix, _BLOCKS.get(trace.format, 512))
    if not found:
        raise UserError(
            f"{trace.file} holds no request of its first {seconds * trace.speed:g} s: "
            f"is it a trace in the format {trace.format}?"
        )


def _wrong(file: Path, number: int, what: str) -> UserError:
    return UserError(f"line {number} of {file} {what}")


class _Request(msgspec.Struct):
    timestamp: float
    input_length: _COUNT
    output_length: _COUNT
    hash_ids: tuple[int, ...] = ()


def _json_lines(file: Path, unit: float) -> Iterator[_Line]:
    """With timestamps of so many seconds."""
    decoder = msgspec.json.Decoder(_Request)
    with file.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                one = decoder.decode(text)
            except msgspec.ValidationError as error:
                raise _wrong(file, number, f"is no request: {error}") from None
            except msgspec.MsgspecError:
                raise _wrong(file, number, _NO_JSON) from None
            yield _Line(
                number, one.timestamp * unit, one.input_length, one.output_length, one.hash_ids
            )


def _table(file: Path, columns: Sequence[str], seconds: Callable[[str], float]) -> Iterator[_Line]:
    """Of a CSV with these columns among others: time, prompt, answer."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        try:
            places = _places(file, next(rows, []), columns)
            for row in rows:
                if row:
                    yield _cells(file, rows.line_num, row, places, seconds)
        except csv.Error as error:
            raise _wrong(file, rows.line_num, f"is no line of a CSV file: {error}") from None


def _places(file: Path, header: Iterable[str], columns: Sequence[str]) -> list[int]:
    names = [name.strip() for name in header]
    for column in columns:
        if column not in names:
            raise _wrong(file, 1, _lacking(column, names))
    return [names.index(column) for column in columns]


def _lacking(column: str, names: Sequence[str]) -> str:
    if names and names[0].startswith("{"):
        return "is JSON, and no CSV: is the format mooncake, or timed_trace?"
    return f"has no column {column!r}: it has {', '.join(names) or 'nothing'}"


def _cells(
    file: Path,
    number: int,
    row: Sequence[str],
    places: Sequence[int],
    seconds: Callable[[str], float],
) -> _Line:
    try:
        at, prompt, output = (row[place].strip() for place in places)
        line = _Line(number, seconds(at), int(prompt), int(output))
    except IndexError:
        raise _wrong(file, number, f"has {len(row)} columns: some are missing") from None
    except ValueError as error:
        raise _wrong(file, number, f"is no request: {error}") from None
    if min(line.prompt, line.output) < 0:
        raise _wrong(file, number, "has a negative number of tokens")
    return line


def _instant(text: str) -> float:
    """Epoch seconds. Where there is no time zone, as in 2023, it is UTC."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _mooncake(file: Path) -> Iterator[_Line]:
    return _json_lines(file, 0.001)


def _timed_trace(file: Path) -> Iterator[_Line]:
    return _json_lines(file, 1.0)


def _azure(file: Path) -> Iterator[_Line]:
    return _table(file, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _instant)


def _burstgpt(file: Path) -> Iterator[_Line]:
    return _table(file, ("Timestamp", "Request tokens", "Response tokens"), float)


_READERS: Final[dict[str, Callable[[Path], Iterator[_Line]]]] = {
    "mooncake": _mooncake,
    "timed_trace": _timed_trace,
    "azure": _azure,
    "burstgpt": _burstgpt,
}
_BLOCKS: Final = {"mooncake": 512, "timed_trace": 16}
