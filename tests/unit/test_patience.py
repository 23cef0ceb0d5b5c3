"""How long an engine is waited for."""

import asyncio

import pytest

from service.gateway.patience import Patience

FIRST, IDLE = 0.05, 0.1


def test_one_that_does_not_begin_is_given_up() -> None:
    async def run() -> None:
        began = asyncio.get_running_loop().time()
        patience = Patience(FIRST, 60)
        with pytest.raises(TimeoutError):
            async with patience:
                await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() - began >= FIRST
        assert patience.seconds == FIRST

    asyncio.run(run())


def test_one_that_falls_silent_is_given_up_no_earlier_than_it_may() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        patience = Patience(60, IDLE)
        heard = loop.time()
        with pytest.raises(TimeoutError):
            async with patience:
                for _ in range(50):
                    patience.renew()
                    heard = loop.time()
                    await asyncio.sleep(IDLE / 50)
                await asyncio.Event().wait()
        assert loop.time() - heard >= IDLE * 0.99
        assert patience.seconds == IDLE

    asyncio.run(run())


def test_one_that_has_begun_has_the_time_between_two_events() -> None:
    async def run() -> None:
        async with Patience(FIRST, 60) as patience:
            patience.renew()
            await asyncio.sleep(2 * FIRST)

    asyncio.run(run())
