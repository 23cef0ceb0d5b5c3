"""Processes of the tests: started on loopback, waited for by events, always ended."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from tests import web

GPTOSS = (sys.executable, "-m", "service.cli")

_claims = contextlib.ExitStack()


def free_port(in_a_row: int = 1) -> int:
    """A port that nobody uses now, and whose next ones are free as well.

    It is below those that the kernel gives to clients: an engine takes half a minute until it
    listens, and no connection of anybody takes its port meanwhile. Whoever is given one keeps it
    until the end of this process: also from tests that run beside it.
    """
    while True:
        with contextlib.ExitStack() as probes, contextlib.ExitStack() as claims:
            first = 20_000 + secrets.randbelow(12_000)
            with contextlib.suppress(OSError):
                for port in range(first, first + in_a_row):
                    # A name on this machine: taken where the port is somebody else's.
                    _bind(claims, socket.AF_UNIX, f"\0gptoss-test-port-{port}")
                    _bind(probes, socket.AF_INET, ("127.0.0.1", port))
                _claims.enter_context(claims.pop_all())
                return first


def _bind(stack: contextlib.ExitStack, family: int, address: str | tuple[str, int]) -> None:
    stack.enter_context(socket.socket(family)).bind(address)


def environment(home: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """This process's environment, with a home, cache and state of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if "GPTOSS" not in name}
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": "",
        "NO_COLOR": "1",
    }
    return inherited | own | {"COLUMNS": "200"} | dict(extra)


@contextlib.contextmanager
def running(
    argv: Sequence[str], env: Mapping[str, str], *, ready: str, log: Path, seconds: float = 120
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers 200 at the URL `ready`; ended by SIGTERM, or SIGKILL after 20 s."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, env=dict(env), stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_ready(process, ready, log, seconds)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    """Return once `url` answers 200; fail with the end of the log if that does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}:\n{tail(log)}")
        with contextlib.suppress(httpx.TransportError):
            if web.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} was not ready within {seconds} s:\n{tail(log)}")


def tail(log: Path, lines: int = 40) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
