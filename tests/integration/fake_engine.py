"""An engine that fails on command.

A stand-in, because a real vLLM cannot be made to answer 500, fall silent or cut a stream at a
chosen byte. It speaks HTTP/1.1 by hand: a server library would repair just what has to be broken.
What it does follows from the model that a request names.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

PROMPT, COMPLETION = 7, 3

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
"""What a client sees; the engine also says in each event how much it has used."""
TOKENS = {
    "/v1/responses": b'event: response.output_text.delta\ndata: {"delta":"hello"}\n\n',
    "/v1/messages": b'event: content_block_delta\ndata: {"delta":{"text":"hello"}}\n\n',
}
"""The same on routes whose events do not say what was used."""
DONE = b"data: [DONE]\n\n"
_DEAD = (
    b'data: {"error":{"message":"EngineCore died: /root","type":"InternalServerError",'
    b'"param":null,"code":500}}\n\n'
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


@dataclass
class Call:
    """One request as the engine saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    closed: threading.Event = field(default_factory=threading.Event)
    """Set once the gateway closed the connection while the answer was under way."""
    sent: int = 0
    """Events of the answer so far."""

    def event(self) -> bytes:
        """The next event, with one token more, as the route has it."""
        self.sent += 1
        if self.path in TOKENS:
            return TOKENS[self.path]
        usage = json.dumps(used(self.sent), separators=(",", ":")).encode()
        return EVENT.replace(b"]}", b'],"usage":' + usage + b"}")


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def used(completion: int) -> dict[str, int]:
    """Usage as vLLM says it."""
    return {
        "prompt_tokens": PROMPT,
        "total_tokens": PROMPT + completion,
        "completion_tokens": completion,
    }


def json_answer(status: int, document: object) -> bytes:
    """A whole JSON answer."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@dataclass
class Connection:
    """The engine's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    call: Call

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """Close at once, as a process does that is killed."""
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Wait for the gateway to close."""
        with contextlib.suppress(ConnectionError):  # a reset is a way to close, too
            await self.reader.read()
        self.call.closed.set()


async def well(connection: Connection) -> None:
    """Answer as asked: a stream of three events, or one document."""
    call = connection.call
    if call.body.get("stream"):
        events = b"".join(chunk(call.event()) for _ in range(COMPLETION))
        last = b'data: {"choices":[],"usage":%s}\n\n' % json.dumps(used(COMPLETION)).encode()
        await connection.send(STREAM_HEAD + events + chunk(last) + chunk(DONE) + END)
    else:
        answer = {"object": "chat.completion", "choices": [], "usage": used(COMPLETION)}
        await connection.send(json_answer(200, answer))


async def forever(connection: Connection) -> None:
    """Stream until the gateway closes."""
    await connection.send(STREAM_HEAD)
    closed = asyncio.ensure_future(connection.until_closed())
    while not closed.done():
        await connection.send(chunk(connection.call.event()))
        await asyncio.wait([closed], timeout=0.02)


async def floods(connection: Connection) -> None:
    """Stream much more than anybody buffers, until the gateway closes."""
    await connection.send(STREAM_HEAD)
    closed = asyncio.ensure_future(connection.until_closed())
    with contextlib.suppress(ConnectionError):
        while not closed.done():
            event = connection.call.event()
            await connection.send(chunk(event * 1000))
    await closed


async def silent(connection: Connection) -> None:
    """Accept the request and say nothing."""
    await connection.until_closed()


async def silent_midway(connection: Connection) -> None:
    await connection.send(STREAM_HEAD + chunk(connection.call.event()))
    await connection.until_closed()


async def dies(connection: Connection) -> None:
    connection.cut()


async def dies_midway(connection: Connection) -> None:
    await connection.send(STREAM_HEAD + chunk(connection.call.event()) + chunk(EVENT[:20]))
    await asyncio.sleep(0.05)  # else the reset overtakes what was sent
    connection.cut()


async def errs_at_once(connection: Connection) -> None:
    """An error instead of the first token, as vLLM has it whose core has died."""
    await connection.send(STREAM_HEAD + chunk(_DEAD) + chunk(DONE) + END)


async def errs_midway(connection: Connection) -> None:
    await connection.send(STREAM_HEAD + chunk(connection.call.event()))
    await asyncio.sleep(0.5)  # else a gateway that is late reads both at once
    await connection.send(chunk(_DEAD) + chunk(DONE) + END)


async def ends_early(connection: Connection) -> None:
    """End the stream in good order, but before its last event."""
    await connection.send(STREAM_HEAD + chunk(connection.call.event()) + END)


async def done_then_silent(connection: Connection) -> None:
    """Send the whole stream, but never the end of the HTTP answer."""
    await connection.send(STREAM_HEAD + chunk(connection.call.event()) + chunk(DONE))
    await connection.until_closed()


async def answers_html(connection: Connection) -> None:
    body = b"<html></html>"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n"
    await connection.send(head % len(body) + body)


async def dies_within_json(connection: Connection) -> None:
    await connection.send(json_answer(200, {"choices": ["x" * 100]})[:-20])
    connection.cut()


async def answers_garbage(connection: Connection) -> None:
    await connection.send(b"this is not HTTP\r\n\r\n")
    connection.cut()


def refuses(status: int, document: object) -> Callable[[Connection], Awaitable[None]]:
    async def refuse(connection: Connection) -> None:
        await connection.send(json_answer(status, document))

    return refuse


BEHAVIOURS: dict[str, Callable[[Connection], Awaitable[None]]] = {
    "well": well,
    "forever": forever,
    "floods": floods,
    "silent": silent,
    "silent-midway": silent_midway,
    "dies": dies,
    "dies-midway": dies_midway,
    "ends-early": ends_early,
    "errs-at-once": errs_at_once,
    "errs-midway": errs_midway,
    "done-then-silent": done_then_silent,
    "answers-html": answers_html,
    "dies-within-json": dies_within_json,
    "answers-garbage": answers_garbage,
    "answers-500": refuses(500, {"error": {"message": "CUDA error at /root/engine.py:12"}}),
    "answers-503": refuses(503, {"error": {"message": "queue is full"}}),
    "answers-401": refuses(401, {"error": "Unauthorized"}),
    "answers-400": refuses(
        400,
        {
            "error": {
                "message": "This model's maximum context length is 16 tokens.",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
    ),
}


class FakeEngine:
    """The server, in a thread of its own."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self.url = f"http://127.0.0.1:{starting.result(5)}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway closed: nothing is left to do
        finally:
            writer.close()

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request, *lines = head.decode().strip().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        _, path, _ = request.split()
        if "content-length" not in headers:
            writer.write(json_answer(200 if path == "/health" else 404, {}))
            return
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        call = Call(path, headers, body)
        self.calls.append(call)
        await BEHAVIOURS[body["model"]](Connection(reader, writer, call))
