"""What happened during a run beside its requests. Times are of the run's clock, s."""

import msgspec


class Made(msgspec.Struct):
    """A fault, as it was made."""

    number: int
    """Which of the scenario's faults, from 0."""
    what: str
    target: str
    began: float
    """Just before it was made."""
    ended: float | None = None
    """When it was undone, or, of one that nothing undoes, when it was done. None: not yet."""
    error: str = ""
    """Why it could not be made, or not be undone: one line."""


class Firing(msgspec.Struct):
    """An alert that fired, as it was seen once a second."""

    alert: str
    began: float
    ended: float | None = None
    """None: it still fired when it was last looked."""
