"""The options that state limits: the same for `team create`, `team set` and `key create`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from service.cli import amounts
from service.errors import UserError
from service.tenants.difference import NONE
from service.tenants.document import LimitsDocument, fault

Given = Mapping[str, Any]
"""The limits that were given, by name; None is a limit that is lifted."""

_LISTS = ("models", "efforts")


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every limit; it gets those that were given as `limits`."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        texts = {name: values.pop(name) for name in LimitsDocument.model_fields}
        given = {name: _read(name, text) for name, text in texts.items() if text is not None}
        command(limits=given, **values)

    own = inspect.signature(command)
    parameters = [each for each in own.parameters.values() if each.name != "limits"]
    parameters += [_parameter(name) for name in LimitsDocument.model_fields]
    wrapped.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapped


def option(name: str) -> str:
    """How a word of a document is written on the command line."""
    return f"--{name.replace('_', '-')}"


def _parameter(name: str) -> inspect.Parameter:
    meaning = LimitsDocument.model_fields[name].description or ""
    info = typer.Option(option(name), help=meaning, metavar=_metavar(name))
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, info],
    )


def _metavar(name: str) -> str:
    return "A,B|none" if name in _LISTS else "COUNT|none"


def _read(name: str, text: str) -> Any:
    if text.lower() == NONE:
        return None
    value: Any
    if name in _LISTS:
        value = [item.strip() for item in text.split(",")]
    else:
        value = amounts.count(option(name), text)
    try:
        return getattr(LimitsDocument.model_validate({name: value}), name)
    except ValidationError as error:
        raise UserError(f"{option(name)} {text!r}: {fault(error)[1]}") from None
