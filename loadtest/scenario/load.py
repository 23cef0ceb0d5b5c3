"""A scenario out of a file, or one of those that are ready-made."""

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from loadtest.errors import UserError
from loadtest.scenario import complaint
from loadtest.scenario.document import Scenario

# What is named by whoever writes a scenario: there a wrong name makes a new one.
_NAMED: Final = {"teams": "team", "fault_targets": "fault target"}


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
    document, folder = _found(source)
    strange = _strange(document, changes or {})
    for key, value in (changes or {}).items():
        _put(document, key, value)
    try:
        return _with_files(parsed(document, source), folder)
    except UserError as error:
        raise strange or error from None


def parsed(document: dict[str, Any], source: str) -> Scenario:
    """A scenario from what its file holds. Raises `UserError`, one line that names `source`."""
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        raise UserError(f"{source}: {complaint.about(error, document)}") from None


def _found(source: str) -> tuple[dict[str, Any], Path]:
    """What it holds, and the folder that its files are in."""
    path, known = Path(source), ready()
    if path.is_file():
        return _document(_text(path), source), path.parent
    if source in known:
        return _document(known[source], source), Path()
    if path.is_dir():
        raise UserError(f"{source} is a folder: name a scenario's file, such as {_within(path)}")
    raise UserError(f"{source} is no file and no ready-made scenario: those are {', '.join(known)}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is no text in UTF-8") from None


def _within(folder: Path) -> Path:
    """A scenario of a folder, or what one could be called."""
    return next(iter(sorted(folder.glob("*.yaml"))), folder / "scenario.yaml")


def _strange(document: Mapping[str, Any], changes: Mapping[str, Any]) -> UserError | None:
    """What to say of the first change below a name that is none, if it does not make a whole new
    one."""
    for key in changes:
        section, _, rest = key.partition(".")
        name, below, _ = rest.partition(".")
        known = document.get(section, {})
        if section in _NAMED and below and isinstance(known, dict) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            others = (
                f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
            )
            return UserError(f"--set {key}: there is no {_NAMED[section]} {name}: {others}")
    return None


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
