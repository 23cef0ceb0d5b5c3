"""A server that plays scripts: each answer's tokens, pieces and times are known exactly.

It is HTTP/1.1 by hand on a stream, so that it can do what no web framework does: cut a chunk in the
middle, reset, lie about its content. What it sent, and when, it writes down itself. `Gate` makes
order certain without trust in time: the server goes on when the test has seen enough.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Send:
    """These bytes of the body, in a piece of their own."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """Nothing, for so long."""

    seconds: float


@dataclass(frozen=True)
class Gate:
    """Nothing, until the test opens it."""

    opened: asyncio.Event


@dataclass(frozen=True)
class Stall:
    """Nothing any more. The connection stays."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset: RST, in the middle of a chunk."""


@dataclass(frozen=True)
class Close:
    """The connection is closed: FIN, in the middle of a chunk."""


Step = Send | Wait | Gate | Stall | Reset | Close


@dataclass(frozen=True)
class Script:
    """One answer."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    before: Sequence[Step] = ()
    """What happens before the status."""
    raw: bool = False
    """Without chunked encoding: the body ends where the connection does."""


@dataclass
class Seen:
    """A request that came, and what it got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float
    """When all of it was there, of the monotonic clock that all processes share."""
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    """When each piece of the body was about to be written, and what it was."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client closed the connection before the answer's end."""
    connection: int = 0
    """Which connection it came on."""


class Golden:
    """The server. `choose` says which script a request gets."""

    def __init__(self, choose: Callable[[Seen], Script]) -> None:
        self.choose = choose
        self.seen: list[Seen] = []
        self.url = ""
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with all its requests."""
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        number, self._connections = self._connections, self._connections + 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._request(number, reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the test is over, and asyncio would log it
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _request(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(
            first.split()[1],
            headers,
            json.loads(body) if body else {},
            time.monotonic(),
            connection=number,
        )
        self.seen.append(seen)
        script = self.choose(seen)
        watch = asyncio.create_task(self._watch(reader, seen))
        try:
            return await self._play(script, seen, writer)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        """See the client go. It sends nothing while it waits for an answer."""
        # Reading would take what a next request sends: only the end is of interest.
        while not (reader.at_eof() or reader.exception()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        seen.gone.set()

    async def _play(self, script: Script, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        for step in script.before:
            if not await self._step(step, seen, writer, framed=False):
                return False
        head = f"HTTP/1.1 {script.status} Said\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in script.headers.items())
        head += "connection: close\r\n\r\n" if script.raw else "transfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        for step in script.steps:
            if not await self._step(step, seen, writer, framed=not script.raw):
                return False
        if not script.raw:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not script.raw

    async def _step(
        self, step: Step, seen: Seen, writer: asyncio.StreamWriter, framed: bool
    ) -> bool:
        """Do it, and say whether the connection goes on."""
        match step:
            case Send(data):
                seen.sent.append((time.monotonic(), data))
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if framed else data)
                await writer.drain()
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Gate(opened):
                await opened.wait()
            case Stall():
                await seen.gone.wait()
                return False
            case Reset():
                writer.write(b"ff\r\ndata: half an ev")
                await writer.drain()
                connection: socket.socket = writer.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            case Close():
                writer.write(b"ff\r\ndata: half an ev")
                await writer.drain()
                return False
        return True

    async def stop(self) -> None:
        """End all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def golden(choose: Script | Callable[[Seen], Script]) -> AsyncIterator[Golden]:
    """A server on a free port of 127.0.0.1, until the block ends."""
    server = Golden((lambda _: choose) if isinstance(choose, Script) else choose)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


def event(value: dict[str, Any] | str, end: str = "\n") -> bytes:
    """One event."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"data: {text}{end}{end}".encode()


def chunk(
    delta: dict[str, Any], finish: str | None = None, usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What vLLM sends in an event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {
        "id": "chatcmpl-4f8b2c1d9e7a4f8b2c1d9e7a4f8b2c1d",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "m",
        "choices": [choice],
    }
    return value if usage is None else value | {"usage": usage}


def used(output: int, prompt: int = 11, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """What the server counted."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def usage_event(output: int, **counts: int) -> dict[str, Any]:
    """The last event before the end: no choices, and what was used."""
    return {"choices": [], "usage": used(output, **counts)}


ROLE = Send(event(chunk({"role": "assistant", "content": ""})))
DONE = Send(event("[DONE]"))


def finish(reason: str = "stop") -> Send:
    """The event with the finish reason."""
    return Send(event(chunk({}, reason)))


def content(text: str = "word ") -> Send:
    """A token of the answer."""
    return Send(event(chunk({"content": text})))


def answer(count: int = 5, gap: float = 0.0, reason: str = "stop") -> Script:
    """A plain answer: role, tokens, finish reason, usage, end."""
    steps: list[Step] = [ROLE]
    for _ in range(count):
        steps += [Wait(gap), content()] if gap else [content()]
    return Script([*steps, finish(reason), Send(event(usage_event(count))), DONE])


def refusal(
    status: int, code: str, type_: str = "", headers: dict[str, str] | None = None
) -> Script:
    """An answer that is an error."""
    error = {"message": "no", "type": type_, "param": None, "code": code}
    body = json.dumps({"error": error}).encode()
    return Script([Send(body)], status, {"content-type": "application/json"} | (headers or {}))


def whole(count: int = 5, reason: str = "stop", text: str = "word") -> Script:
    """An answer that is not streamed."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    body = json.dumps({"choices": [choice], "usage": used(count)}).encode()
    return Script([Send(body)], 200, {"content-type": "application/json"})
