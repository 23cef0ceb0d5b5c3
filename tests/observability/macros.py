"""Grafana's variables in a query: each is replaced by something that Prometheus can read.

What a variable stands for is unknown here, and so is not judged: within quotes it becomes
`UNKNOWN`, as a label `UNKNOWN` too, a duration elsewhere 5 minutes, and a number 1.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

UNKNOWN: Final = "unknown_variable"

_USE = re.compile(r"\$\{(?P<braced>\w+)(?::\w+)?\}|\[\[(?P<old>\w+)(?::\w+)?\]\]|\$(?P<bare>\w+)")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`")
_IN_LABELS = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*$", re.IGNORECASE
)
_IN_DURATION = re.compile(r"\[[^\]]*$|\boffset\s+-?$", re.IGNORECASE)
_DURATIONS = frozenset({"__rate_interval", "__interval", "__range"})


def variables(query: str) -> set[str]:
    """The names of those in a query."""
    return {_name(use) for use in _USE.finditer(query)}


def substituted(query: str, values: Mapping[str, str] = {}) -> str:
    """A query without variables, with the values that are known."""
    result, end = "", 0
    for use in _USE.finditer(query):
        result += query[end : use.start()]
        result += values.get(_name(use)) or _stand_in(_name(use), result)
        end = use.end()
    return result + query[end:]


def every(query: str, options: Mapping[str, Sequence[str]] = {}) -> Iterator[str]:
    """A query for each value of each variable whose values are known, one variable at a time."""
    first = {name: values[0] for name, values in options.items() if values}
    yield substituted(query, first)
    for name in variables(query) & first.keys():
        for value in options[name][1:]:
            yield substituted(query, first | {name: value})


def _name(use: "re.Match[str]") -> str:
    return str(use["braced"] or use["old"] or use["bare"])


def _stand_in(name: str, before: str) -> str:
    """For a variable after this beginning of a query."""
    if _is_quoted(before) or _IN_LABELS.search(before):
        return UNKNOWN
    if name in _DURATIONS or _IN_DURATION.search(before):
        return "5m"
    return "1"


def _is_quoted(before: str) -> bool:
    """Whether a text ends within quotes."""
    return bool(set(_QUOTED.sub("", before)) & set("\"'`"))
