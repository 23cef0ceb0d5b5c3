"""`gptoss settings`: every setting, where it is set, its value now and its meaning."""

from collections.abc import Iterator

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from service import settings


def show_settings() -> None:
    """Print every setting: its environment variable, its value now, its meaning.

    In the YAML file that GPTOSS_CONFIG names, the same names nest: `gateway: {port: 8000}`.
    """
    table = Table()
    for heading in ("environment variable", "value", "meaning"):
        table.add_column(heading, overflow="fold")  # a name that is cut cannot be copied
    for name, value, meaning in _rows(settings.load(), "GPTOSS_"):
        table.add_row(name, value, meaning)
    Console().print(table)


def _rows(section: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", str(value), field.description or ""
