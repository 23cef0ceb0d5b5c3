"""When an engine is called stalled, whatever the readings of its counters are."""

from hypothesis import given
from hypothesis import strategies as st

from service.routing.standstill import Standstill

STALL = 180.0
GAPS = st.one_of(st.floats(0, STALL), st.floats(-1e6, 1e9))
READINGS = st.lists(
    # the gap before it, s; what runs; by how much the counters moved (back: another engine)
    st.tuples(GAPS, st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.0, 1.0, -5.0])),
    min_size=1,
    max_size=30,
)


def follow(readings: list[tuple[float, int, float]]) -> Standstill:
    """The last of them."""
    last = Standstill(100.0, 1, 1000.0)
    for gap, running, moved in readings:
        last = last.then(last.at + gap, running, last.progress + moved, STALL)
    return last


@given(READINGS)
def test_it_stalls_only_by_what_was_seen_of_it_standing_still(
    readings: list[tuple[float, int, float]],
) -> None:
    streak: list[float] = []
    ran = 1
    for gap, running, moved in readings:
        streak = [*streak, gap] if running and ran and not moved else []
        ran = running
    seen = sum(min(max(gap, 0.0), STALL / 2) for gap in streak)
    last = follow(readings)
    assert abs(last.still - seen) < 1e-3
    if last.reason(STALL):
        assert len(streak) >= 3, "a pause in the readings is not a stall of the engine"


@given(st.floats(0.1, STALL / 2), st.integers(1, 256))
def test_one_that_stands_still_is_found_within_a_reading_of_its_time(
    gap: float, running: int
) -> None:
    last, steps = Standstill(7.0, running, 0.0), 0
    while not last.reason(STALL):
        steps += 1
        last = last.then(steps * gap, running, 7.0, STALL)
    assert STALL < steps * gap < STALL + 2 * gap


def test_the_reason_says_how_long_and_how_many() -> None:
    last = follow([(60.0, 3, 0.0)] * 4)
    assert last.reason(STALL) == "stalled: no token in 240 s with 3 running"
    assert follow([(60.0, 3, 0.0)] * 3).reason(STALL) == ""


def test_an_idle_engine_never_stalls() -> None:
    assert follow([(60.0, 0, 0.0)] * 100).still == 0.0


def test_the_gap_in_which_an_idle_engine_began_to_work_does_not_count() -> None:
    assert follow([(60.0, 0, 0.0), (60.0, 1, 0.0)]).still == 0.0
