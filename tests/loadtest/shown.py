"""Whether what a report shows is what its JSON says. Knows nothing of how the report writes it."""

import re
from typing import Any, Final

_UNITS: Final = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "%": 1.0}
_NUMBER: Final = re.compile(r"(-?[\d,]+(?:\.\d+)?) ?(ms|s|min|%|)")
_NONE: Final = ("\N{EN DASH}", "∞", "never", "to the end")


def resolved(document: Any, pointer: str) -> Any:
    """What is at a JSON pointer (RFC 6901)."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document.get(name)
    return document


def agrees(value: Any, text: str, whole: Any = None) -> bool:
    """Whether a text says a value, or which share of the whole it is, to the digits that it has."""
    if value is None or value == "":
        return text in _NONE
    if isinstance(value, str):
        return text == value
    found = _NUMBER.fullmatch(text)
    if not found:
        return False
    digits, unit = found[1].replace(",", ""), found[2]
    said = float(digits) * _UNITS[unit]
    last = 10.0 ** -len(digits.partition(".")[2]) * _UNITS[unit]
    if whole is not None:
        value = 100 * value / whole
    elif unit == "%":
        # A share or a percentage: the places differ, the digits do not.
        return any(abs(said - value * by) <= 0.501 * last for by in (1, 100))
    return bool(abs(said - value) <= 0.501 * last)
