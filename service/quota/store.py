"""What a store of counters does: in this process, or shared by all gateways."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from service.quota.calendar import Windows
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled

# Of one team: tokens by scope, by day (`2026-08-22`) and month (`2026-08`).
Used = Mapping[str, Mapping[str, int]]


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. What it was asked may have happened or not."""


class StoreSlow(StoreUnavailable):
    """It did not answer this call in time, but others meanwhile."""


class StoreFailed(StoreUnavailable):
    """It answered this call with an error, which says nothing about others."""


class Beat(NamedTuple):
    """`gateways` have said within the last lease that they live.

    `number` grows with every beat of any of them; it is 0 where the store does not know what the
    ledger knows, and one seen before where it has forgotten what happened since.
    """

    gateways: int
    number: int


class Store(Protocol):
    """Counters of all teams. Every method may raise `StoreUnavailable`."""

    async def reserve(self, reservation: Reservation) -> Outcome:
        """Take a reservation on all of its limits, or on none, in one round trip."""

    async def settle(self, settled: Settled) -> None:
        """End a reservation. May be repeated."""

    async def renew(self, open: Mapping[str, Iterable[str]]) -> None:
        """Extend the leases of open reservations, ids by team."""

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        """How much of each scope is used."""

    async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
        """Reservations that were found unattended and charged as they had estimated.

        Each is returned, perhaps repeatedly and to several gateways, until it is among the `told`.
        """

    async def close(self) -> None:
        """Give connections back."""


class SharedStore(Store, Protocol):
    """Counters that gateways share, on one server or several."""

    def place(self, team: str = "") -> str:
        """Where a team's counters are, or else the list of gateways: what is lost together."""

    async def beat(self, gateway: str, restored: bool = False) -> Beat:
        """Say that a gateway lives; and that the store now knows what the ledger knows."""

    async def restore(self, team: str, used: Used) -> None:
        """Raise what was used to what the ledger says. May be repeated."""
