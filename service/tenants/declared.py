"""Teams declared in a YAML file: read with the place of every fault, and written.

    teams:
      - name: search
        tier: interactive
        limits: {rpm: 600, tpm: 2M, models: [gpt-oss-120b]}
        models:
          gpt-oss-120b: {concurrency: 8}

A team in the file is declared whole: what is left out has its default.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from service.errors import UserError
from service.quota.amounts import count, count_text
from service.tenants.document import (
    Document,
    LimitsDocument,
    ModelLimitsDocument,
    ModelName,
    TeamDocument,
    fault,
)
from service.tenants.team import Team, TeamName

_COUNTS = tuple(name for name in ModelLimitsDocument.model_fields if name != "efforts")
_EXAMPLE = "such as `teams: [{name: search, limits: {rpm: 600}}]`"


class _Words(BaseModel):
    """Names as the file has them and as the options have them: daily_tokens or daily-tokens."""

    @model_validator(mode="before")
    @classmethod
    def _same_words(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        same = {_word(name): item for name, item in value.items()}
        if len(same) < len(value):
            raise ValueError("a name is given twice, with - and with _: keep one")
        return same


class _Limits(_Words):
    @field_validator(*_COUNTS, mode="before", check_fields=False)
    @classmethod
    def _counted(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return count(value)
        except ValueError as error:
            raise ValueError(f"{value[:40]!r} {error}") from None


class _DeclaredModelLimits(_Limits, ModelLimitsDocument):
    pass


class _DeclaredLimits(_Limits, LimitsDocument):
    pass


class _DeclaredTeam(_Words, TeamDocument):
    name: TeamName
    limits: _DeclaredLimits = Field(default_factory=_DeclaredLimits)
    models: Mapping[ModelName, _DeclaredModelLimits] = Field(default_factory=dict)


class _Declared(Document):
    teams: tuple[_DeclaredTeam, ...]


def read(text: str, source: str) -> list[Team]:
    """The teams of a file; `source` is its name. Raises UserError with the line of a fault."""
    root: yaml.Node | None = None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise UserError(f"{source} is empty: declare teams, {_EXAMPLE}")
        _refuse_repeats(root, source)
        declared = _Declared.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UserError(f"{_place(source, mark)}: not YAML: {problem}") from None
    except ValueError as error:  # ValidationError is one; others are dates and numbers like 99:99
        if not isinstance(error, ValidationError):
            raise UserError(f"{source}: not YAML of ours: {error}: quote the value") from None
        where, what = fault(error)
        mark = _mark(root, where)
        raise UserError(f"{_place(source, mark)}: {_path(where) or 'the file'}: {what}") from None
    except RecursionError:
        raise UserError(f"{source} nests too deeply: declare teams, {_EXAMPLE}") from None
    _refuse_twins(declared.teams, root, source)
    return [team.team(team.name) for team in declared.teams]


def write(teams: Iterable[Team]) -> str:
    """A file that declares these teams, without their defaults."""
    document = {"teams": [_plain(team) for team in teams]}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _plain(team: Team) -> dict[str, Any]:
    document = TeamDocument.of(team).model_dump(mode="json", exclude_defaults=True)
    for limits in (document.get("limits", {}), *document.get("models", {}).values()):
        limits.update({name: _short(limits[name]) for name in _COUNTS if name in limits})
    return {"name": team.name, **document}


def _short(value: int) -> int | str:
    text = count_text(value)
    return value if text.isdecimal() else text


def _word(name: object) -> object:
    return name.replace("-", "_") if isinstance(name, str) else name


def _refuse_repeats(root: yaml.Node, source: str) -> None:
    """YAML takes the last of two equal names in silence; here that is a mistake."""
    for node in _mappings(root, set()):
        seen: set[object] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                if name.value in seen:
                    raise UserError(
                        f"{_place(source, name.start_mark)}: {name.value} is given twice"
                    )
                seen.add(name.value)


def _mappings(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    if id(node) in seen:  # an alias: the same node again
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        children = [value for _, value in node.value]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        yield from _mappings(child, seen)


def _refuse_twins(teams: Sequence[_DeclaredTeam], root: yaml.Node, source: str) -> None:
    seen: set[str] = set()
    for index, team in enumerate(teams):
        if team.name in seen:
            place = _place(source, _mark(root, ("teams", index, "name")))
            raise UserError(f"{place}: team {team.name} is declared twice: keep one")
        seen.add(team.name)


def _mark(node: yaml.Node | None, where: Sequence[int | str]) -> yaml.Mark | None:
    """Where in the file a value is, or the nearest thing around it that is there."""
    mark = node.start_mark if node else None
    for part in where:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            mark = node.start_mark
        elif isinstance(node, yaml.MappingNode):
            named = [pair for pair in node.value if part in (pair[0].value, _word(pair[0].value))]
            if not named:
                break
            mark, node = named[0][0].start_mark, named[0][1]
    return mark


def _place(source: str, mark: yaml.Mark | None) -> str:
    return f"{source}:{mark.line + 1}" if mark else source


def _path(where: Sequence[int | str]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return "".join(parts).removeprefix(".")
