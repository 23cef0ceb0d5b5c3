"""What is decided while the quota store is away, and that nothing is forgotten meanwhile.

The store here is the pure one, made to fail on command: a stand-in, since what is tested are all
orders of failures, thousands of them. The real servers are killed and frozen in the integration
tests.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.quota.calendar import Windows, windows_at
from service.quota.guard import Guard, Refusing
from service.quota.limits import Limits
from service.quota.memory import MemoryStore
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.settler import Settler
from service.quota.store import StoreUnavailable
from service.settings import OnStoreLoss, QuotaSettings

WINDOWS = windows_at(datetime(2026, 8, 22, 12, tzinfo=UTC), "UTC")
LEASE = 60.0


class Failing:
    """A store that can be taken away: before it does what it is asked, or after."""

    def __init__(self, gateways: int = 1) -> None:
        self.kept = MemoryStore(LEASE)
        self.up = True
        self.loses_answers = False
        self.gateways = gateways
        self.asked = 0

    async def reserve(self, reservation: Reservation) -> Outcome:
        self._check()
        outcome = await self.kept.reserve(reservation)
        self._lose()
        return outcome

    async def settle(self, settled: Settled) -> tuple[Reservation, ...]:
        self._check()
        expired = await self.kept.settle(settled)
        self._lose()
        return expired

    async def renew(self, gateway: str, open: Mapping[str, Iterable[str]]) -> int:
        self._check()
        await self.kept.renew(gateway, open)
        return self.gateways

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        self._check()
        return await self.kept.levels(team, scopes, windows)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        self.asked += 1
        if not self.up:
            raise StoreUnavailable

    def _lose(self) -> None:
        if self.loses_answers:
            raise StoreUnavailable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reservation(id: str, limits: Limits, tokens: int = 10) -> Reservation:
    return Reservation(id, "search", (Scope("team", limits),), WINDOWS, tokens, 0)


async def admitted(guard: Guard, limits: Limits, tries: int, tokens: int = 10) -> int:
    outcomes = [await guard.reserve(reservation(f"r{n}", limits, tokens)) for n in range(tries)]
    return sum(outcome.granted for outcome in outcomes)


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        (Limits(rpm=10), 10),
        (Limits(tpm=10), 10),
        (Limits(concurrency=10), 10),
        (Limits(daily_tokens=10), 10),
        (Limits(monthly_tokens=10), 10),
    ],
    ids=["rpm", "tpm", "concurrency", "day", "month"],
)
@pytest.mark.parametrize("gateways", [1, 3])
def test_all_gateways_together_admit_one_limit_more_than_the_store_did(
    limits: Limits, least: int, gateways: int
) -> None:
    """The bound that the docs state: each has its share, rounded up."""

    async def outage() -> int:
        total = 0
        for _ in range(gateways):
            store = Failing(gateways)
            guard = Guard(store, QuotaSettings(), "g")
            await guard.renew("g", {})
            store.up = False
            total += await admitted(guard, limits, 30, tokens=1)
        return total

    assert least <= asyncio.run(outage()) <= least + gateways - 1


def test_the_store_is_not_asked_again_while_it_is_away() -> None:
    async def outage() -> int:
        store = Failing()
        guard = Guard(store, QuotaSettings(), "g")
        store.up = False
        await admitted(guard, Limits(rpm=10), 20)
        return store.asked

    assert asyncio.run(outage()) == 1


def test_own_counters_are_kept_from_one_outage_to_the_next() -> None:
    async def outages() -> int:
        store, total = Failing(), 0
        guard = Guard(store, QuotaSettings(), "g")
        for _ in range(5):
            store.up = False
            total += await admitted(guard, Limits(daily_tokens=100), 30)
            store.up = True
            await guard.probe()
        return total

    assert asyncio.run(outages()) == 10


@pytest.mark.parametrize("name", ["requests", "tokens", "concurrency", "budgets"])
def test_each_class_of_limits_has_its_own_mode(name: str) -> None:
    limits = {
        "requests": Limits(rpm=2),
        "tokens": Limits(tpm=20),
        "concurrency": Limits(concurrency=2),
        "budgets": Limits(daily_tokens=20),
    }

    async def outage(mode: OnStoreLoss, of: str) -> int:
        store = Failing()
        store.up = False
        guard = Guard(store, QuotaSettings.model_validate({name: mode}), "g")
        return await admitted(guard, limits[of], 5)

    assert asyncio.run(outage(OnStoreLoss.DEGRADED, name)) == 2
    assert asyncio.run(outage(OnStoreLoss.OPEN, name)) == 5
    with pytest.raises(Refusing):
        asyncio.run(outage(OnStoreLoss.CLOSED, name))
    other = next(of for of in limits if of != name)
    assert asyncio.run(outage(OnStoreLoss.CLOSED, other)) == 2


def test_after_the_bounded_time_it_refuses_and_then_recovers_without_a_restart() -> None:
    async def outage() -> None:
        store, clock = Failing(), Clock()
        guard = Guard(store, QuotaSettings(degraded_limit=900), "g", clock)
        store.up = False
        asked = reservation("a", Limits(rpm=100))
        assert (await guard.reserve(asked)).narrowed
        clock.now += 901
        with pytest.raises(Refusing):
            await guard.reserve(replace(asked, id="b"))
        unlimited = reservation("c", Limits())
        assert (await guard.reserve(unlimited)).granted  # there is nothing to refuse it by
        store.up = True
        await guard.probe()
        assert not guard.degraded
        assert (await guard.reserve(replace(asked, id="d"))).narrowed is None

    asyncio.run(outage())


steps = st.lists(
    st.sampled_from(["reserve", "settle", "cut", "lose", "lose answers", "return", "beat"]),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)  # it runs a clock
@given(steps, st.integers(1, 60))
def test_whatever_fails_when_all_that_was_used_is_charged_once_in_the_end(
    steps: list[str], used: int
) -> None:
    async def run() -> None:
        store = Failing()
        guard = Guard(store, QuotaSettings(), "g")
        settler = Settler(guard, "g", LEASE, lambda _: None, retry=0.001)
        open: list[Reservation] = []
        charged = 0
        working = asyncio.ensure_future(settler.run())
        for number, step in enumerate(steps):
            match step:
                case "reserve":
                    asked = reservation(f"r{number}", Limits(concurrency=3, daily_tokens=10_000))
                    if (await guard.reserve(asked)).granted:
                        settler.opened(asked)
                        open.append(asked)
                case "settle" | "cut" if open:
                    tokens = used if step == "settle" else 0
                    charged += tokens
                    settler.put(Settled(open.pop(), tokens))
                case "lose":
                    store.up = False
                case "lose answers":
                    store.loses_answers = True
                case "return":
                    store.up, store.loses_answers = True, False
                    await guard.probe()
                case "beat":
                    await asyncio.sleep(0)
        store.up, store.loses_answers = True, False
        await guard.probe()
        for asked in open:
            charged += used
            settler.put(Settled(asked, used))
        assert await settler.finish(5) == 0
        await guard.probe()
        working.cancel()
        (level,) = await store.kept.levels("search", (Scope("team", Limits()),), WINDOWS)
        assert (level.day_used, level.day_reserved, level.open) == (charged, 0, 0)
        (own,) = await guard._own.levels("search", (Scope("team", Limits()),), WINDOWS)
        assert (own.day_reserved, own.open) == (0, 0)
        assert settler.dropped == 0

    asyncio.run(run())


def test_settlements_that_wait_are_bounded_and_the_overflow_is_counted() -> None:
    async def run() -> tuple[int, int]:
        store = Failing()
        store.up = False
        settler = Settler(store, "g", LEASE, lambda _: None, max_pending=10)
        for number in range(25):
            settler.put(Settled(reservation(str(number), Limits()), 1))
        return settler.pending, settler.dropped

    assert asyncio.run(run()) == (10, 15)
