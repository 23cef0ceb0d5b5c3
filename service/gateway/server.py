"""A gateway process: its two ports, its signals, its end."""

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
import uvloop

from service.errors import UserError
from service.gateway.app import Gateway
from service.gateway.drain import Drain
from service.gateway.ops import Ops
from service.gateway.protocol import BoundedProtocol
from service.gateway.proxy import Proxy, open_session
from service.gateway.upstreams import Upstreams
from service.settings import GatewaySettings
from service.telemetry.metrics import Metrics
from service.tenants.snapshot import Keys, Store

log = logging.getLogger(__name__)

# Above the idle timeouts of the load balancers that are common in front (60 to 75 s), so that it is
# never us who closes a connection on which a request is on its way.
_KEEP_ALIVE_SECONDS = 90
_BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: two of them share this process, and we drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: GatewaySettings, store: Store) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain.

    Raises `UserError` for a port that is taken.
    """
    _allow_many_files()
    keys = Keys(store)
    with (
        bind(settings.host, settings.port, "GPTOSS_GATEWAY__PORT") as api,
        bind(settings.ops_host, settings.ops_port, "GPTOSS_GATEWAY__OPS_PORT") as ops,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, keys, api, ops))


async def _serve(
    settings: GatewaySettings, keys: Keys, api: socket.socket, ops: socket.socket
) -> None:
    metrics, drain, upstreams = Metrics(), Drain(), Upstreams(settings.upstreams)
    if not len(keys.current):
        log.warning("there is no key yet: nobody gets in before `gptoss key create`")
    metrics.keys.set_function(lambda: len(keys.current))
    stop = _stop_signal()
    async with open_session() as session:
        gateway = Gateway(settings, keys, upstreams, Proxy(session, settings), metrics, drain)
        servers = (
            (_server(gateway), api),
            (_server(Ops(upstreams, session, metrics, drain)), ops),
        )
        async with asyncio.TaskGroup() as tasks:
            refresh = tasks.create_task(keys.keep_fresh(metrics.key_refresh_failures.inc))
            for server, listener in servers:
                tasks.create_task(server.serve(sockets=[listener]))
            await stop.wait()
            stop.clear()
            log.info("draining", extra={"open": drain.open, "seconds": settings.drain})
            if not await drain.finish(settings.drain, hurry=stop):
                log.warning("the drain is over, cutting", extra={"open": drain.open})
            refresh.cancel()
            for server, _ in servers:
                server.should_exit = True


def _server(app: Callable[..., Awaitable[None]]) -> _Server:
    config: dict[str, Any] = {
        "http": BoundedProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": _BACKLOG,
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


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening address, or one line that says why not. `setting` names what to change."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: until it listens, another process could bind the same port.
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
        raise UserError(
            f"{host}:{port} {reason}: stop what listens there, or set {setting} to another port"
        ) from None
    return listener
