"""A server that computes nothing: it streams as vLLM does, at a pace, with next to no work.

`python -m loadtest.null_server RATE` prints its port. Against it a load test meets its own ceiling.
Each answer has as many chunks as its request's `max_tokens` says, RATE of them a second; a rate of
0 gives all at once. It ends when its standard input does.
"""

import asyncio
import re
import sys
from collections import deque
from typing import cast

import uvloop

_TICK = 0.001
_LIMIT = re.compile(rb'"max_tokens": ?(\d+)')
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _framed(text: bytes) -> bytes:
    data = b"data: " + text + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunk(delta: bytes, finish: bytes = b"null") -> bytes:
    return _framed(
        b'{"id":"chatcmpl-4f8b2c1d9e7a4f8b2c1d9e7a4f8b2c1d","object":"chat.completion.chunk",'
        b'"created":1790000000,"model":"gpt-oss-120b","choices":[{"index":0,"delta":%b,'
        b'"logprobs":null,"finish_reason":%b,"token_ids":null}]}' % (delta, finish)
    )


ROLE = _chunk(b'{"role":"assistant","content":""}')
TOKEN = _chunk(b'{"content":" word"}')
_FINISH = _chunk(b"{}", b'"stop"')
_DONE = _framed(b"[DONE]") + b"0\r\n\r\n"


def _end(tokens: int) -> bytes:
    usage = b'{"prompt_tokens":64,"completion_tokens":%d,"total_tokens":%d}'
    counted = usage % (tokens, 64 + tokens)
    return _FINISH + _framed(b'{"choices":[],"usage":%b}' % counted) + _DONE


class Pace:
    """Gives all streams their chunks: each one in its own millisecond of the period."""

    def __init__(self, rate: float) -> None:
        slots = max(round(1 / (rate * _TICK)), 1) if rate else 1
        self.at_once = not rate
        self._wheel: list[deque[Stream]] = [deque() for _ in range(slots)]
        self._place = 0
        self._due = 0.0

    def start(self) -> None:
        """Begin, in the running loop."""
        self._due = asyncio.get_running_loop().time()
        self._turn()

    def add(self, stream: "Stream") -> None:
        """From one period from now on."""
        self._wheel[(self._place - 1) % len(self._wheel)].append(stream)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due <= loop.time():
            slot = self._wheel[self._place]
            for _ in range(len(slot)):
                stream = slot.popleft()
                if stream.token():
                    slot.append(stream)
            self._place = (self._place + 1) % len(self._wheel)
            self._due += _TICK
        loop.call_at(self._due, self._turn)


class Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._got = b""
        self._left = 0
        self._tokens = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by their class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or len(body) < (int(length[1]) if length else 0):
            return
        self._got = b""
        if head.startswith(b"GET"):
            self._models()
            return
        limit = _LIMIT.search(body)
        self._tokens = self._left = int(limit[1]) if limit else 1
        if self._transport is None:
            return
        if self._pace.at_once:
            self._transport.write(_HEAD + ROLE + TOKEN * self._tokens + _end(self._tokens))
        else:
            self._transport.write(_HEAD + ROLE)
            self._pace.add(self)

    def _models(self) -> None:
        body = b'{"object":"list","data":[{"id":"null","object":"model"}]}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        if self._transport is not None:
            self._transport.write(head % len(body) + body)

    def token(self) -> bool:
        """Send one, and say whether more are to come."""
        if self._transport is None:
            return False
        self._left -= 1
        self._transport.write(TOKEN if self._left else TOKEN + _end(self._tokens))
        return self._left > 0


async def _serve(rate: float) -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(rate)
    server = await loop.create_server(lambda: Stream(pace), "127.0.0.1", 0, backlog=4096)
    pace.start()
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # A parent that is gone leaves nobody behind.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    from loadtest.client.worker import raise_limits

    raise_limits()
    uvloop.run(_serve(float(sys.argv[1])))
