"""All pools of the gateway, kept as the settings, the DNS and pages say, while it runs."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from service.address import Kind, parse
from service.routing.catalog import Catalog, Entry
from service.routing.discovery import Discovery
from service.routing.pool import Pool
from service.routing.prober import Prober
from service.routing.replica import Replica
from service.settings import GatewaySettings, RoutingSettings, UpstreamSettings

log = logging.getLogger(__name__)

# Shares of replicas that start slowly, and times that are over, take effect within that.
_REFRESH_SECONDS = 1.0


class Source:
    """One upstream setting: the replicas that it leads to, and the task that follows them."""

    def __init__(self, settings: UpstreamSettings, routing: RoutingSettings) -> None:
        self.pool = settings.pool or settings.model
        self.slots = settings.slots or routing.queue.slots
        address = parse(settings.url)
        self.is_static = address.kind is Kind.STATIC
        self.urls = frozenset({str(address)} if self.is_static else ())
        self.discovery = Discovery(
            address, interval=routing.interval, nameserver=routing.nameserver
        )
        self.task: asyncio.Task[None] | None = None


class Upstreams:
    """Every replica there is, by pool, and the names that clients ask for.

    `run` keeps it true. `apply` takes other settings, while requests go on.
    """

    def __init__(
        self,
        gateway: GatewaySettings,
        routing: RoutingSettings,
        prober: Prober,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routing = routing
        self._prober = prober
        self._clock = clock
        self._sources: dict[UpstreamSettings, Source] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.pools: dict[str, Pool] = {}
        self.catalog = Catalog({}, {})
        self.apply(gateway)

    @property
    def ready(self) -> bool:
        """Whether some replica of some model works."""
        return any(pool.seen for pool in self.pools.values())

    def discovery_errors(self, pool: str) -> list[str]:
        """What is wrong with finding its replicas, if anything is."""
        sources = [source for source in self._sources.values() if source.pool == pool]
        return [source.discovery.last_error for source in sources if source.discovery.last_error]

    def apply(self, gateway: GatewaySettings) -> None:
        """Take the replicas and models of other settings. Requests under way go on."""
        self._set_pools({s.pool or s.model: s.model for s in gateway.upstreams})
        for settings in self._sources.keys() - set(gateway.upstreams):
            self._drop(self._sources.pop(settings))
        for settings in gateway.upstreams:
            if settings not in self._sources:
                self._sources[settings] = Source(settings, self._routing)
                self._watch(self._sources[settings])
        for pool in self.pools.values():
            self._update(pool)
        entries = {
            name: Entry(model.pools, model.fallback) for name, model in gateway.models.items()
        }
        self.catalog = Catalog(entries, self.pools)

    async def run(self) -> None:
        """Follow names and replicas until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for source in self._sources.values():
                self._watch(source)
            for pool in self.pools.values():
                for replica in pool.replicas.values():
                    self._follow(pool, replica)
            while True:
                await asyncio.sleep(_REFRESH_SECONDS)
                for pool in self.pools.values():
                    pool.refresh()

    def _set_pools(self, models: Mapping[str, str]) -> None:
        """Pools by name, with the model of each. One that serves another model is another pool."""
        before = self.pools
        self.pools = {
            name: before[name]
            if name in before and before[name].model == model
            else Pool(name, model, self._routing, self._clock)
            for name, model in models.items()
        }
        for name, pool in before.items():
            if self.pools.get(name) is not pool:
                self._set_members(pool, {})

    def _watch(self, source: Source) -> None:
        if self._tasks is not None and not source.is_static:
            watch = source.discovery.watch(lambda urls: self._found(source, urls))
            source.task = self._tasks.create_task(watch)

    def _drop(self, source: Source) -> None:
        if source.task is not None:
            source.task.cancel()

    def _found(self, source: Source, urls: frozenset[str]) -> None:
        source.urls = urls
        pool = self.pools.get(source.pool)
        if pool is not None:
            self._update(pool)

    def _update(self, pool: Pool) -> None:
        slots: dict[str, int] = {}
        for source in self._sources.values():
            if source.pool == pool.name:
                slots |= dict.fromkeys(source.urls, source.slots)
        self._set_members(pool, slots)

    def _set_members(self, pool: Pool, slots: Mapping[str, int]) -> None:
        gone = pool.replicas.keys() - slots.keys()
        new = pool.set_members(slots, slots.__getitem__)
        if gone or new:
            log.info(
                "replicas changed",
                extra={
                    "pool": pool.name,
                    "new": [replica.url for replica in new],
                    "gone": sorted(gone),
                },
            )
        for replica in new:
            self._follow(pool, replica)

    def _follow(self, pool: Pool, replica: Replica) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._prober.follow(pool, replica))
