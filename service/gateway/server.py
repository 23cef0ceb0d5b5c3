"""A gateway process: its ports, its signals, its end."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
import uvloop

from service.admin.app import create_app
from service.gateway.app import Gateway
from service.gateway.backing import open_backing
from service.gateway.drain import Drain
from service.gateway.listener import BACKLOG, bind
from service.gateway.ops import Ops
from service.gateway.protocol import BoundedProtocol
from service.gateway.proxy import Proxy, open_session
from service.gateway.upstreams import Upstreams
from service.settings import Settings
from service.telemetry.conservation import Conservation
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

ASGI = Callable[..., Awaitable[None]]

# Above the idle timeouts of the load balancers that are common in front (60 to 75 s), so that it is
# never us who closes a connection on which a request is on its way.
_KEEP_ALIVE_SECONDS = 90


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: several share this process, and we drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain.

    Raises `UserError` for a port that is taken, or a store that cannot be used.
    """
    _allow_many_files()
    gateway, admin = settings.gateway, settings.admin
    addresses = [
        (gateway.host, gateway.port, "GPTOSS_GATEWAY__PORT"),
        (gateway.ops_host, gateway.ops_port, "GPTOSS_GATEWAY__OPS_PORT"),
    ]
    if admin.token.get_secret_value():
        addresses.append((admin.host, admin.port, "GPTOSS_ADMIN__PORT"))
    with (
        contextlib.ExitStack() as sockets,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        listeners = [sockets.enter_context(bind(*address)) for address in addresses]
        runner.run(_serve(settings, listeners))


async def _serve(settings: Settings, listeners: list[socket.socket]) -> None:
    metrics, drain = Metrics(), Drain()
    upstreams = Upstreams(settings.gateway.upstreams)
    stop = _stop_signal()
    async with open_session() as session, open_backing(settings, metrics) as backing:
        gateway = Gateway(
            settings.gateway,
            backing.authenticator,
            backing.admission,
            upstreams,
            Proxy(session, settings.gateway),
            metrics,
            drain,
        )
        ops = Ops(upstreams, session, metrics, drain, backing.stale)
        apps: list[ASGI] = [gateway, ops]
        if settings.admin.token.get_secret_value():
            apps.append(create_app(backing.directory, backing.database, settings.admin.token))
        servers = [_server(app) for app in apps]
        async with asyncio.TaskGroup() as tasks:
            engines = [(replica.model, replica.url) for replica in settings.gateway.upstreams]
            watch = Conservation(engines, session, metrics).watch
            background = [tasks.create_task(task()) for task in (*backing.tasks, watch)]
            for server, listener in zip(servers, listeners, strict=True):
                tasks.create_task(server.serve(sockets=[listener]))
            await stop.wait()
            stop.clear()
            log.info("draining", extra={"open": drain.open, "seconds": settings.gateway.drain})
            if not await drain.finish(settings.gateway.drain, hurry=stop):
                log.warning("the drain is over, cutting", extra={"open": drain.open})
            for server in servers:
                server.should_exit = True
            await drain.emptied()
            await backing.finish()
            for task in background:
                task.cancel()


def _server(app: ASGI) -> _Server:
    config: dict[str, Any] = {
        "http": BoundedProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": 1,
    }
    return _Server(uvicorn.Config(app, **config))


def _allow_many_files() -> None:
    """A stream takes two descriptors, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
