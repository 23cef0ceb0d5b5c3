"""What the benchmark takes for an answer, and how it counts."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.bench import accounting
from tests.bench.__main__ import main
from tests.bench.client import Order
from tests.bench.connection import Connection, Times, Wrong
from tests.bench.processes import Failed, Sender

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: 1\n\n\r\n"
END = b"0\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Transport:
    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass


async def ask(*reads: bytes) -> Times:
    connection, times = Connection(), Times()
    made: Any = Transport()
    connection.connection_made(made)
    for read in reads:
        asyncio.get_running_loop().call_soon(connection.data_received, read)
    async with asyncio.timeout(5):
        await connection.ask(b"", lambda body: None, times)
    return times


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_tokens_that_come_by_themselves_are_on_time_and_nothing_else_is_counted() -> None:
    async def test() -> None:
        apart = await ask(HEAD, EVENT, EVENT, EVENT, END)
        together = await ask(HEAD + EVENT + EVENT + EVENT + END)
        assert (apart.reads, together.reads) == (2, 1)

    run(test)


@pytest.mark.parametrize("surplus", [WHOLE, b"garbage"])
def test_what_follows_an_answer_is_wrong(surplus: bytes) -> None:
    async def test() -> None:
        await ask(WHOLE)
        with pytest.raises(Wrong):
            await ask(WHOLE + surplus)

    run(test)


def test_a_client_that_was_late_once_is_not_asked_again() -> None:
    """What it says of one order would be taken for what it says of the next."""
    late = "import time; input(); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", late], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            sender, order = Sender(process), Order("requests", 1, seconds=-9.9)
            with pytest.raises(Failed, match="has stopped answering"):
                sender.do(order)
            assert process.poll() is not None
            with pytest.raises(Failed, match="has ended"):
                sender.do(order)
        finally:
            process.kill()


def test_a_clock_that_cannot_be_read_is_not_a_cost_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(clock: int) -> float:
        raise OSError("no such clock")

    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            monkeypatch.setattr(time, "clock_gettime", refused)
            with pytest.raises(OSError, match="no such clock"):
                accounting.cpu_seconds(process.pid)
        finally:
            process.kill()


def test_a_check_of_less_than_one_turn_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--check", "--requests", "9"])
    with pytest.raises(SystemExit):
        main()
    assert "--requests has to be 10 or more" in capsys.readouterr().err
