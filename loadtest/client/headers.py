"""What an answer's headers say to a client that wants to come again."""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from loadtest.record import Record

_MOST = 2.0**53


def note(record: Record, headers: Mapping[str, str]) -> None:
    """Write down what the record has of them."""
    record.request_id = plain(headers.get("x-request-id", ""))
    record.replica = plain(headers.get("x-gptoss-replica", ""))
    record.retry_after = retry_after(headers)
    record.remaining_requests = _count(headers.get("x-ratelimit-remaining-requests"))
    record.remaining_tokens = _count(headers.get("x-ratelimit-remaining-tokens"))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What the server advises to wait, s, never below 0; None if nothing that can be read.

    `retry-after-ms` is finer, and wins. A date is taken against the server's own clock where the
    answer has a `date`: the clocks of two machines differ.
    """
    if (exact := _number(headers.get("retry-after-ms"))) is not None:
        return max(exact / 1000, 0.0)
    text = headers.get("retry-after")
    if (seconds := _number(text)) is not None:
        return max(seconds, 0.0)
    if text is None or (until := _date(text)) is None:
        return None
    now = _date(headers.get("date", ""))
    return max(until - (time.time() if now is None else now), 0.0)


def plain(text: str) -> str:
    """What a server said, as text that can be written down: bytes that are no UTF-8 are `?`."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _number(text: str | None) -> float | None:
    # Digits and a point only: `nan`, `inf` and `1_0` are numbers to float(), and no advice.
    if text is None or not text.strip().removeprefix("-").replace(".", "", 1).isdecimal():
        return None
    number = float(text)
    # So many digits that they are infinite.
    return number if math.isfinite(number) else None


def _count(text: str | None) -> int | None:
    number = _number(text)
    # Beyond that it is no count, and no whole number of MessagePack either.
    return None if number is None or abs(number) >= _MOST else int(number)


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
