"""The least that a client on aiohttp and uvloop can do: read streams, and look at nothing.

`python -m tests.speed.bare_reader URL STREAMS SECONDS` prints bytes per CPU-second.
"""

import asyncio
import json
import sys
import time

import aiohttp
import uvloop


async def measure(url: str, streams: int, seconds: float) -> float:
    """Bytes of answers per second of this process's CPU time, while all streams are open."""
    count = 0
    body = json.dumps({"max_tokens": 10_000}, separators=(",", ":")).encode()

    async def read(session: aiohttp.ClientSession) -> None:
        nonlocal count
        async with session.post(f"{url}/v1/chat/completions", data=body) as response:
            async for data in response.content.iter_any():
                count += len(data)

    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        tasks = []
        for _ in range(streams):
            # Each at another time, as real streams are: reads that come together are cheaper.
            tasks.append(asyncio.create_task(read(session)))
            await asyncio.sleep(1 / streams)
        await asyncio.sleep(1)
        bytes_before, before = count, time.process_time()
        await asyncio.sleep(seconds)
        rate = (count - bytes_before) / (time.process_time() - before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return rate


if __name__ == "__main__":
    found = uvloop.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(f"{found}\n")
