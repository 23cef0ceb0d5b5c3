"""The page on which gateways read where a pool's engines are: Prometheus' HTTP service discovery.

It only says; nothing can be changed here. While the keeper does not know yet what runs, it says so
instead of "none", which gateways would believe.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

Known = Callable[[], Mapping[str, Sequence[str]] | None]
"""By pool the URLs of its engines that take requests; None while that is not known."""


class Board:
    """Serves `/pools/NAME`, and `/livez`."""

    def __init__(self, known: Known) -> None:
        self._known = known
        app = web.Application()
        app.router.add_get("/pools/{pool}", self._pool)
        app.router.add_get("/livez", self._live)
        self._runner = web.AppRunner(app, access_log=None)
        self._moving = asyncio.Lock()
        self._site: web.TCPSite | None = None
        self._at: tuple[str, int] | None = None

    async def listen(self, host: str, port: int) -> None:
        """Be there, and only there. Raises `OSError`, and stays where it was."""
        async with self._moving:
            if self._at == (host, port):
                return
            if self._runner.server is None:
                await self._runner.setup()
            before, at = self._site, self._at
            if before and at and at[1] == port:  # both cannot be there
                await before.stop()
                before = None
            try:
                self._site = await self._there(host, port)
                self._at = (host, port)
            except OSError:
                if at and before is None:
                    self._site = await self._there(*at)
                raise
            if before:
                await before.stop()

    async def _there(self, host: str, port: int) -> web.TCPSite:
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError:
            await site.stop()  # the runner has noted it already
            raise
        return site

    async def close(self) -> None:
        """Listen no more."""
        self._site = self._at = None
        await self._runner.cleanup()

    async def _pool(self, request: web.Request) -> web.Response:
        pools = self._known()
        if pools is None:
            return web.Response(status=503, text="it is not known yet what runs\n")
        name = request.match_info["pool"]
        if name not in pools:
            return web.Response(status=404, text=f"no pool is called {name!r}\n")
        targets = [url.removeprefix("http://") for url in pools[name]]
        return web.json_response([{"targets": targets, "labels": {"pool": name}}])

    async def _live(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")
