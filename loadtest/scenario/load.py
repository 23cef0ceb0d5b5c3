"""A scenario out of a file, or one of those that are ready-made."""

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loadtest.errors import UserError
from loadtest.scenario.document import Scenario


def ready() -> Mapping[str, str]:
    """The ready-made ones: their YAML, by name."""
    folder = files("loadtest.scenario") / "ready"
    texts = {Path(one.name).stem: one.read_text() for one in folder.iterdir()}
    return dict(sorted(texts.items()))


def load(source: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """A scenario from a file, or by the name of a ready-made one.

    `changes` replace what it says: values by keys with dots, such as `target.url`; what is in
    a list by its number, from 0. Files that a scenario names are looked for beside it. Raises
    `UserError`, one line.
    """
    path = Path(source)
    if path.is_file():
        document, folder = _document(path.read_text(), source), path.parent
    elif source in (known := ready()):
        document, folder = _document(known[source], source), Path()
    else:
        raise UserError(
            f"{source} is no file and no ready-made scenario: those are {', '.join(known)}"
        )
    for key, value in (changes or {}).items():
        _put(document, key, value)
    return _with_files(parsed(document, source), folder)


def parsed(document: dict[str, Any], source: str) -> Scenario:
    """A scenario from what its file holds. Raises `UserError`, one line that names `source`."""
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        # A wrong word first: what is missing is missing because of it.
        found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        raise UserError(f"{source}: {_said(found[0])}") from None


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise UserError(f"{source} is no YAML{where}: {problem}") from None
    if not isinstance(document, dict):
        raise UserError(f"{source} holds no scenario: names and values, such as `name: chat`")
    return document


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    at: Any = document
    for part in path:
        at = at[_place(at, part, key)] if isinstance(at, list) else at.setdefault(part, {})
        if not isinstance(at, dict | list):
            raise UserError(f"{key}: {part} is a value, and has nothing below it")
    at[_place(at, last, key) if isinstance(at, list) else last] = value


def _place(at: list[Any], part: str, key: str) -> int:
    """Of what a list has."""
    if not part.isdecimal() or int(part) >= len(at):
        raise UserError(f"{key}: {part} is none of a list of {len(at)}, numbered from 0")
    return int(part)


def _said(error: ErrorDetails) -> str:
    """One line for the first thing that is wrong: where, and what it should be."""
    parts = [str(part) for part in error["loc"]]
    where = ".".join(parts)
    if error["type"] == "extra_forbidden":
        known = _keys(parts[:-1])
        near = difflib.get_close_matches(parts[-1], known, n=1)
        meant = f": did you mean {near[0]}?" if near else (f": known are {', '.join(known)}")
        return f"there is no {where}{meant if known else ''}"
    if error["type"] == "missing":
        return f"{where} is missing"
    message = error["msg"].removeprefix("Value error, ")
    shown = error["input"]
    given = f" (it is {shown!r})" if isinstance(shown, str | int | float) else ""
    return f"{where}: {message}{given}" if where else message


def _keys(path: list[str]) -> list[str]:
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


def _with_files(scenario: Scenario, folder: Path) -> Scenario:
    """Its traces, found beside it."""
    teams = dict(scenario.teams)
    for name, team in teams.items():
        if team.arrivals.kind == "trace":
            file = folder / team.arrivals.file
            if not file.is_file():
                raise UserError(f"teams.{name}.arrivals.file: there is no {file}")
            arrivals = team.arrivals.model_copy(update={"file": file})
            teams[name] = team.model_copy(update={"arrivals": arrivals})
    return scenario.model_copy(update={"teams": teams})
