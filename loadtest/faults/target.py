"""What something must be able to do so that faults can be made to it."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from loadtest.scenario.faults import Fault


class Target(Protocol):
    """A part of the service."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """What must be there for as long as the run is, such as a proxy."""
        ...

    async def check(self, fault: Fault) -> None:
        """That this fault could be made now. Changes nothing. Raises `UserError`."""
        ...

    async def make(self, fault: Fault) -> None:
        """Make it, wait as long as it lasts, and undo it: also when cancelled meanwhile.

        What is over with the deed itself returns at once. Raises `UserError` if it cannot be made,
        or not be undone.
        """
        ...
