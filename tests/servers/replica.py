"""A stand-in for vLLM, as a process: `python -m tests.servers.replica PORT`.

A stand-in, because real vLLM takes a minute to start and cannot be made to fail at a chosen byte.
What it says and how it ends is vLLM 0.32's: usage in every chunk, names of metrics, and a drain
that answers new requests with nothing. The same faults are tried on real vLLM in `tests/e2e`.

A message begins with the number of tokens that its answer has. Every one of them is the replica's
own address, so that a client knows who answered.
"""

import argparse
import asyncio
import contextlib
import json
import signal
from enum import StrEnum, auto
from typing import Any

from tests.integration.fake_engine import (
    DONE,
    END,
    PROMPT,
    STREAM_HEAD,
    Call,
    Connection,
    chunk,
    json_answer,
    used,
)

SLOWDOWN = 16
EVENTS_BEFORE_CUT = 3
_COMMENT_SECONDS = 1.0
# Of an engine whose queue is full: all of it belongs to others.
_FULL = 100
BEFORE_FULL = 3
"""Requests that it refuses before it says so: what an engine says of itself is always late."""


class Mode(StrEnum):
    """What becomes of requests."""

    WELL = auto()
    SILENT = auto()
    """New ones are accepted, and never answered."""
    STALL = auto()
    """The engine stands still: open streams get comments, counters are frozen, health is good."""
    CUT = auto()
    """The connection is closed midway."""
    SLOW = auto()
    FULL = auto()
    """503: the queue is full."""
    FAIL = auto()
    """500."""


class Replica:
    """The server. `pace` is between two tokens, s; `drain` how long it ends at most, s."""

    def __init__(self, address: str, pace: float, drain: float) -> None:
        self._address = address
        self._pace = pace
        self._drain = drain
        self._mode = Mode.WELL
        self._ending = False
        self._running = 0
        self._seen = 0
        self._midway = 0
        self._refused = 0
        self._prompts = self._generated = self._steps = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def serve(self, host: str, port: int) -> None:
        """Until SIGTERM, and then as long as requests are open and the drain lasts."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        server = await asyncio.start_server(self._connected, host, port, backlog=1024)
        await ended.wait()
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                await self._idle.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        writer.close()

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request, *lines = head.strip().split("\r\n")
        method, path, _ = request.split()
        headers = {n.lower(): value for n, _, value in (line.partition(": ") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        connection = Connection(reader, writer, Call(path, headers, body))
        match method, path:
            case "GET", "/health":
                await connection.send(json_answer(200, {}))
            case "GET", "/metrics":
                await connection.send(_page(self._metrics()))
            case "GET", "/seen":
                seen = {"requests": self._seen, "open": self._running, "midway": self._midway}
                await connection.send(json_answer(200, seen))
            case "PUT", "/mode":
                self._mode = Mode(body["mode"])
                await connection.send(json_answer(200, {}))
            case _:
                await self._infer(connection)

    async def _infer(self, connection: Connection) -> None:
        self._seen += 1
        if self._ending:
            await self._say_nothing(connection)
        elif self._mode is Mode.SILENT:
            await connection.until_closed()
        elif self._mode is Mode.FULL:
            self._refused += 1
            await connection.send(json_answer(503, {"error": {"message": "queue is full"}}))
        elif self._mode is Mode.FAIL:
            await connection.send(json_answer(500, {"error": {"message": "CUDA error"}}))
        else:
            self._running += 1
            self._idle.clear()
            closed = asyncio.ensure_future(connection.until_closed())
            try:
                await self._generate(connection, closed)
            finally:
                closed.cancel()
                await asyncio.wait([closed])  # it reads from the connection till then
                self._running -= 1
                self._midway -= connection.call.sent > 0
                if not self._running:
                    self._idle.set()

    async def _generate(self, connection: Connection, closed: "asyncio.Future[None]") -> None:
        body = connection.call.body
        tokens = int(body["messages"][-1]["content"].split()[0])
        streamed = bool(body.get("stream"))
        if streamed:
            await connection.send(STREAM_HEAD + _event(0, {"role": "assistant", "content": ""}))
        if not self._mode_is_stalled():
            self._prompts += PROMPT
        for number in range(1, tokens + 1):
            await self._step(connection, closed, streamed=streamed)
            if self._mode is Mode.CUT and number > EVENTS_BEFORE_CUT:
                connection.cut()
                return
            self._generated += 1
            self._steps += 1
            if streamed:
                await connection.send(_event(number, {"content": self._address}))
                self._midway += number == 1
                connection.call.sent = number
        if streamed:
            finish = _event(tokens, {}, finish="stop")
            await connection.send(finish + _last(tokens) + chunk(DONE) + END)
        else:
            await connection.send(_whole(self._address, tokens, "stop"))

    async def _step(
        self, connection: Connection, closed: "asyncio.Future[None]", *, streamed: bool
    ) -> None:
        """The time that one token takes. Raises `ConnectionError` once the gateway has left."""
        await asyncio.wait([closed], timeout=self._pace * (SLOWDOWN if self._is_slow() else 1))
        while self._mode_is_stalled() and not closed.done():
            await asyncio.wait([closed], timeout=_COMMENT_SECONDS)
            if streamed and not closed.done():
                await connection.send(chunk(b": keep-alive\n\n"))
        if closed.done():
            raise ConnectionError

    def _mode_is_stalled(self) -> bool:
        return self._mode is Mode.STALL

    def _is_slow(self) -> bool:
        return self._mode is Mode.SLOW

    async def _say_nothing(self, connection: Connection) -> None:
        """vLLM's answer while it shuts down: nothing, as if that were an answer."""
        if connection.call.body.get("stream"):
            role = _event(0, {"role": "assistant", "content": ""})
            await connection.send(STREAM_HEAD + role + _last(0) + chunk(DONE) + END)
        else:
            await connection.send(_whole(None, 0, "abort"))

    def _metrics(self) -> str:
        full = self._mode is Mode.FULL and self._refused >= BEFORE_FULL
        self._steps += full  # others' requests get on
        values = {
            "num_requests_running": self._running + (_FULL if full else 0),
            "num_requests_waiting": _FULL if full else 0,
            "kv_cache_usage_perc": 0.25,
            "prompt_tokens_total": self._prompts,
            "generation_tokens_total": self._generated,
            "iteration_tokens_total_sum": self._prompts + self._generated,
            "iteration_tokens_total_count": self._steps,
        }
        labels = '{engine="0",model_name="tiny"}'
        return "".join(f"vllm:{name}{labels} {float(value)}\n" for name, value in values.items())


def _event(tokens: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data({"object": "chat.completion.chunk", "choices": [choice], "usage": used(tokens)})


def _last(tokens: int) -> bytes:
    return _data({"object": "chat.completion.chunk", "choices": [], "usage": used(tokens)})


def _data(document: object) -> bytes:
    return chunk(b"data: %s\n\n" % json.dumps(document, separators=(",", ":")).encode())


def _whole(content: str | None, tokens: int, finish: str) -> bytes:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json_answer(
        200, {"object": "chat.completion", "choices": [choice], "usage": used(tokens)}
    )


def _page(text: str) -> bytes:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n"
    return f"{head}content-length: {len(text)}\r\n\r\n{text}".encode()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--pace", type=float, default=0.03)
    parser.add_argument("--drain", type=float, default=10)
    options = parser.parse_args()

    async def run() -> None:
        replica = Replica(f"{options.host}:{options.port}", options.pace, options.drain)
        await replica.serve(options.host, options.port)

    asyncio.run(run())


if __name__ == "__main__":
    main()
