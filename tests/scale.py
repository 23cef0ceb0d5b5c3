"""What a gateway holds: `.venv/bin/python -m tests.scale`, about two minutes.

One gateway process with 1,000 replicas and 10,000 open streams: memory per open stream,
descriptors, and what the streams cost while they are open. The replicas are addresses of the
loopback network on which one stand-in listens, a process of its own: real engines would not fit on
any machine that runs this. It sends an event to each stream every few seconds.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.cost import cpu_seconds
from tests.integration.fake_engine import EVENT, STREAM_HEAD, chunk, json_answer, used
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

PORT = 18_999
EVENT_SECONDS = 5.0
_HELD_SECONDS = 20.0
_CONNECTING = 200


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    most = _allow_many_files()
    if options.engine:
        asyncio.run(_serve(options.replicas))
        return
    if options.streams > most:
        sys.stdout.write(f"{options.streams} streams need more than `ulimit -Hn`: {most} instead\n")
    with tempfile.TemporaryDirectory() as folder, _engine(options.replicas):
        asyncio.run(_measure(Path(folder), options.replicas, min(options.streams, most)))


async def _measure(home: Path, replicas: int, streams: int) -> None:
    token = await asyncio.to_thread(_new_token, Office.at(home / "state"))
    port, ops = free_port(), free_port()
    config = home / "config.yaml"
    upstreams = [{"model": "m", "url": f"http://{host}:{PORT}"} for host in _hosts(replicas)]
    config.write_text(json.dumps({"gateway": {"upstreams": upstreams}}))  # JSON is YAML
    env = environment(
        home,
        {
            "GPTOSS_STATE_DIR": str(home / "state"),
            "GPTOSS_CONFIG": str(config),
            "GPTOSS_GATEWAY__PORT": str(port),
            "GPTOSS_GATEWAY__OPS_PORT": str(ops),
            "GPTOSS_DRAIN": "1",
        },
    )
    ready = f"http://127.0.0.1:{ops}/readyz"
    gateway = running([*GPTOSS, "gateway"], env, ready=ready, log=home / "log", seconds=60)
    process = await asyncio.to_thread(gateway.__enter__)
    try:
        await asyncio.sleep(10)  # all replicas have been checked once
        _say("idle", process.pid, 0, 0.0)
        before, idle = cpu_seconds(process.pid), _rss(process.pid)
        await asyncio.sleep(_HELD_SECONDS)
        watching = (cpu_seconds(process.pid) - before) / _HELD_SECONDS
        sys.stdout.write(f"checks of {replicas} replicas: {watching:.1%} of a core\n")
        async with _open_streams(port, token, streams):
            before = cpu_seconds(process.pid)
            await asyncio.sleep(_HELD_SECONDS)
            busy = (cpu_seconds(process.pid) - before) / _HELD_SECONDS - watching
            _say("open", process.pid, streams, busy)
            per_stream = (_rss(process.pid) - idle) / streams
            sys.stdout.write(f"{per_stream / 1024:.1f} KiB an open stream\n")
    finally:
        await asyncio.to_thread(gateway.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def _open_streams(port: int, token: str, number: int) -> AsyncIterator[None]:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    left, opened = asyncio.Semaphore(_CONNECTING), asyncio.Semaphore(0)
    session = aiohttp.ClientSession(
        headers={"authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
    )

    async def stream(number: int) -> None:
        messages = [{"role": "user", "content": f"question {number}"}]
        body = {"model": "m", "stream": True, "messages": messages, "max_tokens": 100}
        async with left:
            answer = await session.post(url, json=body)
            assert answer.status == 200, await answer.read()
        opened.release()
        async for _ in answer.content.iter_any():
            pass

    async with session, asyncio.TaskGroup() as tasks:
        running_streams = [tasks.create_task(stream(number)) for number in range(number)]
        for _ in range(number):
            await opened.acquire()
        yield
        for task in running_streams:
            task.cancel()


def _say(what: str, pid: int, streams: int, busy: float) -> None:
    files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    sys.stdout.write(
        f"{what}: {streams} streams, {_rss(pid) / 2**20:.0f} MiB, {files} descriptors,"
        f" {busy:.1%} of a core for them\n"
    )


def _new_token(office: Office) -> str:
    office.add_team(Team("scale", limits=Limits(concurrency=1_000_000)))
    return office.add_key("scale")[1]


def _rss(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _allow_many_files() -> int:
    """Raise the limit of descriptors as far as may be. Returns the streams that a gateway takes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return int(hard * 0.85) // 2


def _hosts(number: int) -> list[str]:
    return [f"127.0.{1 + place // 250}.{1 + place % 250}" for place in range(number)]


@contextlib.contextmanager
def _engine(replicas: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.scale", "--engine", "--replicas", str(replicas)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"listening\n"
        yield
    finally:
        process.kill()
        process.wait()


async def _serve(replicas: int) -> None:
    for host in _hosts(replicas):
        await asyncio.start_server(_answer, host, PORT, backlog=256)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            if not length:
                writer.write(json_answer(200 if b" /health " in head else 404, {}))
                continue
            await reader.readexactly(int(length[0].split(b":")[1]))
            await _stream(writer)
    writer.close()


async def _stream(writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    number = 0
    while True:
        number += 1
        usage = json.dumps(used(number), separators=(",", ":")).encode()
        writer.write(chunk(EVENT.replace(b"]}", b'],"usage":' + usage + b"}")))
        await writer.drain()
        await asyncio.sleep(EVENT_SECONDS)


if __name__ == "__main__":
    main()
