"""What teams have used is known to the metrics as long as the store answers."""

import asyncio

from service.quota.calendar import Windows
from service.quota.limits import Limits
from service.quota.reservation import Level, Scope
from service.quota.store import StoreUnavailable
from service.telemetry.census import Census
from service.tenants.team import Team
from tests.virtual_time import run

TEAM = Team("search", limits=Limits(rpm=60))
LEVEL = Level(7, 0, 0, 0, 0, 0, 0)


def census(answers: list[Level | Exception]) -> Census:
    """Its store answers so, and then with the last of it."""

    async def levels(team: str, scopes: tuple[Scope, ...], windows: Windows) -> tuple[Level, ...]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return (answer,)

    return Census(levels, {TEAM.name: TEAM}, lambda: [TEAM.name], clock=lambda: 0.0)


def used(one: Census) -> list[float]:
    samples = [sample for family in one.series() for sample in family.samples]
    return [sample.value for sample in samples if sample.name.endswith("quota_used")]


def test_a_store_that_was_late_once_is_asked_again_soon() -> None:
    async def work() -> None:
        one = census([LEVEL, StoreUnavailable(), LEVEL])
        running = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        assert used(one) == [7]
        await asyncio.sleep(9.5)
        assert used(one) == [], "nothing is better than what was"
        await asyncio.sleep(1)
        assert used(one) == [7]
        running.cancel()

    run(work())


def test_one_that_is_away_is_asked_no_more_than_once_a_second() -> None:
    async def work() -> None:
        answers: list[Level | Exception] = [StoreUnavailable() for _ in range(100)]
        one = census(answers)
        running = asyncio.create_task(one.run())
        await asyncio.sleep(30.5)
        assert len(answers) == 100 - 31
        running.cancel()

    run(work())
