"""What a gateway stands on: who may come in, what they may use, and the book of what they used."""

import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client.metrics_core import Metric

from service.database.connect import Database
from service.database.opened import open_database
from service.gateway.admission import Admission
from service.gateway.auth import Authenticator
from service.gateway.clerk import Clerk
from service.ledger.journal import Journal
from service.ledger.retention import run_retention
from service.ledger.usage import spent
from service.ledger.writer import Ledger
from service.quota.guard import Guard
from service.quota.memory import MemoryStore
from service.quota.settler import Settler
from service.quota.store import Store
from service.quota.valkey import ValkeyStore
from service.settings import QuotaSettings, Settings
from service.telemetry import contract
from service.telemetry.census import Census
from service.telemetry.contract import Family
from service.telemetry.metrics import Metrics, shown
from service.tenants.directory import Directory
from service.tenants.snapshot import Keeper, Snapshot
from service.tenants.sso import SingleSignOn

log = logging.getLogger(__name__)

# For the settlements, and then for the ledger, to get through at the end of a gateway.
_FINISH_SECONDS = 5.0
# For what killed gateways left, s. It is written before budgets are read from the ledger.
_INHERIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Backing:
    """The parts that the data path asks, and the tasks that keep them going until cancelled."""

    database: Database
    directory: Directory
    snapshot: Snapshot
    keeper: Keeper
    authenticator: Authenticator
    admission: Admission
    settler: Settler
    tasks: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
    snapshot_max_age: float

    def stale(self) -> str | None:
        """What is wrong with the snapshot of teams and keys, if anything is."""
        age, most = self.keeper.age, self.snapshot_max_age
        return f"teams and keys are {age:.0f} s old, {most:g} are allowed" if age > most else None

    async def finish(self) -> None:
        """Get the last settlements through, once no request is open. Needs the tasks running."""
        await self.settler.finish(_FINISH_SECONDS)


@contextlib.asynccontextmanager
async def open_backing(settings: Settings, metrics: Metrics) -> AsyncIterator[Backing]:
    """Connect to everything. Raises `UserError` for what cannot be used."""
    gateway = secrets.token_hex(8)
    sso = SingleSignOn(settings.sso) if settings.sso.issuer else None
    async with open_database(settings) as database:
        directory, snapshot = Directory(database), Snapshot()
        keeper = Keeper(directory, snapshot)
        await keeper.load()
        ledger = Ledger(database, settings.ledger, Journal(settings.state_dir / "ledger"))
        await ledger.inherit(_INHERIT_SECONDS)
        store = await _open_store(settings.quota, gateway, database)
        clerk = Clerk(ledger, metrics)
        settler = Settler(store, settings.quota.lease, clerk.expired)
        admission = Admission(store, settler, clerk, metrics)
        tasks: list[Callable[[], Coroutine[Any, Any, None]]] = [
            lambda: keeper.keep_fresh(metrics.key_refresh_failures.inc),
            settler.run,
            ledger.run,
            lambda: run_retention(database, settings.ledger),
        ]
        if isinstance(store, Guard):
            guard = store
            tasks.append(lambda: guard.watch(settler.leases))
        if sso:
            tasks.append(lambda: sso.keep_fresh(metrics.key_refresh_failures.inc))
        levels = store.shared_levels if isinstance(store, Guard) else store.levels
        census = Census(levels, snapshot.teams, lambda: metrics.teams.names)
        tasks.append(census.run)
        metrics.show(census.series)
        metrics.show(lambda: _series(snapshot, keeper, store, settler, ledger))
        try:
            yield Backing(
                database,
                directory,
                snapshot,
                keeper,
                Authenticator(snapshot, sso),
                admission,
                settler,
                tuple(tasks),
                settings.database.snapshot_max_age,
            )
        finally:
            await ledger.close(_FINISH_SECONDS)
            await store.close()
            if sso:
                await sso.close()


async def _open_store(settings: QuotaSettings, gateway: str, database: Database) -> Store:
    if settings.url.get_secret_value():
        shared = ValkeyStore.connect(settings.url, settings.lease, settings.timeout)
        guard = Guard(shared, settings, gateway, spent=lambda: _used(database))
        await guard.begin()
        return guard
    # Counters in this process end with it; the budgets of the day and the month must not.
    store = MemoryStore(settings.lease)
    for team, used in (await _used(database)).items():
        await store.restore(team, used)
    return store


async def _used(database: Database) -> dict[str, dict[str, Counter[str]]]:
    """What the ledger knows of the budgets that may still be open, by team and window."""
    found: dict[str, dict[str, Counter[str]]] = {}
    for entry in await spent(database, datetime.now(UTC)):
        windows = found.setdefault(entry.team, {})
        for window in (entry.day, entry.day[:7]):
            used = windows.setdefault(window, Counter())
            for scope in ("team", f"key:{entry.key}", f"model:{entry.model}"):
                used[scope] += entry.tokens
    return found


def _series(
    snapshot: Snapshot, keeper: Keeper, store: Store, settler: Settler, ledger: Ledger
) -> Iterator[Metric]:
    """What these count themselves."""
    guard = store if isinstance(store, Guard) else None
    mode = "in_process" if guard is None else "degraded" if guard.degraded else "shared"
    errors = guard.errors if guard else dict.fromkeys(("slow", "failed", "away"), 0)
    lost = {"settlement": settler.dropped, "ledger": ledger.dropped}
    yield _one(contract.KEYS, len(snapshot))
    yield _one(contract.SNAPSHOT_AGE, keeper.age)
    yield _one(contract.SETTLEMENTS_PENDING, settler.pending)
    yield _one(contract.LEDGER_PENDING, ledger.pending)
    yield _one(contract.JOURNAL_FAILED, ledger.is_at_risk)
    yield shown(contract.LOST, (((what,), number) for what, number in lost.items()))
    yield shown(contract.QUOTA_MODE, (((name,), name == mode) for name in contract.MODES))
    yield shown(contract.STORE_ERRORS, (((kind,), number) for kind, number in errors.items()))
    yield _one(contract.GATEWAYS, guard.gateways if guard else 1)
    yield _one(contract.RESTORED, guard.restored if guard else 0)


def _one(family: Family, value: float) -> Metric:
    return shown(family, [((), value)])
