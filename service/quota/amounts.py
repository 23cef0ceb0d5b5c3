"""Counts and durations as people write them: `600`, `2M`, `90d`; and back."""

import re
from datetime import timedelta

_SCALES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

# The lengths keep every result far from what int and timedelta refuse.
_COUNT = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,9}))?([kmb]?)", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,8})([smhdw])")
_LONGEST = timedelta(days=36_500)


def count(text: str) -> int:
    """`600`, `10k`, `2M`, `1.5B`: thousands, millions, billions. Raises `ValueError`."""
    match = _COUNT.fullmatch(text)
    if match:
        whole, fraction, unit = match[1], match[2] or "", match[3].lower()
        power: int = 10 ** len(fraction)
        value, rest = divmod(int(whole + fraction) * _SCALES[unit], power)
        if rest == 0:
            return value
    raise ValueError("is not a count: write it such as 600, 10k, 2M or 1.5B")


def count_text(value: int) -> str:
    """The shortest text that `count` reads as `value`, with at most one decimal."""
    for unit, scale in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        tenths, rest = divmod(value * 10, scale)
        if tenths >= 10 and rest == 0:
            whole, tenth = divmod(tenths, 10)
            return f"{whole}.{tenth}{unit}" if tenth else f"{whole}{unit}"
    return str(value)


def duration(text: str) -> timedelta:
    """`45s`, `30m`, `12h`, `90d`, `4w`: at least a second. Raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    if match:
        seconds = int(match[1]) * _SECONDS[match[2]]
        if 0 < seconds <= _LONGEST.total_seconds():
            return timedelta(seconds=seconds)
    raise ValueError("is not a duration: write it such as 30m, 12h, 90d or 4w")


def duration_text(value: timedelta) -> str:
    """The text of whole seconds in the largest unit that divides them: 90 days are `90d`."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
