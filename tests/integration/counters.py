"""The shared counters, as the tests use them."""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import SecretStr

from service.quota.calendar import Windows, windows_at
from service.quota.limits import UNLIMITED, Limits
from service.quota.reservation import Level, Reservation, Scope
from service.quota.store import StoreUnavailable
from service.quota.valkey import ValkeyStore

T = TypeVar("T")

TIMEOUT = 0.05
# What a busy machine may add to the time limit before a test calls it a hang.
SLACK = 2.0
WINDOWS = windows_at(datetime.now(UTC), "UTC")

_numbers = itertools.count()


def new_team() -> str:
    return f"team-{next(_numbers)}"


def reservation(
    team: str,
    limits: Limits = UNLIMITED,
    *,
    id: str = "",
    tokens: int = 100,
    windows: Windows = WINDOWS,
) -> Reservation:
    scopes = (Scope("team", limits), Scope("key:k1", UNLIMITED))
    id = id or secrets.token_hex(8)
    return Reservation(id, team, scopes, windows, tokens // 2, tokens - tokens // 2)


@contextlib.asynccontextmanager
async def connected(
    url: str, *, lease: float = 60, limit: float = TIMEOUT
) -> AsyncIterator[ValkeyStore]:
    store = ValkeyStore.connect(SecretStr(url), lease, limit)
    try:
        yield store
    finally:
        await store.close()


async def until(ask: Callable[[], Awaitable[T]], seconds: float = 15) -> T:
    """The first answer of a store that is away at first."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            assert time.monotonic() < deadline, f"not back within {seconds} s"
            await asyncio.sleep(0.05)


async def level(store: ValkeyStore, of: Reservation) -> Level:
    return (await store.levels(of.team, of.scopes, of.windows))[0]
