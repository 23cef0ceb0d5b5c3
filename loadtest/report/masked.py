"""A report is handed around: what in it would open doors is left out."""

import re
from typing import Any, Final

MASK: Final = "…"
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """A summary without the values of headers, and without names and passwords in addresses."""
    clean: dict[str, Any] = _strings(document)
    target = clean.get("scenario", {}).get("target", {})
    if isinstance(target, dict) and isinstance(target.get("headers"), dict):
        target["headers"] = dict.fromkeys(target["headers"], MASK)
    return clean


def _strings(value: Any) -> Any:
    if isinstance(value, str):
        return _USERINFO.sub(MASK, value)
    if isinstance(value, dict):
        return {key: _strings(below) for key, below in value.items()}
    if isinstance(value, list):
        return value if value and isinstance(value[0], float) else list(map(_strings, value))
    return value
