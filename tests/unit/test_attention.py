"""Time counts while the event loop turns, and only then."""

import asyncio
import time

from service.quota.attention import TICK_SECONDS, AttentionClock


def test_it_goes_with_the_time_of_a_loop_that_turns() -> None:
    async def run() -> None:
        clock, loop = AttentionClock(), asyncio.get_running_loop()
        clock.start()
        began = loop.time()
        await asyncio.sleep(10 * TICK_SECONDS)
        # Never ahead of the time; how far behind is up to the machine.
        assert 0 < clock.time() <= loop.time() - began
        clock.stop()

    asyncio.run(run())


def test_a_turn_that_takes_long_counts_as_two_ticks_at_most() -> None:
    async def run() -> None:
        clock = AttentionClock()
        clock.start()
        before = clock.time()
        time.sleep(20 * TICK_SECONDS)  # noqa: ASYNC251  # a loop that is busy is what it is about
        assert clock.time() - before <= 2 * TICK_SECONDS
        clock.stop()

    asyncio.run(run())


def test_it_stands_still_until_it_is_started_and_once_it_is_stopped() -> None:
    async def run() -> None:
        clock = AttentionClock()
        assert clock.time() == 0
        clock.start()
        clock.start()
        await asyncio.sleep(3 * TICK_SECONDS)
        clock.stop()
        shown = clock.time()
        assert shown > 0
        await asyncio.sleep(3 * TICK_SECONDS)
        assert clock.time() == shown
        clock.stop()

    asyncio.run(run())
