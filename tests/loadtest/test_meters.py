"""The load test knows how it does itself."""

import asyncio
import math
import random
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.alarm import Alarm
from loadtest.client.meters import Busy, LoopLag, few
from loadtest.client.pauses import Pauses
from loadtest.client.wall_clock import WallClock
from loadtest.statistics.quantiles import ordered, percentile


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_stands_still_has_all_the_beats_that_it_missed() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    clock.now += 1.0
    lag.beat()
    lags = lag.lags()
    # Fifty beats in a second of standstill, from all of it down to none.
    assert 49 <= len(lags) <= 51
    assert lags[-1] == pytest.approx(1.0)
    assert lags == sorted(lags)
    assert sum(lags) / len(lags) == pytest.approx(0.5, abs=0.02)


def test_a_long_run_keeps_a_sample_of_bounded_size_of_all_of_it() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    for second in range(1000):
        # It is late by hundredths in the first half, and by up to a second in the other.
        for _ in range(50 if second < 500 else 1):
            clock.now += 0.02 if second < 500 else 1.0
            lag.beat()
    lags = lag.lags()
    assert len(lags) == 10_000
    late = [one for one in lags if one > 0.1]
    # Nine in ten beats of the second half, so that share of a half of the sample.
    assert len(late) / len(lags) == pytest.approx(0.45, abs=0.03)


@given(st.integers(0, 10_000))
def test_a_few_of_all_lags_have_about_the_same_percentiles(count: int) -> None:
    lags = [float(rank) for rank in range(count)]
    some = few(lags)
    assert len(some) <= 1_000 and some == sorted(some) and some[-1:] == lags[-1:]
    assert some == lags or count > 1_000
    for percent in (50, 99):
        own, of_all = (percentile(ordered(values), percent) for values in (some, lags))
        # Within two thousandths of all.
        assert abs((own or 0) - (of_all or 0)) <= 2 * math.ceil(count / 1_000)


def test_a_blocked_loop_is_seen() -> None:
    async def work() -> list[float]:
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(0.1)
        time.sleep(0.3)  # noqa: ASYNC251  # it blocks, and that is to be seen
        await asyncio.sleep(0.05)
        lag.stop()
        return lag.lags()

    lags = asyncio.run(work())
    assert lags[-1] > 0.25
    assert len([lag for lag in lags if lag > 0.1]) >= 8


def test_the_busiest_five_seconds_are_not_lost_in_the_mean() -> None:
    clock, used = Clock(), Clock()
    busy = Busy(clock, used)
    for half_second in range(120):
        busy.mark()
        clock.now += 0.5
        used.now += 0.475 if 40 <= half_second < 52 else 0.05
    assert busy.percent == pytest.approx(95, abs=1)
    assert len(busy.percents) == 119
    assert max(busy.percents) == pytest.approx(95)


def test_a_short_run_has_the_mean_of_all_of_it() -> None:
    clock, used = Clock(), Clock()
    busy = Busy(clock, used)
    busy.mark()
    clock.now += 2.0
    used.now += 1.0
    busy.mark()
    assert busy.percent == pytest.approx(50)


@given(st.lists(st.floats(-100, 100).filter(lambda step: abs(step) > 0.1), max_size=5))
def test_a_wall_clock_that_is_set_is_seen_in_both_directions(steps: list[float]) -> None:
    wall, monotonic = Clock(), Clock()
    watched = WallClock(wall, monotonic)
    for step in steps:
        monotonic.now += 0.5
        # It is slewed too, which is no step.
        wall.now += 0.5 + step + 0.0002
        watched.look()
    assert watched.steps == pytest.approx(sum(map(abs, steps)), abs=0.01)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_nothing_rings_early_and_all_ring_in_order(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)

    async def work() -> None:
        rung: list[tuple[float, float]] = []
        done = asyncio.Event()
        begin = time.monotonic() + 0.02
        with Alarm() as alarm:
            times = [begin + number * 0.00037 for number in range(300)]
            for at in random.Random(1).sample(times, len(times)):
                alarm.at(at, lambda at=at: rung.append((at, time.monotonic())))  # type: ignore[misc]
            alarm.at(begin + 0.05, lambda: None).cancel()
            alarm.at(times[-1] + 0.001, done.set)
            alarm.at(begin - 9, lambda: rung.append((begin - 9, begin)))
            await done.wait()
        assert [at for at, _ in rung] == [begin - 9, *times]
        assert all(at <= when for at, when in rung)

    asyncio.run(asyncio.wait_for(work(), 10))


def test_all_who_wait_go_on_when_the_run_is_over() -> None:
    async def work() -> None:
        alarm = Alarm()
        pauses = Pauses(alarm)
        waiting = [asyncio.create_task(pauses.until(time.monotonic() + 3600)) for _ in range(3)]
        assert await pauses.until(time.monotonic() + 0.01)
        pauses.end()
        assert await asyncio.gather(*waiting) == [False] * 3
        assert not await pauses.until(time.monotonic())
        alarm.__exit__(None, None, None)

    asyncio.run(asyncio.wait_for(work(), 10))
