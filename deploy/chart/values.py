"""`values.yaml` with the comments that say what each value means and may be.

# -- How long open streams may go on, s.
# @schema {minimum: 1}
drainSeconds: 120
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_MEANING = "# --"
_SCHEMA = "# @schema"


@dataclass(frozen=True, slots=True)
class Value:
    """One name in `values.yaml`."""

    path: tuple[str, ...]
    default: Any
    meaning: str
    """Empty for a group, and where the name says it."""
    rule: Mapping[str, Any]
    """JSON schema keywords, over what the default's type says."""
    children: tuple["Value", ...]
    """Of a group; a map whose names are free has none."""

    @property
    def name(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)

    @property
    def leaves(self) -> Iterator["Value"]:
        """Everything in it that is set, in order."""
        if not self.children:
            yield self
        for child in self.children:
            yield from child.leaves


def parse(text: str) -> Value:
    """The tree of values. Raises ValueError, with the line, for a comment that cannot be read."""
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("values.yaml must hold names and values")
    return Value((), yaml.safe_load(text), "", {}, tuple(_children(root, (), text.splitlines())))


def _children(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        here = (*path, str(key.value))
        meaning, rule = _comment(lines, key.start_mark.line)
        default = yaml.safe_load(yaml.serialize(value))
        grouped = isinstance(value, yaml.MappingNode) and not rule
        children = tuple(_children(value, here, lines)) if grouped else ()
        yield Value(here, default, meaning, rule, children)


def _comment(lines: list[str], line: int) -> tuple[str, Mapping[str, Any]]:
    """The comment right above a line: its meaning, and its rule."""
    above: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        above.insert(0, lines[line].strip())
    meaning: list[str] = []
    rule: Mapping[str, Any] = {}
    for text in above:
        if text.startswith(_SCHEMA):
            try:
                rule = yaml.safe_load(text.removeprefix(_SCHEMA))
            except yaml.YAMLError as error:
                raise ValueError(f"near line {line + 1}: not a rule: {text}") from error
        elif text.startswith(_MEANING):
            meaning = [text.removeprefix(_MEANING).strip()]
        elif meaning:
            meaning.append(text.removeprefix("#").strip())
    return " ".join(meaning), rule
