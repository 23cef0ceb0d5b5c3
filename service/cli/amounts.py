"""Amounts given on the command line: the same texts, refused by the option's name."""

from datetime import timedelta

from service.errors import UserError
from service.quota import amounts


def count(option: str, text: str) -> int:
    """The number that an option such as `--tpm 2M` gives."""
    try:
        return amounts.count(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r} {error}") from None


def duration(option: str, text: str) -> timedelta:
    """The time that an option such as `--expires 90d` gives."""
    try:
        return amounts.duration(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r} {error}") from None
