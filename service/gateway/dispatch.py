"""A request's way to a replica: its turn in line, the replica, and another one if that fails.

A request is sent once more only while its client has not been sent a byte, to a replica that has
not failed on it yet, and within the pool's retry budget. One under which an engine broke off is
sent once more, not twice: it may be what breaks engines.
"""

import asyncio
import time
from dataclasses import dataclass

from service.gateway import errors
from service.gateway.errors import APIError
from service.gateway.exchange import Exchange
from service.gateway.failure import EngineFailed, Fault
from service.gateway.policy import Request
from service.gateway.proxy import Proxy
from service.gateway.tab import Tab
from service.routing.health import UNASKED
from service.routing.pool import Pool
from service.routing.replica import Replica
from service.routing.turnstile import Crowded, Turn
from service.settings import GatewaySettings, RoutingSettings
from service.telemetry.facts import Attempt
from service.telemetry.metrics import Children, Metrics

# What may have been the request's own doing: tried on one more replica only.
_SUSPICIOUS = (Fault.CUT, Fault.FAILED)
# Faults with which a replica is out at once: they are no accident of one request.
_PLAIN = (Fault.UNREACHABLE, Fault.ENDING)


@dataclass(frozen=True, slots=True)
class Job:
    """One admitted request on its way. `key` is its conversation's place, `work` in tokens."""

    request: Request
    pool: Pool
    key: int | None
    work: int
    exchange: Exchange
    tab: Tab


class Dispatch:
    """Gets requests answered."""

    def __init__(
        self, proxy: Proxy, gateway: GatewaySettings, routing: RoutingSettings, metrics: Metrics
    ) -> None:
        self._proxy = proxy
        self._total = gateway.total_timeout
        self._hold = routing.hold
        self._retries = routing.retries
        self._metrics = metrics
        self._queue_seconds = Children(metrics.queue_seconds)

    async def run(self, job: Job) -> None:
        """Have some replica answer. Raises `APIError` where none does."""
        try:
            async with asyncio.timeout(self._total):
                turn = await self._turn(job)
                try:
                    await self._answer(job, turn)
                finally:
                    turn.leave(job.tab.spent)
        except TimeoutError:
            raise errors.took_too_long(job.request.model, self._total) from None

    async def _turn(self, job: Job) -> Turn:
        """Wait for a replica that works, and then in line."""
        pool, model = job.pool, job.request.model
        pool.arrived()
        if not pool.works:
            with job.exchange.timing.queue():
                await self._until_it_works(pool, model)
        team = job.tab.principal.team
        try:
            with job.exchange.timing.queue():
                turn = await pool.turnstile.enter(team.name, team.tier, job.work)
        except Crowded as crowded:
            raise self._crowded(model, crowded) from None
        self._queue_seconds[model,].observe(turn.waited)
        return turn

    def _crowded(self, model: str, crowded: Crowded) -> APIError:
        self._metrics.crowded.labels(model, crowded.reason).inc()
        return _refusal(model, crowded)

    async def _until_it_works(self, pool: Pool, model: str) -> None:
        try:
            async with asyncio.timeout(self._hold):
                await pool.until_it_works()
        except TimeoutError:
            raise _unserved(pool, model) from None

    async def _answer(self, job: Job, turn: Turn) -> None:
        tried: list[Replica] = []
        failed: EngineFailed | None = None
        while True:
            replica = job.pool.pick(job.key, job.work, tried)
            if failed is not None:
                # The budget is for what is really sent once more: first there has to be somewhere.
                if replica is None or not self._may_retry(job, failed.fault, len(tried)):
                    try:
                        raise failed.error
                    finally:
                        del failed  # it holds on to this frame
                self._metrics.retries.labels(job.request.model, failed.fault.value).inc()
                job.tab.restart()
            elif replica is None:
                await self._wait_again(job, turn)
                continue
            try:
                await self._try(job, replica)
                return
            except EngineFailed as failure:
                failed = failure.with_traceback(None)  # which holds on to this frame
            tried.append(replica)

    async def _wait_again(self, job: Job, turn: Turn) -> None:
        """The places changed while it waited for one."""
        job.pool.refresh()
        if not job.pool.works:
            raise _unserved(job.pool, job.request.model)
        try:
            with job.exchange.timing.queue():
                await turn.again()
        except Crowded as crowded:
            raise self._crowded(job.request.model, crowded) from None

    async def _try(self, job: Job, replica: Replica) -> None:
        """Have one replica answer, and tell its pool how that went."""
        pool, timing = job.pool, job.exchange.timing
        job.exchange.replica = replica.url
        mark = UNASKED

        def begun() -> None:
            timing.engine_answered()
            pool.begun(replica, mark)

        timing.engine_began()
        began, fault = time.time_ns(), ""
        try:
            with pool.request(replica, job.work) as mark:
                await self._proxy.attempt(job.request, replica.url, job.exchange, job.tab, begun)
        except EngineFailed as failed:
            fault = failed.fault.value
            _blame(pool, replica, mark, failed)
            raise
        except BaseException:  # the client left, or asked for what cannot be
            pool.abandoned(replica, mark)
            raise
        finally:
            timing.engine_answered()
            attempt = Attempt(replica.url, began, time.time_ns(), fault)
            job.exchange.attempts.append(attempt)
        pool.succeeded(replica, mark)

    def _may_retry(self, job: Job, fault: Fault, attempts: int) -> bool:
        most = min(self._retries, 1) if fault in _SUSPICIOUS else self._retries
        if job.exchange.begun or attempts > most:
            return False
        return job.pool.may_retry()


def _blame(pool: Pool, replica: Replica, mark: int, failed: EngineFailed) -> None:
    if failed.fault is Fault.FULL:  # that is no fault
        pool.abandoned(replica, mark)
    else:
        error = f"{failed.fault}: {failed.reason or failed.error.code}"
        pool.failed(replica, mark, error, unreachable=failed.fault in _PLAIN)


def _unserved(pool: Pool, model: str) -> APIError:
    """What a client is told whose request found no replica."""
    pool.unserved += 1
    return errors.engine_unreachable(model)


def _refusal(model: str, crowded: Crowded) -> APIError:
    """What a client is told whose request found no place in line."""
    error = errors.team_crowded if crowded.by_own_team else errors.crowded
    return error(model, crowded.retry_after)
