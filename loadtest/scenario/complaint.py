"""What is wrong with a scenario, in one line: where, and what it should be.

The library's own sentences speak of dictionaries, tags and inputs. Who writes YAML is told of
names, values and kinds, at the place as it would be written for `--set`.
"""

import difflib
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loadtest.scenario.document import Scenario

_PHRASES: Final = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a number that has an end",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text: put it in quotes",
    "path_type": "must be the name of a file",
    "list_type": "must be a list",
    "dict_type": "must have names and values below it",
    "model_type": "must have names and values below it",
    "model_attributes_type": "must have names and values below it",
    "too_short": "must have {min_length} or more in it",
    "too_long": "must have no more than {max_length} in it",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "value_error": "{error}",
}


def about(error: ValidationError, document: Any) -> str:
    """The first thing that is wrong with what a scenario's file holds."""
    # A wrong word first: what is missing is missing because of it.
    found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    return _said(found[0], document)


def _said(error: ErrorDetails, document: Any) -> str:
    what, context = error["type"], error.get("ctx", {})
    parts = [str(part) for part in error["loc"]]
    if what in ("extra_forbidden", "missing"):
        where = ".".join([*_written(parts[:-1], document), parts[-1]])
        return f"{where} is missing" if what == "missing" else _unknown(where, parts)
    where = ".".join(_written(parts, document))
    if what == "union_tag_not_found":
        kind = context["discriminator"].strip("'")
        return f"{where}.{kind} is missing"
    if what == "union_tag_invalid":
        return _wrong_kind(where, context)
    phrase = _PHRASES.get(what)
    message = phrase.format(**context) if phrase else error["msg"]
    if not where:
        return message
    colon = ":" if what == "value_error" or not phrase else ""
    return f"{where}{colon} {message}{_given(error)}"


def _given(error: ErrorDetails) -> str:
    shown = error["input"]
    if shown is None:
        return " (it is empty)"
    return f" (it is {shown!r})" if isinstance(shown, str | int | float) else ""


def _unknown(where: str, parts: Sequence[str]) -> str:
    """A word that is none."""
    known = _keys(parts[:-1])
    return f"there is no {where}{_instead(parts[-1], known) if known else ''}"


def _wrong_kind(where: str, context: dict[str, Any]) -> str:
    known = [name.strip(" '") for name in context["expected_tags"].split(",")]
    return f"{where}: there is no kind {context['tag']}{_instead(context['tag'], known)}"


def _instead(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(known)}"


def _written(parts: Sequence[str], document: Any) -> list[str]:
    """A place as it is written: without the names of kinds that the library puts between."""
    at, written = document, []
    for part in parts:
        if isinstance(at, dict):
            below = {str(key): value for key, value in at.items()}
            if part not in below:
                continue
            at = below[part]
        elif isinstance(at, list) and part.isdecimal() and int(part) < len(at):
            at = at[int(part)]
        else:
            continue
        written.append(part)
    return written


def _keys(path: Sequence[str]) -> list[str]:
    """The keys that there can be at a place of the document, by its schema."""
    schema = Scenario.model_json_schema()
    at: dict[str, Any] = schema
    for part in path:
        at = _below(_resolved(at, schema), part, schema)
    return sorted(_resolved(at, schema).get("properties", {}))


def _below(at: dict[str, Any], part: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What is at one part of a place. A union is entered by the name of its member."""
    found: dict[str, Any]
    for one in at.get("oneOf", at.get("anyOf", [])):
        member = _resolved(one, schema)
        kind = member.get("properties", {}).get("kind", {})
        if part in (kind.get("const"), member.get("title")):
            return member
    if part in at.get("properties", {}):
        found = at["properties"][part]
    elif part.isdigit():
        found = at.get("items", {})
    else:
        found = at.get("additionalProperties", {})
    return found if isinstance(found, dict) else {}


def _resolved(at: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in at:
        at = schema["$defs"][at["$ref"].rpartition("/")[2]]
    return at
