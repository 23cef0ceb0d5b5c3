"""What a request costs the gateway: `.venv/bin/python -m tests.cost`.

CPU time of the gateway process (user and system, from /proc), divided by the requests and by the
chunks that went through it. The engine is a stand-in, which answers at once and as vLLM writes:
what is measured is the gateway, and a real engine would take most of the machine. Everything is on:
authentication, limits, reservation, settlement, ledger, metrics, log. Run it twice and compare
ratios: machines differ, and one machine differs from hour to hour.
"""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

import aiohttp

from service.quota.limits import Limits
from service.tenants.team import Team
from tests.integration.fake_engine import EVENT, STREAM_HEAD, chunk, json_answer, used
from tests.office import Office
from tests.process import GPTOSS, environment, free_port, running

CHUNKS = 100
BODY = {"messages": [{"role": "user", "content": "x" * 2000}], "max_tokens": CHUNKS}


def main() -> None:
    """Print both costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--quota", default="", help="quota.url; empty: counters in the process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), options))


async def _measure(home: Path, options: argparse.Namespace) -> None:
    office = Office.at(home / "state")
    office_work = asyncio.to_thread(_new_token, office)
    token = await office_work
    engine = await asyncio.start_server(_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}"
    port, ops = free_port(), free_port()
    env = environment(
        home,
        {
            "GPTOSS_STATE_DIR": str(home / "state"),
            "GPTOSS_GATEWAY__PORT": str(port),
            "GPTOSS_GATEWAY__OPS_PORT": str(ops),
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps([{"model": "m", "url": url}]),
            "GPTOSS_QUOTA__URL": options.quota,
            "GPTOSS_LEDGER__FLUSH": os.environ.get("FLUSH", "1"),
        },
    )
    gateway = running(
        [*GPTOSS, "gateway"], env, ready=f"http://127.0.0.1:{ops}/livez", log=home / "log"
    )
    process = await asyncio.to_thread(gateway.__enter__)
    try:
        base = f"http://127.0.0.1:{port}/v1/chat/completions"
        headers = {"authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for stream, count in ((False, options.requests), (True, options.streams)):
                await _run(session, base, stream, 50, options.at_once)
                before = cpu_seconds(process.pid)
                await _run(session, base, stream, count, options.at_once)
                spent = (cpu_seconds(process.pid) - before) / count * 1e6
                what = (
                    f"{spent / CHUNKS:6.1f} µs a chunk" if stream else f"{spent:6.0f} µs a request"
                )
                print(f"{'stream' if stream else 'whole ':7} {what}")  # noqa: T201
    finally:
        await asyncio.to_thread(gateway.__exit__, None, None, None)
        engine.close()


def _new_token(office: Office) -> str:
    limits = Limits(rpm=10_000_000, tpm=100_000_000, concurrency=10_000, daily_tokens=10**12)
    office.add_team(Team("cost", limits=limits))
    return office.add_key("cost")[1]


async def _run(
    session: aiohttp.ClientSession, url: str, stream: bool, count: int, at_once: int
) -> None:
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            async with session.post(url, json={"model": "m", "stream": stream, **BODY}) as answer:
                body = await answer.read()
                assert answer.status == 200, body

    await asyncio.gather(*(client() for _ in range(at_once)))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # its end
        await _answer_all(reader, writer)
    writer.close()


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    whole = json_answer(200, {"object": "chat.completion", "choices": [], "usage": used(CHUNKS)})
    while head := await reader.readuntil(b"\r\n\r\n"):
        length = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if not length:
            writer.write(json_answer(200 if b" /health " in head else 404, {}))
            continue
        body = await reader.readexactly(int(length[0].split(b":")[1]))
        if not json.loads(body)["stream"]:
            writer.write(whole)
            continue
        writer.write(STREAM_HEAD)
        for number in range(CHUNKS):
            usage = json.dumps(used(number), separators=(",", ":")).encode()
            writer.write(chunk(EVENT.replace(b"]}", b'],"usage":' + usage + b"}")))
            await asyncio.sleep(0.01)  # each its own packet and wake-up, as an engine's are
        last = b'data: {"choices":[],"usage":%s}\n\n' % json.dumps(used(CHUNKS)).encode()
        writer.write(chunk(last) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
