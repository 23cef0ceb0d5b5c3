"""What a store of counters does: in this process, or shared by all gateways."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from service.quota.calendar import Windows
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. What it was asked may have happened or not."""


class Store(Protocol):
    """Counters of all teams. Every method may raise `StoreUnavailable`."""

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none, in one round trip."""

    async def settle(self, settled: Settled) -> tuple[Reservation, ...]:
        """End a reservation. May be repeated. Returns others that were found expired."""

    async def renew(self, gateway: str, open: Mapping[str, Iterable[str]]) -> int:
        """Extend the leases of one gateway's open reservations, ids by team.

        Returns how many gateways have done so within the last lease.
        """

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""

    async def close(self) -> None:
        """Give connections back."""
