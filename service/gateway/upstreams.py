"""The replicas behind the gateway: one pool of them per model."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from aiohttp import ClientError, ClientSession, ClientTimeout

from service.settings import UpstreamSettings

_PROBE = ClientTimeout(total=1)


class Upstream:
    """One replica, and how many requests it has from us."""

    def __init__(self, model: str, url: str) -> None:
        self.model = model
        self.url = url
        self.in_flight = 0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request while it lasts."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def is_healthy(self, session: ClientSession) -> bool:
        """Whether the engine says that it lives."""
        try:
            async with session.get(f"{self.url}/health", timeout=_PROBE) as response:
                return response.status == 200
        except (ClientError, TimeoutError):
            return False


class Upstreams:
    """All replicas, by the model they serve."""

    def __init__(self, settings: Iterable[UpstreamSettings]) -> None:
        self.pools: dict[str, list[Upstream]] = {}
        for replica in settings:
            self.pools.setdefault(replica.model, []).append(Upstream(replica.model, replica.url))

    @property
    def models(self) -> list[str]:
        """The models that can be asked for."""
        return list(self.pools)

    def pick(self, model: str) -> Upstream | None:
        """The replica of `model` with the fewest requests; None for a model that is not served."""
        pool = self.pools.get(model, ())
        return min(pool, key=lambda upstream: upstream.in_flight, default=None)

    async def any_is_healthy(self, session: ClientSession) -> bool:
        """Whether a single replica of any model answers."""
        replicas = [upstream for pool in self.pools.values() for upstream in pool]
        return any(await asyncio.gather(*(replica.is_healthy(session) for replica in replicas)))
