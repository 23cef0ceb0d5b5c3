"""A request that failed, or was sent twice, leaves nothing for the collector."""

import asyncio
import gc
import weakref
from typing import Any
from unittest.mock import Mock

import pytest

from service.gateway import errors
from service.gateway.dispatch import Dispatch, _blame
from service.gateway.errors import APIError
from service.gateway.failure import EngineFailed, Fault


class Job:
    """Some request, to a pool with one replica more than there are tries."""

    def __init__(self) -> None:
        self.exchange = Mock(begun=False)
        self.key, self.work = None, 1
        self.pool, self.tab, self.request = Mock(), Mock(), Mock()


class FailsAtFirst(Dispatch):
    def __init__(self, failures: int) -> None:
        self._retries, self._metrics, self._left = 1, Mock(), failures

    async def _try(self, job: Any, replica: Any) -> None:
        if self._left:
            self._left -= 1
            raise EngineFailed(Fault.UNREACHABLE, errors.engine_unreachable("m"))


async def answered(failures: int, job: Any) -> bool:
    try:
        await FailsAtFirst(failures)._answer(job, Mock())
    except APIError:
        return False
    return True


@pytest.mark.parametrize(
    ("reason", "told"), [("it is no HTTP", "cut: it is no HTTP"), ("", "cut: engine_disconnected")]
)
def test_a_replica_is_blamed_for_what_went_wrong(reason: str, told: str) -> None:
    pool, failed = Mock(), EngineFailed(Fault.CUT, errors.engine_cut("m"), reason)
    _blame(pool, "replica", 7, failed)  # type: ignore[arg-type]
    pool.failed.assert_called_once_with("replica", 7, told, unreachable=False)


@pytest.mark.parametrize(("failures", "ok"), [(1, True), (2, False)])
def test_a_failure_does_not_hold_on_to_its_request(failures: int, ok: bool) -> None:
    async def test() -> None:
        job = Job()
        seen = weakref.ref(job)
        assert await answered(failures, job) is ok
        del job
        assert seen() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(test())
    finally:
        gc.enable()
