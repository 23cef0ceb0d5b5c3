"""A replica gets requests when it is well, few when it may be, and none when it is not."""

import copy
import math
from dataclasses import dataclass

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from service.routing.health import LEAST_SHARE, UNASKED, Health, State
from service.routing.stall import BELIEVED
from service.settings import HealthSettings

SETTINGS = HealthSettings(
    interval=5,
    timeout=5,
    failures=3,
    ejection=2,
    max_ejection=60,
    slow_start=20,
    stall=60,
)
JITTER = 0.25
REFUSED = "connect refused"


def up(now: float = 0.0, *, jitter: float = 0.0, settings: HealthSettings = SETTINGS) -> Health:
    """A replica that has its full share."""
    return Health(settings, now, jitter=lambda: jitter, known_good=True)


def fail(health: Health, now: float, times: int = 1) -> None:
    for _ in range(times):
        health.failed(now, health.began(now), "502 from the engine")


def serve(health: Health, now: float) -> None:
    health.succeeded(now, health.began(now))


def eject(health: Health, now: float) -> float:
    """Returns when it is over."""
    health.failed(now, health.began(now), REFUSED, unreachable=True)
    assert health.state(now) is State.EJECTED
    later = now
    while health.state(later) is State.EJECTED:
        later += 0.5
    return later


def check(health: Health, now: float, error: str | None, times: int = 1) -> None:
    for _ in range(times):
        health.checked(now, error)


def hang(health: Health, now: float) -> float:
    """An engine that stops in the middle of its work, read every 5 s. Returns when it shows."""
    for step in range(100):
        health.checked(now + 5 * step, None)
        health.progressed(now + 5 * step, running=4, progress=1000)
        if health.state(now + 5 * step) is State.STALLED:
            return now + 5 * step
    raise AssertionError("it never showed")


# --- requests that fail


def test_failures_in_a_row_take_it_out_and_one_that_succeeds_begins_the_row_anew() -> None:
    health = up()
    fail(health, 0, times=2)
    serve(health, 1)
    fail(health, 2, times=2)
    assert health.admits(2)
    fail(health, 3)
    assert health.state(3) is State.EJECTED
    assert not health.admits(3)
    assert health.reason == "3 requests in a row failed: 502 from the engine; out for 2.0 s"


def test_a_refused_connection_takes_it_out_at_once() -> None:
    health = up()
    health.failed(0, health.began(0), REFUSED, unreachable=True)
    assert health.state(0) is State.EJECTED
    assert health.reason == "unreachable: connect refused; out for 2.0 s"


def test_a_client_that_leaves_or_asks_for_nonsense_says_nothing_of_the_engine() -> None:
    health = up()
    fail(health, 0, times=2)
    health.abandoned(0, health.began(0))
    assert health.state(0) is State.UP
    fail(health, 0)
    assert health.state(0) is State.EJECTED


def test_fifty_streams_that_die_with_their_engine_are_one_ejection() -> None:
    health = up()
    marks = [health.began(0) for _ in range(50)]
    for mark in marks:
        health.failed(10, mark, "cut", unreachable=True)
    assert health.ejections == 1
    assert health.state(12) is State.TRIAL
    assert health.last_error == "cut"


def test_the_last_words_of_an_engine_do_not_count_against_the_next_one() -> None:
    health = up()
    marks = [health.began(0) for _ in range(50)]
    over = eject(health, 10)
    serve(health, over)
    for mark in marks:
        health.failed(over + 1, mark, "silent for 120 s", unreachable=True)
    assert health.state(over + 1) is State.UP
    assert health.ejections == 1


def test_after_a_restart_that_nobody_else_saw_old_failures_are_the_old_engines() -> None:
    health = up()
    health.progressed(0, running=5, progress=9000)
    marks = [health.began(0) for _ in range(5)]
    health.progressed(5, running=0, progress=10)
    for mark in marks:
        health.failed(6, mark, "cut")
    assert health.state(6) is State.UP
    assert health.share(5) == LEAST_SHARE  # its caches are empty


def test_when_its_time_is_over_one_request_decides() -> None:
    health = up()
    over = eject(health, 0)
    assert health.state(over) is State.TRIAL
    trial = health.began(over)
    assert not health.admits(over)
    health.succeeded(over + 0.3, trial)
    assert health.state(over + 0.3) is State.UP
    assert health.admits(over + 0.3)
    assert health.reason == ""


def test_a_trial_that_fails_takes_it_out_again_for_twice_as_long() -> None:
    health, now = up(), 0.0
    lengths = [eject(health, now)]
    for _ in range(7):
        now += lengths[-1]
        lengths.append(eject(health, now) - now)
    assert lengths == [2, 4, 8, 16, 32, 60, 60, 60]
    assert health.reason == "failed on trial: connect refused; out for 60.0 s"


def test_a_trial_that_tells_nothing_lets_the_next_one_go() -> None:
    health = up()
    over = eject(health, 0)
    health.abandoned(over + 1, health.began(over))
    assert health.state(over + 1) is State.TRIAL
    assert health.admits(over + 1)


def test_a_trial_that_takes_minutes_does_not_keep_others_from_trying() -> None:
    health = up()
    over = eject(health, 0)
    slow = health.began(over)
    assert not health.admits(over + SETTINGS.stall - 1)
    assert health.admits(over + SETTINGS.stall)
    health.began(over + SETTINGS.stall)
    assert not health.admits(over + SETTINGS.stall)
    health.succeeded(over + 300, slow)
    assert health.state(over + 300) is State.UP


def test_a_trial_that_was_given_up_does_not_free_the_place_of_the_next() -> None:
    health = up()
    over = eject(health, 0)
    slow = health.began(over)
    health.began(over + SETTINGS.stall)
    health.abandoned(over + SETTINGS.stall + 1, slow)
    assert not health.admits(over + SETTINGS.stall + 1)


def test_gateways_do_not_come_back_all_at_once() -> None:
    health = up(jitter=0.25)
    health.failed(0, health.began(0), REFUSED, unreachable=True)
    assert health.state(2.4) is State.EJECTED
    assert health.state(2.5) is State.TRIAL


def test_a_long_good_time_is_forgiving() -> None:
    health, over = up(), 0.0
    for _ in range(5):
        over = eject(health, over)
    serve(health, over)
    assert eject(copy.deepcopy(health), over) - over == 60
    later = over + 2 * SETTINGS.max_ejection
    assert eject(copy.deepcopy(health), later) - later == 16
    later = over + 3600
    assert eject(health, later) - later == 2


def test_a_good_time_before_it_went_down_is_not_lost() -> None:
    health, over = up(), 0.0
    for _ in range(5):
        over = eject(health, over)
    serve(health, over)
    check(health, over + 3600, REFUSED, times=3)
    check(health, over + 3700, None)
    assert eject(health, over + 3700) - (over + 3700) == 2


def test_a_good_time_before_it_stalled_is_not_lost() -> None:
    health, over = up(), 0.0
    for _ in range(5):
        over = eject(health, over)
    serve(health, over)
    shown = hang(health, over + 3600)
    health.progressed(shown + 5, running=0, progress=1000)
    assert eject(health, shown + 5) - (shown + 5) == 2


def test_a_good_time_before_it_restarted_is_not_lost() -> None:
    health, over = up(), 0.0
    health.progressed(0, running=0, progress=1000)
    for _ in range(5):
        over = eject(health, over)
    serve(health, over)
    health.progressed(over + 3600, running=0, progress=0)
    assert eject(health, over + 3600) - (over + 3600) == 2


def test_a_request_that_it_did_not_admit_decides_nothing() -> None:
    health = up()
    over = eject(health, 0)
    mark = health.began(1)
    assert mark == UNASKED
    health.succeeded(1.5, mark)
    assert health.state(1.5) is State.EJECTED
    health.failed(over, mark, "cut", unreachable=True)
    assert health.ejections == 1


# --- checks


def test_checks_that_fail_in_a_row_take_it_down_and_a_good_one_brings_it_back() -> None:
    health = up()
    check(health, 0, REFUSED, times=2)
    check(health, 5, None)
    check(health, 10, REFUSED, times=2)
    assert health.state(10) is State.UP
    check(health, 15, REFUSED)
    assert health.state(15) is State.DOWN
    assert not health.admits(15)
    assert health.reason == "3 checks in a row failed: connect refused"
    check(health, 20, None)
    assert health.state(20) is State.UP
    assert health.reason == ""
    assert health.share(20) == LEAST_SHARE


def test_what_was_sent_before_it_went_down_does_not_eject_it_when_it_is_back() -> None:
    health = up()
    marks = [health.began(0) for _ in range(50)]
    check(health, 15, REFUSED, times=3)
    check(health, 20, None)
    for mark in marks:
        health.failed(21, mark, "cut", unreachable=True)
    assert health.state(21) is State.UP
    assert health.ejections == 0


def test_failures_before_it_went_down_are_not_of_the_row_after_it() -> None:
    health = up()
    fail(health, 0, times=2)
    check(health, 15, REFUSED, times=3)
    check(health, 20, None)
    fail(health, 21)
    assert health.state(21) is State.UP


def test_a_good_check_does_not_end_an_ejection() -> None:
    health = up()
    over = eject(health, 0)
    check(health, over - 1, None)
    assert health.state(over - 1) is State.EJECTED
    check(health, over, None)
    assert health.state(over) is State.TRIAL


def test_one_that_was_ejected_before_it_went_down_is_back_on_trial() -> None:
    health = up()
    over = eject(health, 0)
    check(health, 1, REFUSED, times=3)
    assert health.state(over) is State.DOWN
    check(health, 100, None)
    assert health.state(100) is State.TRIAL
    assert health.admits(100)


def test_going_down_frees_the_place_of_a_trial() -> None:
    health = up()
    over = eject(health, 0)
    trial = health.began(over)
    check(health, over, REFUSED, times=3)
    check(health, over + 5, None)
    assert health.admits(over + 5)
    health.failed(over + 6, trial, "cut", unreachable=True)
    assert health.state(over + 6) is State.TRIAL


def test_good_checks_end_a_trial_that_nobody_comes_for() -> None:
    health = up()
    over = eject(health, 0)
    check(health, over + SETTINGS.max_ejection - 1, None)
    assert health.state(over + SETTINGS.max_ejection - 1) is State.TRIAL
    check(health, over + SETTINGS.max_ejection, None)
    assert health.state(over + SETTINGS.max_ejection) is State.UP


def test_good_checks_do_not_end_a_trial_that_hangs() -> None:
    health = up()
    over = eject(health, 0)
    health.began(over)
    for second in range(0, 600, 5):
        check(health, over + second, None)
        assert health.state(over + second) is State.TRIAL


# --- counters


def test_an_engine_that_hangs_is_stalled_although_its_health_is_good() -> None:
    health = up()
    shown = hang(health, 0)
    assert SETTINGS.stall < shown <= SETTINGS.stall + 2 * SETTINGS.interval
    assert not health.admits(shown)
    assert health.reason == "stalled: no token in 65 s with 4 running"
    health.progressed(shown + 5, running=4, progress=1001)
    assert health.state(shown + 5) is State.UP
    assert health.share(shown + 5) == LEAST_SHARE


def test_the_clock_of_a_stall_starts_when_a_request_runs() -> None:
    health = up()
    for minute in range(60):
        health.progressed(minute * 60, running=0, progress=1000)
        assert health.state(minute * 60) is State.UP
    assert hang(health, 3600) > 3600 + SETTINGS.stall


def test_an_idle_engine_is_not_stalled_whatever_it_was() -> None:
    health = up()
    shown = hang(health, 0)
    health.progressed(shown + 5, running=0, progress=1000)
    assert health.state(shown + 5) is State.UP


def test_an_engine_that_was_restarted_is_not_stalled() -> None:
    health = up()
    shown = hang(health, 0)
    health.progressed(shown + 5, running=1, progress=3)
    assert health.state(shown + 5) is State.UP


def test_counters_that_cannot_be_read_are_no_stall() -> None:
    health = up()
    health.progressed(0, running=4, progress=1000)
    check(health, 1000, None)
    assert health.state(1000) is State.UP
    # Whether requests ended meanwhile and others began, nobody saw.
    health.progressed(1000, running=4, progress=1000)
    assert health.state(1000) is State.UP


def test_counters_that_are_read_once_a_minute_show_a_stall_too() -> None:
    health = up()
    for minute in range(4):
        health.progressed(minute * 60, running=4, progress=1000)
    assert health.state(180) is State.STALLED


def test_a_stall_that_cannot_be_seen_any_more_goes_on_trial() -> None:
    health = up()
    shown = hang(health, 0)
    later = shown + BELIEVED * SETTINGS.stall
    check(health, later, None)
    assert health.state(later) is State.STALLED
    check(health, later + 5, None)
    assert health.state(later + 5) is State.TRIAL
    assert "cannot be read" in health.reason
    serve(health, later + 6)
    assert health.state(later + 6) is State.UP
    assert health.ejections == 0


def test_a_stall_that_went_on_trial_must_be_seen_anew() -> None:
    health = up()
    shown = hang(health, 0)
    later = shown + BELIEVED * SETTINGS.stall + 5
    check(health, later, None)
    health.progressed(later + 5, running=4, progress=1000)
    assert health.state(later + 5) is State.TRIAL
    assert hang(health, later + 10) > later + SETTINGS.stall


def test_a_stall_that_cannot_be_seen_any_more_ends_no_ejection() -> None:
    longer = SETTINGS.model_copy(update={"ejection": 900.0, "max_ejection": 900.0})
    health = up(settings=longer)
    assert eject(copy.deepcopy(health), 0) == 900
    health.failed(0, health.began(0), REFUSED, unreachable=True)
    later = hang(health, 0) + BELIEVED * SETTINGS.stall + 5
    check(health, later, None)
    assert health.state(later) is State.EJECTED
    assert health.state(900) is State.TRIAL


def test_requests_that_hung_do_not_eject_the_engine_that_moves_again() -> None:
    health = up()
    marks = [health.began(0) for _ in range(4)]
    shown = hang(health, 0)
    for mark in marks[:2]:
        health.failed(shown + 1, mark, "silent for 120 s", unreachable=True)
    health.progressed(shown + 5, running=4, progress=1001)
    for mark in marks[2:]:
        health.failed(shown + 6, mark, "silent for 120 s", unreachable=True)
    assert health.state(shown + 6) is State.UP


# --- shares


def test_a_new_replica_starts_slowly() -> None:
    health = Health(SETTINGS, 100, jitter=lambda: 0)
    assert health.admits(100)
    shares = [health.share(100 + second) for second in (0, 5, 10, 20, 30)]
    assert shares == pytest.approx([0.1, 0.325, 0.55, 1, 1])


def test_one_that_is_known_to_be_good_has_its_share_at_once() -> None:
    assert up(100).share(100) == 1


def test_an_error_is_one_line_however_the_engine_puts_it() -> None:
    health = up()
    check(health, 0, "Traceback:\n  boom\n" + "x" * 1000, times=3)
    assert "\n" not in health.reason
    assert len(health.reason) < 250


# --- any history


@dataclass
class Sent:
    """A request, and how often the replica had gone out or come back when it was sent."""

    mark: int
    turns: int
    asked: bool


class AnyHistory(RuleBasedStateMachine):
    """Requests, checks and readings in any order, and what must hold whatever came before."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.jitter = 0.0
        self.settings = SETTINGS
        self.health = Health(self.settings, self.now, jitter=lambda: self.jitter)
        self.turns = 0
        self.state = State.UP
        self.bad_checks = 0
        self.is_down = False
        self.reading: tuple[int, float] = (0, 0.0)
        self.health.progressed(self.now, *self.reading)
        self.moved_at = self.now
        self.ejected_at = -math.inf
        self.trials: list[tuple[int, float]] = []
        self.share = 0.0

    # What happens

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 5.0, 20.0, 59.0, 61.0, 200.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(jitter=st.floats(0, JITTER))
    def dice_are_thrown(self, jitter: float) -> None:
        self.jitter = jitter

    @rule(target=requests, anyway=st.booleans())
    def begin(self, anyway: bool) -> Sent:
        asked = self.health.admits(self.now)
        if not (asked or anyway):
            return Sent(UNASKED, -1, False)
        mark = self.health.began(self.now)
        if self.health.state(self.now) is State.TRIAL and asked:
            self._tried(mark)
        return Sent(mark, self.turns, asked)

    @rule(sent=consumes(requests))
    def succeed(self, sent: Sent) -> None:
        self.health.succeeded(self.now, sent.mark)
        self._done(sent)

    @rule(sent=consumes(requests), unreachable=st.booleans())
    def fail(self, sent: Sent, unreachable: bool) -> None:
        before = self.health.ejections
        self.health.failed(self.now, sent.mark, "failed", unreachable=unreachable)
        late = sent.turns < self.turns or not sent.asked
        assert not late or self.health.ejections == before
        self._ejected(before)
        self._done(sent)

    @rule(sent=consumes(requests))
    def abandon(self, sent: Sent) -> None:
        before = self.health.state(self.now)
        self.health.abandoned(self.now, sent.mark)
        assert self.health.state(self.now) is before
        self._done(sent)

    @precondition(lambda self: self.health.admits(self.now))
    @rule(count=st.integers(4, 60))
    def the_engine_dies_with_all_its_streams(self, count: int) -> None:
        marks = [self.health.began(self.now) for _ in range(count)]
        before = self.health.ejections
        for mark in marks:
            self.health.failed(self.now, mark, "cut", unreachable=True)
        assert self.health.ejections == before + 1
        self._ejected(before)

    @rule()
    def check_is_good(self) -> None:
        self.health.checked(self.now, None)
        self.bad_checks, self.is_down = 0, False

    @rule(times=st.integers(1, 3))
    def checks_are_bad(self, times: int) -> None:
        for _ in range(times):
            self.health.checked(self.now, REFUSED)
        self.bad_checks += times
        self.is_down = self.is_down or self.bad_checks >= self.settings.failures

    @rule(running=st.integers(0, 2), grown=st.sampled_from([0, 0, 0, 1, -5]))
    def counters_are_read(self, running: int, grown: int) -> None:
        before = self.reading
        self.reading = (running, before[1] + grown)
        self.health.progressed(self.now, *self.reading)
        if running == 0 or before[0] == 0 or grown != 0:
            self.moved_at = self.now
        if grown < 0:  # a new engine: what waits for the old one is no trial any more
            self.turns += 1
            self.trials = []
            self.share = 0.0

    @rule(seconds=st.integers(30, 200))
    def the_engine_hangs(self, seconds: int) -> None:
        for _ in range(0, seconds, 10):
            self.counters_are_read(1, 0)
            self._look()
            self.now += 10

    # What holds

    @invariant()
    def what_it_says_agrees(self) -> None:
        self._look()
        health, now = self.health, self.now
        state = health.state(now)
        assert (state is State.DOWN) == self.is_down
        assert bool(health.reason) == (state is not State.UP)
        if state in (State.DOWN, State.STALLED, State.EJECTED):
            assert not health.admits(now)
        if state is State.UP:
            assert health.admits(now)

    @invariant()
    def a_stall_is_requests_that_ran_and_no_token(self) -> None:
        if self.health.state(self.now) is State.STALLED:
            assert self.reading[0] > 0
            assert self.now - self.moved_at > self.settings.stall

    @invariant()
    def an_ejection_has_its_bounds(self) -> None:
        passed = self.now - self.ejected_at
        state = self.health.state(self.now)
        if passed > self.settings.max_ejection * (1 + JITTER):
            assert state is not State.EJECTED
        if passed < self.settings.ejection:
            assert state not in (State.UP, State.TRIAL)

    @invariant()
    def a_share_is_a_share_and_only_grows_while_it_is_up(self) -> None:
        share = self.health.share(self.now)
        assert 0 < share <= 1
        if self.health.state(self.now) is State.UP:
            assert share >= self.share
            self.share = share

    def teardown(self) -> None:
        """One that is good from now on is soon back."""
        for readings in (False, True):
            self._recover(copy.deepcopy(self.health), readings=readings)

    def _recover(self, health: Health, *, readings: bool) -> None:
        settings, now = self.settings, self.now
        longest = max(settings.max_ejection * (1 + JITTER), BELIEVED * settings.stall)
        until = now + longest + 2 * settings.interval
        progress = self.reading[1]
        while now < until:
            health.checked(now, None)
            if readings:
                progress += 1
                health.progressed(now, 1, progress)
            if health.admits(now):
                health.succeeded(now, health.began(now))
            now += settings.interval
        assert health.state(now) is State.UP
        assert health.share(now + settings.slow_start) == 1

    def _look(self) -> None:
        """Count it when it went out or came back; by time alone it does neither."""
        state = self.health.state(self.now)
        if state is self.state:
            return
        if {state, self.state} != {State.EJECTED, State.TRIAL}:
            self.turns += 1
            self.trials = []
        self.state = state
        self.share = 0.0

    def _tried(self, mark: int) -> None:
        waiting = [at for _, at in self.trials if self.now - at < self.settings.stall]
        assert not waiting
        self.trials.append((mark, self.now))

    def _done(self, sent: Sent) -> None:
        self.trials = [(mark, at) for mark, at in self.trials if mark != sent.mark]

    def _ejected(self, before: int) -> None:
        if self.health.ejections > before:
            self.ejected_at = self.now
            self.turns += 1
            self.trials = []


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = hypothesis_settings(max_examples=200, stateful_step_count=40)
