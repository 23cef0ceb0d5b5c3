"""The load test is fast enough to be believed: measured against what its libraries can do at all.

Machines differ, and one machine differs from minute to minute: what is asserted are ratios within
a run. `python -m tests.speed.test_loadtest` prints the absolute figures.
"""

import asyncio
import json
import resource
import sys
import time

import pytest

from loadtest.client.data import Endpoint
from loadtest.client.request import Request, Sender
from loadtest.client.worker import raise_limits
from loadtest.null_server import TOKEN
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.scenario.document import Timeouts
from loadtest.selfcheck import null_server, steady

STREAMS = 200
SECONDS = 5.0
TOKEN_BYTES = int(TOKEN.split(b"\r\n")[0], 16)


async def bare() -> float:
    """Chunks per CPU-second of a client that looks at nothing."""
    async with null_server(20) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.speed.bare_reader",
            url,
            str(STREAMS),
            str(SECONDS),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    return float(out) / TOKEN_BYTES


async def ours() -> float:
    """Chunks per CPU-second of a worker, with all that it does beside reading."""
    return (await steady(STREAMS, SECONDS, probes=0.1)).chunks_per_cpu_second


def test_all_that_is_measured_costs_no_more_than_reading_itself() -> None:
    # The best of several of each: what else the machine does can only make either slower.
    pairs = [(asyncio.run(ours()), asyncio.run(bare())) for _ in range(3)]
    most, bound = max(own for own, _ in pairs), max(other for _, other in pairs)
    assert most > 0.4 * bound, pairs


def test_one_process_holds_ten_thousand_streams() -> None:
    if raise_limits() < 10_100:
        pytest.skip("this system allows no 10,000 connections to a process")

    async def work() -> list[Record]:
        body = json.dumps({"max_tokens": 8}, separators=(",", ":")).encode()
        # A token in two seconds each: all are open when the last one begins.
        async with null_server(0.5) as url, Sender(Endpoint(url, "m"), Timeouts()) as sender:
            records = [Record(index=n, team="a", scheduled=0.0) for n in range(10_000)]
            tasks = []
            for record in records:
                work = sender.send(Request(body, {}, True), record, sender.reading())
                tasks.append(asyncio.create_task(work))
                if record.index % 50 == 0:
                    await asyncio.sleep(0)
            while sum(reading.pieces > 0 for _, reading in sender.open.values()) < 10_000:
                await asyncio.sleep(0.5)
                assert len(sender.open) == 10_000, "some ended before all were open"
            for deadline in list(sender.open):
                deadline.leave(Outcome.CANCELLED, "seen")
            await asyncio.gather(*tasks)
            return records

    records = asyncio.run(asyncio.wait_for(work(), 100))
    assert {record.code for record in records} == {"seen"}
    assert all(record.pieces > 0 for record in records)


def main() -> None:
    """Print what this machine does."""
    say = sys.stdout.write
    for _ in range(3):
        say(f"ours {asyncio.run(ours()):,.0f}  bare {asyncio.run(bare()):,.0f} chunks/CPU-s\n")
    for streams in (200, 750):
        say(f"{asyncio.run(steady(streams, 6))}\n")
    began, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    say(f"{asyncio.run(steady(10_000, 10, rate=0.5))}\n")
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - usage
    say(f"10,000 streams: {time.monotonic() - began:.0f} s, {used:.0f} s of CPU\n")


if __name__ == "__main__":
    main()
