"""Asks a replica, now and then, whether it is well and how loaded it is."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    TCPConnector,
)

from service.routing.engine_page import EnginePage
from service.routing.pool import Pool
from service.routing.replica import Replica, Report
from service.settings import HealthSettings

log = logging.getLogger(__name__)

# Pages that are read a second, of all replicas: with a thousand of them each is read less often.
_PAGES_PER_SECOND = 20.0
# Between two checks of a replica that requests do not reach: three find it down in a second.
_SOON_SECONDS = 0.3

# Shorter than the 5 s after which vLLM closes an idle connection.
_KEEP_ALIVE_SECONDS = 4.0

Reader = Callable[[Replica, EnginePage], None]


def open_session() -> ClientSession:
    """The connections for checks: apart from those of requests, and one to a replica."""
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
        trust_env=False,
    )


class Prober:
    """Follows replicas for as long as they are members. `read` is told what an engine says."""

    def __init__(self, session: ClientSession, settings: HealthSettings, read: Reader) -> None:
        self._session = session
        self._settings = settings
        self._timeout = ClientTimeout(total=settings.timeout)
        self._read = read
        self.followed = 0
        """Replicas that are followed at present."""

    async def follow(self, pool: Pool, replica: Replica) -> None:
        """Check a replica until it is no member any more."""
        self.followed += 1
        try:
            read_at = 0.0
            while replica.is_member:
                try:
                    read_at = await self._look(pool, replica, read_at)
                except Exception:  # of one replica, it must not end the checks of the others
                    log.exception("a replica was not checked", extra={"replica": replica.url})
                await self._rest(replica)
        finally:
            self.followed -= 1

    async def _look(self, pool: Pool, replica: Replica, read_at: float) -> float:
        """One check, and its page if it is time for it. Returns when that is to be read next."""
        error = await self._check(replica)
        pool.checked(replica, error)
        now = time.monotonic()
        if error is not None or now < read_at:
            return read_at
        await self._report(pool, replica)
        return now + self.followed / _PAGES_PER_SECOND

    async def _rest(self, replica: Replica) -> None:
        """Until the next check: a while, or shortly if requests do not reach it."""
        await asyncio.sleep(min(_SOON_SECONDS, self._settings.interval))
        # Never all at once, whenever they were added.
        rest = self._settings.interval * random.uniform(0.9, 1.1) - _SOON_SECONDS  # noqa: S311
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await replica.suspected.wait()
        replica.suspected.clear()

    async def _check(self, replica: Replica) -> str | None:
        """What is wrong, if anything is."""
        began = time.monotonic()
        try:
            async with self._session.get(
                f"{replica.url}/health", timeout=self._timeout, allow_redirects=False
            ) as response:
                return None if response.status == 200 else f"/health says {response.status}"
        except TimeoutError:
            if replica.heard_at > began:  # it is only slow, and it works
                return None
            return f"/health said nothing for {self._settings.timeout:g} s"
        except ClientConnectorError as error:
            return f"cannot connect: {error.strerror or 'unreachable'}"
        except (ClientError, OSError) as error:
            return f"/health broke off: {type(error).__name__}"

    async def _report(self, pool: Pool, replica: Replica) -> None:
        try:
            async with self._session.get(
                f"{replica.url}/metrics", timeout=self._timeout, allow_redirects=False
            ) as response:
                page = EnginePage.read(await response.read())
        except (TimeoutError, ClientError, OSError):
            return  # whether an engine is well is not for this page to say
        if page is not None:
            tokens = page.prompt_tokens + page.generation_tokens
            report = Report(page.running, page.waiting, page.kv_usage, tokens, time.monotonic())
            pool.reported(replica, report, page.progress)
            self._read(replica, page)
