"""Ends reservations, off the path of their requests, and keeps the open ones alive.

A request hands its settlement over without waiting, because it may just be being cancelled: what
is awaited in a cancelled task is cancelled as well, and the reservation would never end. What the
store cannot take now waits here and is tried again; settling twice does no harm.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from service.quota.reservation import Reservation, Settled
from service.quota.store import Store, StoreFailed, StoreUnavailable

log = logging.getLogger(__name__)

# Settlements under way at the same time: enough for thousands a second to a store 20 ms away.
_WORKERS = 100
_RETRY_SECONDS = 0.25
# Tried again at a time; a store that is away costs no more than to say so.
_RETRIES = 1000
_BEATS_PER_LEASE = 3
_BEAT_AGAIN_SECONDS = 1.0


class Settler:
    """The open reservations of this gateway, and the settlements on their way.

    `lease` is in seconds. `expired` is told of reservations of others that were found unattended.
    At most `max_pending` settlements wait for a store that is away; more are counted as `dropped`.
    """

    def __init__(
        self,
        store: Store,
        lease: float,
        expired: Callable[[Reservation], None],
        max_pending: int = 100_000,
        retry: float = _RETRY_SECONDS,
    ) -> None:
        self._store = store
        self._lease = lease
        self._expired = expired
        self._max_pending = max_pending
        self._retry_seconds = retry
        self._open: dict[str, set[str]] = {}
        self._queue: asyncio.Queue[Settled] = asyncio.Queue()
        self._waiting: deque[Settled] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self.pending = 0
        """Settlements that the store has not got yet."""
        self.dropped = 0

    def opened(self, reservation: Reservation) -> None:
        """Keep a reservation's lease alive from now on."""
        self._open.setdefault(reservation.team, set()).add(reservation.id)

    def leases(self) -> dict[str, Iterable[str]]:
        """The ids of what is open, by team."""
        return {team: tuple(ids) for team, ids in self._open.items()}

    def put(self, settled: Settled) -> None:
        """End a reservation. Returns at once and never fails."""
        reservation = settled.reservation
        ids = self._open.get(reservation.team)
        if ids is not None:
            ids.discard(reservation.id)
            if not ids:
                del self._open[reservation.team]
        if self.pending >= self._max_pending:
            self.dropped += 1
        else:
            self.pending += 1
            self._idle.clear()
            self._queue.put_nowait(settled)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._work())
            tasks.create_task(self._retry())
            tasks.create_task(self._tell())
            tasks.create_task(self._beat())

    async def finish(self, seconds: float) -> int:
        """Wait for all settlements. Returns how many did not get through in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.error("settlements are lost", extra={"settlements": self.pending})
        return self.pending

    async def _work(self) -> None:
        while True:
            settled = await self._queue.get()
            if not await self._settle(settled):
                self._waiting.append(settled)

    async def _retry(self) -> None:
        """Those that wait, in turn: for some of them the store may not be away."""
        while True:
            await asyncio.sleep(self._retry_seconds)
            for _ in range(min(len(self._waiting), _RETRIES)):
                self._queue.put_nowait(self._waiting.popleft())

    async def _settle(self, settled: Settled) -> bool:
        """False where the store cannot be reached: to be repeated."""
        try:
            await self._store.settle(settled)
        except StoreFailed:
            self.dropped += 1  # the store says why
        except StoreUnavailable:
            return False
        except Exception:
            self.dropped += 1
            log.exception("a reservation could not be settled")
        self.pending -= 1
        if not self.pending:
            self._idle.set()
        return True

    async def _tell(self) -> None:
        told: tuple[Reservation, ...] = ()
        while True:
            await asyncio.sleep(self._retry_seconds)
            try:
                told = await self._store.expired(told)
            except StoreUnavailable:
                continue
            except Exception:
                log.exception("what expired is not known")
                continue
            for reservation in told:
                try:
                    self._expired(reservation)
                except Exception:
                    log.exception("what expired was not written down")

    async def _beat(self) -> None:
        while True:
            wait = self._lease / _BEATS_PER_LEASE
            try:
                await self._store.renew(self.leases())
            except StoreUnavailable:
                wait = min(wait, _BEAT_AGAIN_SECONDS)  # the store says so itself, once
            except Exception:
                log.exception("leases were not renewed")
            await asyncio.sleep(wait)
