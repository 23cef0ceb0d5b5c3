"""A run beyond capacity is known early, and one within it is hardly ever taken for such."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from loadtest.saturation import Saturation, by_steps, regress, student
from tests.loadtest.queueing import queue

SECONDS = 120


def said(load: float, servers: int, service: float, seed: int) -> int | None:
    """When a run at that share of capacity was called saturated, s; it is looked at each second."""
    run = queue(load * servers / service, servers, service, SECONDS, seed)
    ended, order = np.sort(run.ended), np.argsort(run.began)
    first, ttft = run.began[order], (run.began - run.arrived)[order]
    watch = Saturation()
    for at in range(1, SECONDS + 1):
        opened = int(np.searchsorted(run.arrived, at) - np.searchsorted(ended, at))
        low, high = np.searchsorted(first, [at - 10, at])
        watch.note(at, opened, float(np.median(ttft[low:high])) if high > low else None)
        if at % 3 == 0 and watch.saturated:
            return at
    return None


@pytest.mark.parametrize(("servers", "service"), [(4, 0.5), (64, 5.0)])
def test_a_run_within_capacity_is_not_called_saturated(servers: int, service: float) -> None:
    runs = 60
    alarms = [said(0.9, servers, service, seed) is not None for seed in range(runs)]
    assert sum(alarms) <= 0.05 * runs


@pytest.mark.parametrize(("servers", "service"), [(8, 1.0), (64, 5.0)])
def test_a_run_far_beyond_capacity_is_ended_early(servers: int, service: float) -> None:
    times = [said(1.5, servers, service, seed) for seed in range(20)]
    assert all(time is not None for time in times)
    assert np.median([time for time in times if time is not None]) < SECONDS / 2


def test_filling_an_empty_service_is_not_saturation() -> None:
    # A thousand streams of a minute each: the number of open ones grows for half the run.
    assert [said(0.5, 1000, 60.0, seed) for seed in range(5)] == [None] * 5


def watched(opens: list[int], ttfts: list[float | None]) -> bool:
    watch = Saturation()
    for at, (opened, ttft) in enumerate(zip(opens, ttfts, strict=True), 1):
        watch.note(at, opened, ttft)
    return watch.saturated


def test_both_must_grow() -> None:
    grows, stays = list(range(10, 70)), [30] * 60
    slower: list[float | None] = [0.1 * at for at in grows]
    alike: list[float | None] = [0.1] * 60
    assert watched(grows, slower)
    assert not watched(grows, alike)
    # So it is in a closed loop: there are as many open as there are clients.
    assert not watched(stays, slower)
    # Nothing at all came: that is for the outcomes to say.
    assert not watched(grows, [None] * 60)


def test_a_growth_that_has_ended_is_none() -> None:
    # More and more for a minute, and then no more: only what was lately is looked at.
    watch = Saturation()
    for at in range(1, 101):
        level = min(at, 70)
        watch.note(at, level + 10, 0.1 * level + 0.01 * (at % 7))
    assert not watch.saturated


def test_nothing_is_said_of_the_first_seconds() -> None:
    assert not watched(list(range(10, 29)), [0.1 * at for at in range(19)])
    assert not Saturation().saturated


def test_students_distribution_is_right() -> None:
    # Tables: t of 10 degrees of freedom for 5% and 0.5%, of 1 for 25%.
    assert student(1.8125, 10) == pytest.approx(0.05, abs=1e-4)
    assert student(3.1693, 10) == pytest.approx(0.005, abs=1e-5)
    assert student(1.0, 1) == pytest.approx(0.25)
    assert student(-1.0, 1) == pytest.approx(0.75)
    assert student(2.0, 10**6) == pytest.approx(1 - NormalDist().cdf(2.0), rel=1e-3)


def test_slopes_and_steps_are_called_significant_as_often_as_chance_makes_them() -> None:
    chance = np.random.default_rng(3)
    noise = chance.normal(size=(4000, 12))
    slopes = [regress(one.tolist()) for one in noise]
    assert np.mean([line.chance < 0.05 for line in slopes if line]) == pytest.approx(0.05, abs=0.01)
    walks = np.cumsum(noise, axis=1)
    assert np.mean([by_steps(one.tolist()) < 0.05 for one in walks]) == pytest.approx(
        0.05, abs=0.01
    )
    # The regression alone would call a random walk a trend in a quarter of cases.
    naive = [regress(one.tolist()) for one in walks]
    assert np.mean([line.chance < 0.05 for line in naive if line]) > 0.2


def test_a_line_is_the_one_of_least_squares() -> None:
    values = [1.0, 4.0, 2.0, 6.0, 7.0, 5.0]
    slope, start = np.polyfit(range(6), values, 1)
    line = regress(values)
    assert line is not None
    assert line.at_start == pytest.approx(start)
    assert line.at_end == pytest.approx(start + 5 * slope)
    assert regress([1.0, 2.0]) is None
    assert by_steps([1.0, 2.0]) == 1.0
    flat = regress([2.0] * 5)
    assert flat is not None and flat.chance == 1.0
    assert not math.isnan(flat.at_end)
