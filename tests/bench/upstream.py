"""`python -m tests.bench.upstream PORT`: an engine that computes nothing and keeps time.

It streams known chunks, 10 ms apart by the clock, to any number of streams, and answers in one
piece at once. A tenth of the streams is served in each millisecond: a gateway has several engines
behind it, whose steps fall together no more than these do. The first token comes at once.
`POST /release` lets the streams go on that were asked to stand still. It ends with its standard
input.
"""

import asyncio
import json
import sys
from collections import deque
from typing import Any, Final, cast

import httptools
import uvloop

from tests.bench import wire

_PHASES: Final = 10


class Pace:
    """The clock of all streams, and what they have said in sum, as vLLM's metrics have it."""

    def __init__(self) -> None:
        self.held: set[Connection] = set()
        self.running = self.requests = self.tokens = self.steps = 0
        self._wheel: list[deque[Connection]] = [deque() for _ in range(_PHASES)]
        self._place = 0
        self._due = 0.0

    def start(self) -> None:
        """Begin, in the running loop."""
        self._due = asyncio.get_running_loop().time()
        self._turn()

    def add(self, stream: "Connection") -> None:
        """Give it a token from one step from now on."""
        self._wheel[(self._place - 1) % _PHASES].append(stream)

    def release(self) -> None:
        """Let those go on that stand still, spread over the phases."""
        for number, stream in enumerate(self.held):
            self._wheel[number % _PHASES].append(stream)
        self.held.clear()

    def page(self) -> bytes:
        """The metrics."""
        values = {
            "num_requests_running": self.running,
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.25,
            "prompt_tokens_total": wire.PROMPT_TOKENS * self.requests,
            "generation_tokens_total": self.tokens,
            # Grows also while all streams stand still: no engine has stalled here.
            "iteration_tokens_total_sum": self.tokens,
            "iteration_tokens_total_count": self.steps,
        }
        lines = [f'vllm:{name}{{engine="0"}} {float(value)}\n' for name, value in values.items()]
        return "".join(lines).encode()

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        # What is a little late is sent now and the next at its own time, so that no delay adds up.
        # A whole step that was missed is gone: no engine sends two tokens of a stream for it.
        self._due = max(self._due, loop.time() - wire.STEP_SECONDS / 2)
        while self._due <= loop.time():
            phase = self._wheel[self._place]
            for _ in range(len(phase)):
                stream = phase.popleft()
                if stream.send_token():
                    phase.append(stream)
            self._place = (self._place + 1) % _PHASES
            self.steps += 1
            self._due += wire.STEP_SECONDS / _PHASES
        loop.call_at(self._due, self._turn)


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, pace: Pace, frames: "Frames") -> None:
        self._pace = pace
        self._frames = frames
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path, self._body = b"", b""
        self._sending: list[bytes] = []
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by their class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._parser = None  # it refers to this
        self._pace.held.discard(self)
        if self._sending:
            self._sending = []
            self._pace.running -= 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._path, self._body = b"", b""

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        match self._path:
            case b"/v1/chat/completions":
                self._answer(json.loads(self._body))
            case b"/health":
                self._whole(b"", b"text/plain")
            case b"/metrics":
                self._whole(self._pace.page(), b"text/plain")
            case b"/v1/models":
                models = {"object": "list", "data": [{"id": wire.MODEL, "object": "model"}]}
                self._whole(json.dumps(models).encode())
            case b"/release":
                self._pace.release()
                self._whole(b"{}")
            case _:
                self._whole(b"{}", status=b"404 Not Found")

    def send_token(self) -> bool:
        """Send the next token, and say whether more are to come."""
        if self._transport is None or not self._sending:
            return False
        self._transport.write(self._sending[self._sent])
        self._sent += 1
        self._pace.tokens += 1
        if self._sent < len(self._sending):
            return True
        self._sending = []
        self._pace.running -= 1
        return False

    def _answer(self, asked: dict[str, Any]) -> None:
        pace, tokens = self._pace, int(asked["max_tokens"])
        pace.requests += 1
        if not asked.get("stream"):
            pace.tokens += tokens
            self._whole(wire.answer(tokens))
            return
        options = asked.get("stream_options") or {}
        usage = bool(options.get("continuous_usage_stats"))
        self._sending, self._sent = self._frames.of(tokens, usage), 0
        pace.running += 1
        if not self.send_token():
            return
        if str(asked["messages"][-1]["content"]).startswith(wire.HELD):
            pace.held.add(self)
        else:
            pace.add(self)

    def _whole(
        self, body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK"
    ) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        if self._transport is not None:
            self._transport.write(head % (status, kind, len(body)) + body)


class Frames:
    """What is written for each token of a stream; made once for each length."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, bool], list[bytes]] = {}

    def of(self, tokens: int, usage: bool) -> list[bytes]:
        """One write for each token: the first brings what comes before it, the last what follows.

        `usage` is whether each chunk says how much was used so far.
        """
        if (tokens, usage) not in self._made:
            events = [wire.token_event(number, usage) for number in range(1, tokens + 1)]
            frames = [wire.framed(event) for event in events]
            frames[0] = wire.STREAM_HEAD + wire.framed(wire.opening(usage)) + frames[0]
            ends = [wire.framed(event) for event in wire.ending(tokens, usage)]
            frames[-1] += b"".join(ends) + wire.END
            self._made[tokens, usage] = frames
        return self._made[tokens, usage]


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    pace, frames = Pace(), Frames()
    await loop.create_server(lambda: Connection(pace, frames), "127.0.0.1", port, backlog=4096)
    pace.start()
    # A parent that is gone leaves nobody behind.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
