"""The upstream and the client: each a process of its own, beside what is measured."""

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import httpx

from tests.bench.client import Done, Order
from tests.process import environment, free_port, stop, wait_until_ready

_SPARE_SECONDS: Final = 10


class Failed(Exception):
    """What was to be measured went wrong; one line says what."""


@contextlib.contextmanager
def upstream(home: Path) -> Iterator[int]:
    """The upstream. Its port."""
    port, log = free_port(), home / "upstream.log"
    line = [sys.executable, "-m", "tests.bench.upstream", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            line, env=environment(home), stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health", log, 30)
            yield port
        finally:
            stop(process)


def release(upstream_port: int) -> None:
    """Let the streams go on that stand still."""
    httpx.post(f"http://127.0.0.1:{upstream_port}/release", trust_env=False).raise_for_status()


class Sender:
    """The client, seen from here."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def do(self, *orders: Order) -> list[Done]:
        """Have orders carried out, all at once. Raises `Failed` if not all was whole and right."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is not None:
            raise Failed("the client has ended: see what it said above")
        self._process.stdin.write(json.dumps([asdict(order) for order in orders]) + "\n")
        self._process.stdin.flush()
        seconds = max(order.seconds for order in orders) + _SPARE_SECONDS
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            # What it might say later would be taken for what it says of the next orders.
            self._process.kill()
            self._process.wait()
            raise Failed("the client has stopped answering: see what it said above")
        done = [Done(**one) for one in json.loads(line)]
        for one in done:
            if one.error:
                raise Failed(one.error)
        return done


@contextlib.contextmanager
def client(home: Path) -> Iterator[Sender]:
    """The client. What it complains of goes where this process's complaints go."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.client"],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield Sender(process)
        finally:
            process.kill()
