"""What holds for the counters of a team, whatever happens in whatever order."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.quota.bucket import MINUTE
from service.quota.calendar import Window, Windows
from service.quota.counters import SECOND, SWEEP, TeamCounters
from service.quota.decision import tightest
from service.quota.limits import UNLIMITED, Limits
from service.quota.reservation import Level, Reservation, Scope, Settled

START = 1_700_000_000 * SECOND
LEASE = 60 * SECOND
FOREVER = 10**18
WINDOWS = (
    Windows(Window("2026-08-22", 1_000), Window("2026-08", 2_000)),
    Windows(Window("2026-08-23", 1_500), Window("2026-08", 2_000)),
    Windows(Window("2026-09-01", 3_000), Window("2026-09", 4_000)),
)
NAMES = ("team", "key:k1", "model:m1")

limit = st.none() | st.integers(1, 2_000)
limits = st.builds(
    Limits,
    rpm=st.none() | st.integers(1, 30),
    tpm=limit,
    concurrency=st.none() | st.integers(1, 5),
    daily_tokens=limit,
    monthly_tokens=limit,
)
steps = st.one_of(
    st.integers(0, 1_000),
    st.integers(0, 90 * SECOND),
    st.integers(-90 * SECOND, 0),
    st.just(3_600 * SECOND),
)


def reservation(
    id: str = "a",
    limits: Limits = UNLIMITED,
    tokens: int = 100,
    windows: Windows = WINDOWS[0],
    names: tuple[str, ...] = ("team",),
) -> Reservation:
    scopes = tuple(Scope(name, limits) for name in names)
    return Reservation(id, "t", scopes, windows, tokens // 2, tokens - tokens // 2)


def level(counters: TeamCounters, of: Reservation, now: int = START) -> Level:
    return counters.levels(of.scopes, of.windows, now)[0]


@dataclass
class _Known:
    reservation: Reservation
    state: str
    charged: int


class AnyOrder(RuleBasedStateMachine):
    """Reserve, settle, renew, expire and clock steps, against a plain list of what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.counters = TeamCounters(memory=FOREVER)
        self.now = START
        self.known: dict[str, _Known] = {}
        self.leases: dict[str, int] = {}

    @rule(step=steps)
    def clock(self, step: int) -> None:
        self.now += step

    @rule(
        id=st.integers(0, 30),
        names=st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
        limits=limits,
        windows=st.sampled_from(WINDOWS),
        prompt=st.integers(0, 500),
        output=st.integers(0, 500),
    )
    def reserve(
        self,
        id: int,
        names: list[str],
        limits: Limits,
        windows: Windows,
        prompt: int,
        output: int,
    ) -> None:
        scopes = tuple(Scope(name, limits) for name in names)
        asked = Reservation(str(id), "t", scopes, windows, prompt, output)
        before = self.counters.levels(scopes, windows, self.now)
        granted, levels = self.counters.reserve(asked, self.now, LEASE)
        if str(id) in self.known:
            assert not granted
        elif not granted:
            assert tightest(asked, before, 0.0) is not None
        if not granted:
            assert levels == before == self.counters.levels(scopes, windows, self.now)
            return
        assert tightest(asked, before, 0.0) is None
        for one in levels:
            budget = one.day_used + one.day_reserved
            assert limits.daily_tokens is None or budget <= limits.daily_tokens
            budget = one.month_used + one.month_reserved
            assert limits.monthly_tokens is None or budget <= limits.monthly_tokens
            assert limits.concurrency is None or one.open <= limits.concurrency
            assert limits.tpm is None or one.tokens <= limits.tpm
            assert limits.rpm is None or one.requests <= limits.rpm
        self.known[str(id)] = _Known(asked, "open", 0)
        self.leases[str(id)] = self.now + LEASE

    @rule(id=st.integers(0, 30), tokens=st.integers(0, 1_500), requests=st.integers(0, 1))
    def settle(self, id: int, tokens: int, requests: int) -> None:
        known = self.known.get(str(id))
        of = known.reservation if known else reservation(str(id), tokens=0, names=NAMES[:2])
        self.counters.settle(Settled(of, tokens, requests), self.now)
        if known is None or known.state != "settled":
            self.known[str(id)] = _Known(of, "settled", tokens)
        self.leases.pop(str(id), None)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.known)), unique=True))
        self.counters.renew([*ids, "unknown"], self.now, LEASE)
        self.leases.update({id: self.now + LEASE for id in ids if id in self.leases})

    @rule()
    def expire(self) -> None:
        expired = {one.id for one in self.counters.expire(self.now)}
        due = {id for id, end in self.leases.items() if end <= self.now}
        assert expired == due
        for id in due:
            del self.leases[id]
            known = self.known[id]
            known.state, known.charged = "expired", known.reservation.tokens

    @invariant()
    def tokens_are_conserved_and_concurrency_counts_what_is_open(self) -> None:
        for name in NAMES:
            own = [k for k in self.known.values() if name in [s.name for s in k.reservation.scopes]]
            for windows in WINDOWS:
                scope = Scope(name, UNLIMITED)
                (found,) = self.counters.levels([scope], windows, self.now)
                day = [k for k in own if k.reservation.windows.day == windows.day]
                month = [k for k in own if k.reservation.windows.month == windows.month]
                assert found.open == sum(k.state == "open" for k in own)
                assert (found.day_used, found.day_reserved) == _spent(day)
                assert (found.month_used, found.month_reserved) == _spent(month)


def _spent(known: list[_Known]) -> tuple[int, int]:
    used = sum(k.charged for k in known)
    return used, sum(k.reservation.tokens for k in known if k.state == "open")


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40)

operations = st.lists(
    st.tuples(
        st.integers(0, 20 * SECOND),  # time before it
        st.integers(1, 100),  # estimate
        st.integers(0, 150),  # used
        st.integers(0, 40 * SECOND),  # how long it takes
        st.integers(0, 1),  # whether the request counts
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(operations, st.integers(100, 400), st.integers(1, 20), st.booleans())
def test_no_interval_admits_more_than_a_burst_and_what_refills_in_it(
    operations: list[tuple[int, int, int, int, int]], tpm: int, rpm: int, clock_goes_back: bool
) -> None:
    counters, bounds = TeamCounters(memory=FOREVER), Limits(rpm=rpm, tpm=tpm)
    admitted: list[tuple[int, int, int]] = []  # when, tokens, requests: as known in the end
    ending: list[tuple[int, Settled]] = []
    now = offset = 0
    for index, (wait, estimate, used, duration, requests) in enumerate(operations):
        now += wait
        if clock_goes_back and index % 7 == 3:
            offset -= 90 * SECOND  # the counters' clock; `now` is the time that really passed
        for end, settled in sorted(ending, key=lambda one: one[0]):
            if end <= now:
                counters.settle(settled, START + offset + now)
        ending = [one for one in ending if one[0] > now]
        asked = reservation(str(index), bounds, estimate)
        granted, _ = counters.reserve(asked, START + offset + now, FOREVER)
        if granted:
            ending.append((now + duration, Settled(asked, used, requests)))
            # More than the estimate is a debt, which was not admitted but is waited for later.
            admitted.append((now, min(used, estimate), requests))
    for first, (begin, _, _) in enumerate(admitted):
        tokens = count = 0
        for end, used, requests in admitted[first:]:
            tokens, count = tokens + used, count + requests
            assert tokens <= tpm + tpm * (end - begin) / MINUTE
            assert count <= rpm + rpm * (end - begin) / MINUTE


def test_a_request_that_was_cut_short_gives_back_what_it_did_not_use() -> None:
    counters, asked = TeamCounters(), reservation(limits=Limits(tpm=1000, rpm=10), tokens=1000)
    counters.reserve(asked, START, LEASE)
    counters.settle(Settled(asked, 10), START)
    assert level(counters, asked) == Level(1, 10, 0, 10, 0, 10, 0)


def test_requests_that_overlap_each_give_back_what_they_did_not_use() -> None:
    counters, bounds = TeamCounters(), Limits(tpm=100_000)
    many = [reservation(str(index), bounds, 1000) for index in range(50)]
    for one in many:
        assert counters.reserve(one, START, LEASE)[0]
    for one in reversed(many):
        counters.settle(Settled(one, 10), START)
    assert level(counters, many[0]).tokens == 500


def test_a_request_that_no_engine_worked_on_does_not_count() -> None:
    counters, asked = TeamCounters(), reservation(limits=Limits(tpm=1000, rpm=10))
    counters.reserve(asked, START, LEASE)
    counters.settle(Settled(asked, 0, requests=0), START)
    assert level(counters, asked) == Level()


def test_what_was_used_beyond_the_estimate_is_a_debt_that_drains_first() -> None:
    counters, bounds = TeamCounters(), Limits(tpm=600)
    first = reservation("1", bounds, 100)
    counters.reserve(first, START, LEASE)
    counters.settle(Settled(first, 1200), START)
    assert level(counters, first).tokens == 1200
    assert not counters.reserve(reservation("2", bounds, 1), START + 60 * SECOND, LEASE)[0]
    assert counters.reserve(reservation("3", bounds, 1), START + 61 * SECOND, LEASE)[0]


def test_a_second_settlement_does_nothing() -> None:
    counters, asked = TeamCounters(), reservation()
    counters.reserve(asked, START, LEASE)
    for tokens in (10, 10, 70):
        counters.settle(Settled(asked, tokens), START)
    assert level(counters, asked).day_used == 10


def test_a_settlement_after_the_lease_ran_out_corrects_the_charge() -> None:
    counters, asked = TeamCounters(), reservation(tokens=100)
    counters.reserve(asked, START, LEASE)
    assert counters.expire(START + LEASE) == [asked]
    assert level(counters, asked) == Level(day_used=100, month_used=100)
    counters.settle(Settled(asked, 30), START + LEASE)
    assert level(counters, asked) == Level(day_used=30, month_used=30)


def test_what_was_granted_elsewhere_is_charged_once_and_not_granted_after_that() -> None:
    counters, asked = TeamCounters(), reservation(limits=Limits(tpm=1000))
    counters.settle(Settled(asked, 30), START)
    assert level(counters, asked) == Level(tokens=30, day_used=30, month_used=30)
    assert not counters.reserve(asked, START, LEASE)[0]


def test_settled_days_later_it_is_charged_to_the_day_it_was_made_in() -> None:
    counters, asked = TeamCounters(), reservation(windows=WINDOWS[0])
    counters.reserve(asked, START, LEASE)
    counters.settle(Settled(asked, 30), START + 86_400 * SECOND)
    assert level(counters, asked).day_used == 30
    assert level(counters, reservation(windows=WINDOWS[1])).day_used == 0


def test_one_call_charges_a_bounded_number_of_unattended_reservations() -> None:
    counters = TeamCounters()
    for index in range(SWEEP + 5):
        counters.reserve(reservation(str(index)), START, LEASE)
    assert len(counters.expire(START + LEASE)) == SWEEP
    assert len(counters.expire(START + LEASE)) == 5


def test_an_id_is_forgotten_in_the_end() -> None:
    counters, asked = TeamCounters(memory=SECOND), reservation()
    counters.reserve(asked, START, LEASE)
    counters.settle(Settled(asked, 30), START)
    counters.expire(START + SECOND)
    assert counters.reserve(asked, START + SECOND, LEASE)[0]


@given(st.lists(st.integers(0, 1_000), min_size=2, max_size=20))
def test_looking_changes_nothing(times: list[int]) -> None:
    asked = reservation(limits=Limits(tpm=7_000_000, rpm=900_000), tokens=5_000)
    seen, unseen = TeamCounters(), TeamCounters()
    for counters in (seen, unseen):
        counters.reserve(asked, START, LEASE)
    for earlier, later in pairwise(sorted(times)):
        level(seen, asked, START + earlier)
        assert level(seen, asked, START + later) == level(unseen, asked, START + later)
