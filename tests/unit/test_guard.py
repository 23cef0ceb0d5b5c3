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
from hypothesis import given
from hypothesis import strategies as st

from service.quota.calendar import Windows, windows_at
from service.quota.guard import Guard, Refusing
from service.quota.limits import UNLIMITED, Limits
from service.quota.memory import MemoryStore
from service.quota.reservation import Level, Outcome, Reservation, Scope, Settled
from service.quota.settler import Settler
from service.quota.store import Beat, StoreFailed, StoreSlow, StoreUnavailable, Used
from service.settings import OnStoreLoss, QuotaSettings
from tests import virtual_time

WINDOWS = windows_at(datetime(2026, 8, 22, 12, tzinfo=UTC), "UTC")
LEASE = 60.0


class Failing:
    """A store that can be taken away, whole or in part: before it does what it is asked, or after.

    `failure` is what it then says. Of several places, a team's is the part of its name before `/`.
    """

    def __init__(self, gateways: int = 1, places: bool = False) -> None:
        self.kept = MemoryStore(LEASE)
        self.up = True
        self.away: set[str] = set()
        self.loses_answers = False
        self.failure = StoreUnavailable
        self.gateways = gateways
        self.places = places
        self.number = 1
        self.asked = 0
        self.renewed: list[tuple[str, ...]] = []

    def place(self, team: str = "") -> str:
        return team.partition("/")[0] if self.places else ""

    async def reserve(self, reservation: Reservation) -> Outcome:
        self._check(reservation.team)
        outcome = await self.kept.reserve(reservation)
        self._lose()
        return outcome

    async def settle(self, settled: Settled) -> None:
        self._check(settled.reservation.team)
        await self.kept.settle(settled)
        self._lose()

    async def renew(self, open: Mapping[str, Iterable[str]]) -> None:
        for team, ids in open.items():
            self._check(team)
            self.renewed.append(tuple(ids))
        await self.kept.renew(open)

    async def beat(self, gateway: str, restored: bool = False) -> Beat:
        self._check("")
        if self.number or restored:
            self.number += 1
        return Beat(self.gateways, self.number)

    async def restore(self, team: str, used: Used) -> None:
        self._check(team)
        await self.kept.restore(team, used)

    async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
        return await self.kept.expired(told)

    async def levels(
        self, team: str, scopes: tuple[Scope, ...], windows: Windows
    ) -> tuple[Level, ...]:
        self._check(team)
        return await self.kept.levels(team, scopes, windows)

    async def close(self) -> None:
        pass

    def _check(self, team: str) -> None:
        self.asked += 1
        if not self.up or self.place(team) in self.away:
            raise self.failure

    def _lose(self) -> None:
        if self.loses_answers:
            raise self.failure


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def reservation(
    id: str, limits: Limits = UNLIMITED, tokens: int = 10, team: str = "search"
) -> Reservation:
    return Reservation(id, team, (Scope("team", limits),), WINDOWS, tokens, 0)


async def admitted(guard: Guard, limits: Limits, tries: int, tokens: int = 10) -> int:
    outcomes = [await guard.reserve(reservation(f"r{n}", limits, tokens)) for n in range(tries)]
    return sum(outcome.granted for outcome in outcomes)


async def back(guard: Guard) -> None:
    for _ in range(3):
        await guard.probe()


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
            await guard.renew({})
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
        await back(guard)
        assert not guard.degraded
        assert (await guard.reserve(replace(asked, id="d"))).narrowed is None

    asyncio.run(outage())


steps = st.lists(
    st.sampled_from(["reserve", "settle", "cut", "lose", "lose answers", "return", "beat"]),
    min_size=1,
    max_size=40,
)


@given(steps, st.integers(1, 60))
def test_whatever_fails_when_all_that_was_used_is_charged_once_in_the_end(
    steps: list[str], used: int
) -> None:
    async def run() -> None:
        store = Failing()
        guard = Guard(store, QuotaSettings(), "g")
        settler = Settler(guard, LEASE, lambda _: None, retry=0.001)
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
        settler = Settler(store, LEASE, lambda _: None, max_pending=10)
        for number in range(25):
            settler.put(Settled(reservation(str(number), Limits()), 1))
        return settler.pending, settler.dropped

    assert asyncio.run(run()) == (10, 15)


def test_an_error_of_one_call_is_that_calls_alone_and_its_settlement_is_not_repeated() -> None:
    async def run() -> None:
        store = Failing()
        guard = Guard(store, QuotaSettings(), "g")
        settler = Settler(guard, LEASE, lambda _: None, retry=0.001)
        store.failure, store.up = StoreFailed, False
        with pytest.raises(StoreFailed):
            await guard.reserve(reservation("a"))
        working = asyncio.ensure_future(settler.run())
        settler.put(Settled(reservation("a"), 1))
        assert await settler.finish(5) == 0
        working.cancel()
        assert settler.dropped == 1
        assert not guard.degraded

    asyncio.run(run())


def test_a_call_that_alone_was_too_slow_is_decided_here_and_ended_in_the_store() -> None:
    async def run() -> None:
        store, limits = Failing(), Limits(concurrency=3)
        guard = Guard(store, QuotaSettings(gateways=3), "g")
        store.failure, store.loses_answers = StoreSlow, True
        outcomes = [await guard.reserve(reservation(id, limits)) for id in "abc"]
        assert [outcome.granted for outcome in outcomes] == [True, False, False]
        store.loses_answers = False
        await guard.probe()
        assert not guard.degraded
        (level,) = await guard.levels("search", (Scope("team", limits),), WINDOWS)
        assert level.open == 1  # not those that were refused here

    asyncio.run(run())


def test_a_gateway_that_never_reached_the_store_goes_by_the_number_that_is_set() -> None:
    async def run() -> int:
        store = Failing()
        store.up = False
        guard = Guard(store, QuotaSettings(gateways=4), "g")
        await guard.begin()
        return await admitted(guard, Limits(rpm=10), 20)

    assert asyncio.run(run()) == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["beat", "lose"]), st.integers(1, 9), st.integers(1, 30)),
        max_size=40,
    ),
    st.integers(1, 5),
)
def test_fewer_gateways_count_only_after_a_lease_of_beats_without_a_loss(
    steps: list[tuple[str, int, int]], least: int
) -> None:
    async def run() -> None:
        store, clock = Failing(), Clock()
        guard = Guard(store, QuotaSettings(gateways=least, lease=LEASE), "g", clock)
        counts: list[tuple[float, int]] = []  # since the last loss
        for what, gateways, seconds in steps:
            clock.now += seconds
            before = guard.gateways
            if what == "beat":
                store.gateways = gateways
                await guard.renew({})
                counts.append((clock.now, gateways))
            else:
                store.up = False
                await guard.levels("search", (), WINDOWS)
                store.up = True
                await guard.probe()  # counted, too
                counts = [(clock.now, store.gateways)]
            assert guard.gateways >= max(least, counts[-1][1])
            if guard.gateways < before:
                assert what == "beat"
                lease = [number for at, number in counts if at >= clock.now - LEASE]
                assert counts[0][0] <= clock.now - LEASE
                assert guard.gateways >= max(lease)

    asyncio.run(run())


def test_after_an_outage_leases_are_renewed_before_anything_is_asked_of_the_store() -> None:
    async def run() -> None:
        store, clock = Failing(), Clock()
        guard = Guard(store, QuotaSettings(lease=LEASE), "g", clock)
        store.up = False
        await guard.reserve(reservation("a", Limits(rpm=9)))
        clock.now += LEASE + 1
        store.up = True
        for _ in range(2):
            await guard.probe(lambda: {"search": ["a"]})
            assert store.renewed.pop() == ("a",)
            assert guard.degraded  # the others may still have to renew theirs
        await guard.probe(lambda: {"search": ["a"]})
        assert not guard.degraded

    asyncio.run(run())


def test_what_is_lost_in_part_is_missed_in_part_and_for_a_bounded_time() -> None:
    async def run() -> None:
        store, clock, limits = Failing(places=True), Clock(), Limits(rpm=100)
        guard = Guard(store, QuotaSettings(degraded_limit=900), "g", clock)
        settler = Settler(guard, LEASE, lambda _: None, retry=0.001)
        working = asyncio.ensure_future(settler.run())
        store.away = {"2"}
        for number in range(4):
            lost = await guard.reserve(reservation(f"l{number}", limits, team="2/a"))
            kept = await guard.reserve(reservation(f"k{number}", limits, team="1/b"))
            assert (lost.narrowed is None, kept.narrowed) == (False, None)
            await back(guard)
            assert guard.degraded
        clock.now += 901
        with pytest.raises(Refusing):
            await guard.reserve(reservation("late", limits, team="2/a"))
        assert (await guard.reserve(reservation("on", limits, team="1/b"))).granted
        for team, id in (("2/a", "l0"), ("1/b", "k0"), ("2/a", "l1"), ("1/b", "k1")):
            settler.put(Settled(reservation(id, limits, team=team), 1))
        for _ in range(200):
            await asyncio.sleep(0.001)
        assert settler.pending == 2  # none of the other place waits behind them
        assert guard.losses == 1
        store.away = set()
        await back(guard)
        assert await settler.finish(5) == 0
        working.cancel()

    asyncio.run(run())


def test_a_place_that_is_back_later_lets_nothing_wait_that_is_behind_others() -> None:
    async def run() -> None:
        store = Failing(places=True)
        settler = Settler(store, LEASE, lambda _: None, retry=0.001)
        store.up = False
        working = asyncio.ensure_future(settler.run())
        for number in range(5):
            settler.put(Settled(reservation(f"a{number}", team="1/a"), 1))
            settler.put(Settled(reservation(f"b{number}", team="2/b"), 1))
        await asyncio.sleep(0.01)
        store.up, store.away = True, {"2"}
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert settler.pending == 5
        working.cancel()

    asyncio.run(run())


def test_a_store_20_ms_away_takes_a_thousand_settlements_a_second() -> None:
    class Far(Failing):
        async def settle(self, settled: Settled) -> None:
            await asyncio.sleep(0.02)

    async def run() -> int:
        settler = Settler(Far(), LEASE, lambda _: None)
        working = asyncio.ensure_future(settler.run())
        for number in range(2_000):
            settler.put(Settled(reservation(str(number)), 1))
        left = await settler.finish(2)
        working.cancel()
        return left

    assert virtual_time.run(run()) == 0


DAY, MONTH = WINDOWS.day.label, WINDOWS.month.label


@pytest.mark.parametrize("number", [0, 1], ids=["new", "an old copy"])
def test_a_store_that_has_forgotten_is_told_what_the_ledger_knew_before_it_was_lost(
    number: int,
) -> None:
    async def run() -> None:
        store, ledger = Failing(), {"search": {DAY: {"team": 500}, MONTH: {"team": 900}}}

        async def spent() -> Mapping[str, Used]:
            return {team: dict(used) for team, used in ledger.items()}

        guard = Guard(store, QuotaSettings(), "g", spent=spent)
        await guard.begin()
        assert guard.restored == 0
        store.up = False
        outcome = await guard.reserve(reservation("a", Limits(daily_tokens=1_000)))
        assert outcome.granted
        await guard.probe()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # What is used meanwhile is in the ledger at once, and in the store when it is settled.
        ledger["search"] = {DAY: {"team": 510}, MONTH: {"team": 910}}
        store.kept, store.number, store.up = MemoryStore(LEASE), number, True
        await guard.probe()
        assert not guard.degraded
        await guard.settle(Settled(reservation("a"), 10))
        (level,) = await guard.levels("search", (Scope("team", Limits()),), WINDOWS)
        assert (level.day_used, level.month_used) == (510, 910)
        await guard.renew({})
        assert guard.restored == 1

    asyncio.run(run())


def test_a_store_that_was_emptied_meanwhile_is_told_at_the_next_beat() -> None:
    async def run() -> None:
        store, failing = Failing(), True

        async def spent() -> Mapping[str, Used]:
            if failing:
                raise OSError
            return {"search": {DAY: {"team": 500}}}

        guard = Guard(store, QuotaSettings(), "g", spent=spent)
        await guard.begin()
        store.number = 0
        await guard.renew({})  # the ledger is away as well
        failing = False
        await guard.renew({})
        await guard.renew({})
        (level,) = await guard.levels("search", (Scope("team", Limits()),), WINDOWS)
        assert (level.day_used, guard.restored) == (500, 1)

    asyncio.run(run())


def test_what_expired_is_told_until_it_was_written_down_and_no_mistake_ends_that() -> None:
    class Losing(Failing):
        calls = 0

        async def expired(self, told: Iterable[Reservation]) -> tuple[Reservation, ...]:
            self.calls += 1
            if self.calls % 2:
                raise StoreUnavailable if self.calls % 3 else OSError
            return await super().expired(told)

    async def run() -> list[str]:
        store, seen = Losing(), []

        def note(reservation: Reservation) -> None:
            seen.append(reservation.id)
            raise LookupError

        now = 0
        store.kept = MemoryStore(LEASE, lambda: now)
        await store.kept.reserve(reservation("a"))
        now = int(LEASE * 1_000_000) + 1
        await store.kept.reserve(reservation("b"))
        settler = Settler(store, LEASE, note, retry=0.001)
        working = asyncio.ensure_future(settler.run())
        for _ in range(200):
            await asyncio.sleep(0.001)
        assert not working.done()
        assert await store.kept.expired(()) == ()
        working.cancel()
        return seen

    assert set(asyncio.run(run())) == {"a"}
