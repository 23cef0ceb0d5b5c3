"""What a run leaves is handed around: what in it would open doors is left out."""

import re
from typing import Any, Final

MASK: Final = "…"
# To the last @ before the path: passwords have one, too.
_USERINFO: Final = re.compile(r"(?<=://)[^/\s]+(?=@)")


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """A scenario, or what holds one, without the values of headers, and without names and passwords
    in addresses. It has the same form."""
    clean: dict[str, Any] = _strings(document)
    return clean


def _strings(value: Any) -> Any:
    if isinstance(value, str):
        return _USERINFO.sub(MASK, value)
    if isinstance(value, dict):
        return {
            key: dict.fromkeys(below, MASK)
            if key == "headers" and isinstance(below, dict)
            else _strings(below)
            for key, below in value.items()
        }
    if isinstance(value, list):
        return value if value and isinstance(value[0], float) else list(map(_strings, value))
    return value
