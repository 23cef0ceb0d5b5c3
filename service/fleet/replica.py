"""One engine on its node, kept by an actor of Ray: started, watched, drained, ended.

The actor holds the placement group's cards and tells what becomes of the engine. Requests never
come here: gateways talk to the engine itself. Should the actor die, the kernel tells the engine to
end, which lets its streams do so.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from service import settings
from service.embedded.child import Child
from service.engine import probe
from service.errors import UserError
from service.fleet.order import Order, Report
from service.fleet.rollout import Phase
from service.grace import ENGINE_EXIT_SECONDS
from service.routing.engine_page import EnginePage
from service.routing.standstill import Standstill

_LOOK_SECONDS = 2.0
# As the chart's liveness probe: more than an engine under load may leave unanswered.
_PROBE_SECONDS = 5.0
_FAILURES = 6
_LOGS_KEPT = 50
_LOG_BYTES = 1 << 20
# Ray's own, which is about this actor and no business of vLLM's.
_RAYS = ("RAY_", "OMP_NUM_THREADS")


class Replica:
    """The engine that an order describes, under a name of its own. Its node is this one.

    `address` is the node's, at which gateways reach it.
    """

    def __init__(self, name: str, order: Order, address: str) -> None:
        self._name = name
        self._order = order
        self._address = address
        self._phase = Phase.PLACING
        self._since = time.time()
        self._why = ""
        self._url = ""
        self._load = (0, 0)
        self._ended = False
        self._child: Child | None = None
        self._ports = Ports(order.first_port, order.last_port)
        folder = settings.load().state_dir
        self._log = folder / "logs" / "fleet" / order.fleet / f"{name}.log"
        self._folder = folder / "fleet" / order.fleet / name
        self._life: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        """Whether its process was started, or could not be."""

    async def start(self) -> None:
        """Start it. Returns at once; repeating it does nothing."""
        self._life = self._life or asyncio.create_task(self._live())

    async def report(self) -> Report:
        """What is known of it now."""
        return Report(
            self._order,
            self._phase,
            self._url,
            self._since,
            self._why,
            self._child.process if self._child else 0,
            *self._load,
            self._ended,
        )

    async def drain(self) -> None:
        """Let its streams end, and then it. Returns when it has; repeating it does nothing."""
        if self._phase is Phase.DRAINING:
            return
        serving = self._phase is Phase.READY
        self._phase, self._why = Phase.DRAINING, "streams may end"
        if self._life is not None:
            await self._begun.wait()  # or it would be started after it has ended
        if serving:
            await asyncio.sleep(self._order.notice)
        await self._end(self._order.drain + ENGINE_EXIT_SECONDS if serving else ENGINE_EXIT_SECONDS)

    async def log(self, lines: int) -> str:
        """The end of what it printed."""
        return await asyncio.to_thread(_tail, self._log, lines)

    async def _live(self) -> None:
        try:
            try:
                child, engine = await asyncio.to_thread(self._begin)
            finally:
                self._begun.set()
            await self._until_started(child, engine)
            await self._while_well(child, engine)
        except UserError as error:
            if self._phase is not Phase.DRAINING:
                self._phase, self._why = Phase.FAILED, f"{error}"
                await self._end(ENGINE_EXIT_SECONDS)
        except OSError as error:
            self._phase = Phase.FAILED
            self._why = f"cannot write to {self._folder}: {error.strerror}: set GPTOSS_STATE_DIR"
            await self._end(ENGINE_EXIT_SECONDS)
        except Exception as error:  # what nobody looks after is nothing to send requests to
            self._phase, self._why = Phase.FAILED, f"{type(error).__name__}: {error}"
            await self._end(ENGINE_EXIT_SECONDS)

    def _begin(self) -> tuple[Child, probe.Engine]:
        order, port = self._order, self._ports.take(self._address)
        host = listens_on(self._address)
        probed = host if host == self._address else "127.0.0.1"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        _prune(self._log.parent, "*.log")
        argv = [sys.executable, "-m", "service.cli", "engine", *order.arguments(host, port)]
        argv += ["--state-dir", str(self._folder)]
        env = {name: value for name, value in os.environ.items() if not name.startswith(_RAYS)}
        # Ray counts cards as the driver does, and CUDA does so only when it is told to.
        env |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **order.variables()}
        # Ray kills an actor's children with it: streams would be cut, and vLLM's core stay.
        self._child = Child("engine", argv, env, self._log, between=True)
        if self._phase is Phase.PLACING:  # else it was told to end meanwhile
            self._phase, self._why = Phase.STARTING, "loading"
        shown = f"[{self._address}]" if ":" in self._address else self._address
        self._url = f"http://{shown}:{port}"
        return self._child, probe.Engine(port, _PROBE_SECONDS, probed)

    async def _until_started(self, child: Child, engine: probe.Engine) -> None:
        """Until it has answered as clients expect. Raises `UserError` for one that does not."""
        notes = probe.Notes(self._folder, 0)
        key = os.environ.get("VLLM_API_KEY", "")
        while self._phase is Phase.STARTING:
            if child.status is not None:
                raise child.ended()
            if time.time() - self._since > self._order.startup:
                raise UserError(
                    f"it was not ready after {self._order.startup:g} s ({self._why}): see"
                    f" {self._log}, or raise startupSeconds"
                )
            try:
                await asyncio.to_thread(probe.started, engine, notes, key)
                if self._phase is Phase.STARTING:
                    self._phase, self._why = Phase.READY, ""
                return
            except UserError as error:
                self._why = str(error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _while_well(self, child: Child, engine: probe.Engine) -> None:
        """Until it drains. Raises `UserError` for one that has ended, hangs, or does not answer."""
        failures, progress = 0, None
        while self._phase is Phase.READY:
            if child.status is not None:
                raise child.ended()
            try:
                page = await asyncio.to_thread(_look, engine)
                failures = 0
            except UserError:
                page, failures = None, failures + 1
                if failures == _FAILURES:
                    raise
            if page is not None:
                progress = self._got_on(page, progress)
                self._load = (page.running, page.waiting)
            await asyncio.sleep(_LOOK_SECONDS)

    def _got_on(self, page: EnginePage, before: Standstill | None) -> Standstill:
        """How long it has stood still. Raises `UserError` where that is too long."""
        now, stall = time.monotonic(), self._order.stall
        if before is None:
            return Standstill(page.progress, page.running, now)
        after = before.then(now, page.running, page.progress, stall)
        if reason := after.reason(stall):
            raise UserError(reason)
        return after

    async def _end(self, seconds: float) -> None:
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, seconds)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        self._load = (0, 0)
        self._ended = True
        self._ports.release()


class Ports:
    """A port of a node for its engine, which no other engine there takes meanwhile."""

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._claim: socket.socket | None = None

    def take(self, address: str) -> int:
        """A port at which nothing listens. Raises `UserError` where all are taken."""
        for port in self._range:
            claim = socket.socket(socket.AF_UNIX)
            try:
                # An engine listens long after it was started: until then this name says so.
                claim.bind(f"\0gptoss-fleet-{address}-{port}")
                _bind(address, port)
                _bind(listens_on(address), port)
                self._claim = claim
                return port
            except OSError as error:
                claim.close()
                if error.errno == errno.EADDRNOTAVAIL:
                    raise UserError(
                        f"{address} is no address of this node: `ray start --node-ip-address` says"
                        " one"
                    ) from None
        raise UserError(
            f"on {address} all ports from {self._range[0]} to {self._range[-1]} are taken: end what"
            " listens there, or give others as `ports`"
        )

    def release(self) -> None:
        """It may be somebody else's."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def listens_on(address: str) -> str:
    """Where an engine on the node of that address listens: on all of them, so that it can be asked
    at its loopback too; on that one alone where the cluster is on loopback itself."""
    if address.startswith("127."):
        return address
    return "::" if ":" in address else "0.0.0.0"  # noqa: S104


def _bind(address: str, port: int) -> None:
    """Raises `OSError` where something listens there already."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))


def _look(engine: probe.Engine) -> EnginePage | None:
    engine.check()
    return EnginePage.read(engine.page())


def _tail(log: Path, lines: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _LOG_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _prune(folder: Path, pattern: str) -> None:
    """Keep the newest logs only."""
    ages = {}
    for log in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another engine of the node prunes them, too
            ages[log] = log.stat().st_mtime
    for old in sorted(ages, key=ages.__getitem__, reverse=True)[_LOGS_KEPT:]:
        old.unlink(missing_ok=True)
