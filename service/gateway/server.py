"""A gateway process: its ports, its signals, its end."""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from service.admin.app import create_app
from service.gateway.app import Gateway
from service.gateway.backing import open_backing
from service.gateway.connections import Connections
from service.gateway.dispatch import Dispatch
from service.gateway.drain import Drain
from service.gateway.listener import BACKLOG, bind
from service.gateway.ops import Ops
from service.gateway.protocol import BoundedProtocol
from service.gateway.proxy import Proxy
from service.gateway.recorder import Recorder
from service.gateway.reload import follow_file
from service.grace import Grace, check
from service.routing.picture import picture
from service.routing.prober import Prober, open_session
from service.routing.upstreams import Upstreams
from service.settings import GatewaySettings, Settings
from service.telemetry import contract
from service.telemetry.conservation import Conservation
from service.telemetry.looplag import watch_lag
from service.telemetry.metrics import Metrics, shown
from service.telemetry.series import series
from service.telemetry.slo import Bounds
from service.telemetry.tracing import open_tracer

# For checks of replicas, stores, and connections without a request.
_SPARE_FILES = 0.15

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
    grace = Grace(settings.drain, settings.notice)
    check("gateway", grace.gateway_termination, settings.termination_grace)
    most_open = _allow_many_files()
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
        shared = gateway.reuse_port
        listeners = [
            sockets.enter_context(bind(*address, shared=shared and address == addresses[0]))
            for address in addresses
        ]
        runner.run(_serve(settings, listeners, most_open))


async def _serve(settings: Settings, listeners: list[socket.socket], most_open: int) -> None:
    bounds = Bounds(settings.slo.ttft, settings.slo.tpot)
    tracer = open_tracer(settings.telemetry)
    metrics, drain = Metrics(settings.telemetry.teams, bounds), Drain()
    metrics.in_flight.set_function(lambda: drain.open)
    stop = _stop_signal()
    async with (
        open_session() as session,
        open_backing(settings, metrics) as backing,
        Connections(settings.gateway.connect_timeout) as connections,
    ):
        prober = Prober(session, settings.routing.health, Conservation(metrics).read)
        upstreams = Upstreams(settings.gateway, settings.routing, prober)
        metrics.show(lambda: series(upstreams))
        metrics.show(lambda: [shown(contract.SPANS_DROPPED, [((), tracer.dropped)])])

        def know() -> None:
            engines = {pool.model for pool in upstreams.pools.values()}
            metrics.know(upstreams.catalog.models, engines, backing.snapshot.teams)

        def apply(changed: GatewaySettings) -> None:
            upstreams.apply(changed)
            know()

        know()
        proxy = Proxy(connections, settings.gateway)
        gateway = Gateway(
            settings.gateway,
            backing.authenticator,
            backing.admission,
            upstreams,
            Dispatch(proxy, settings.gateway, settings.routing, metrics),
            metrics,
            Recorder(metrics, tracer),
            drain,
            most_open,
        )
        ops = Ops(upstreams, metrics, drain, backing.stale, holds=settings.routing.hold > 0)
        metrics.show(lambda: [shown(contract.READY, [((), ops.unready() is None)])])
        apps: list[ASGI] = [gateway, ops]
        if settings.admin.token.get_secret_value():
            admin = create_app(
                backing.directory,
                backing.database,
                settings.admin.token,
                lambda: picture(upstreams),
            )
            apps.append(admin)
        servers = [_server(app) for app in apps]
        keepers: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *backing.tasks,
            upstreams.run,
            lambda: follow_file(apply),
            lambda: watch_lag(metrics.loop_lag),
        ]
        _spare_the_collector()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(keep()) for keep in keepers]
            for server, listener in zip(servers, listeners, strict=True):
                tasks.create_task(server.serve(sockets=[listener]))
            await stop.wait()
            stop.clear()
            await _drain(settings, drain, stop)
            for server in servers:
                server.should_exit = True
            await drain.emptied()
            await backing.finish()
            await tracer.close()
            for task in background:
                task.cancel()


async def _drain(settings: Settings, drain: Drain, stop: asyncio.Event) -> None:
    """Take no new work and let what is open end. Another signal ends the wait."""
    log.info("draining", extra={"open": drain.open, "seconds": settings.drain})
    await drain.give_notice(settings.notice, hurry=stop)
    if not await drain.finish(settings.drain, hurry=stop):
        log.warning("the drain is over, cutting", extra={"open": drain.open})


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


def _spare_the_collector() -> None:
    """Look for garbage in cycles less often, and not among what a gateway has from its start.

    A request leaves next to none: looking at all open streams, every few hundred objects, for what
    is not there takes a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)


def _allow_many_files() -> int:
    """Raise the limit of descriptors as far as may be. Returns how many requests that is good for.

    A stream takes two, and the usual soft limit is 1,024. Where they run out no replica can be
    reached, and it would look as if that were the replicas' fault.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    return int(hard * (1 - _SPARE_FILES)) // 2


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
