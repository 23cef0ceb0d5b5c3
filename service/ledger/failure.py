"""What may be said of a failure: not SQLAlchemy's text, which holds the statement's values."""

from service.errors import UserError


def cause(error: Exception) -> str:
    """A line for the log."""
    if isinstance(error, UserError):  # made to be read: the database is away
        return str(error)
    return type(getattr(error, "orig", None) or error).__name__
