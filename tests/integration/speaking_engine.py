"""A stand-in for a vLLM that passes the self-test, or fails it where a test says so.

A stand-in, because a real vLLM takes a minute to start and cannot be told to stand still or to
spoil one answer. `tests/e2e` asks the same of a real one.
"""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MODEL = "speaking"
_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass
class SpeakingEngine:
    """The server, in threads of this process. What it is told counts from the next request on."""

    key: str = ""
    """Bearer secret that `/v1` asks for."""
    health: int = 200
    speaks: bool = True
    """Or answers a tool call with text."""
    started: float = 1_700_000_000.25
    """When its process started, as its page says; 0 for a page that does not say."""
    running: int = 0
    tokens: int = 0
    metrics: bool = True
    asked: list[str] = field(default_factory=list)
    """The paths of all requests."""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"state": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Of its root."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def questions(self) -> int:
        """Chat completions that were asked for."""
        return self.asked.count("/v1/chat/completions")

    def page(self) -> str:
        """Its metrics."""
        values = {
            "num_requests_running": self.running,
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.25,
            "prompt_tokens_total": 7 * self.tokens,
            "generation_tokens_total": self.tokens,
        }
        lines = [f'vllm:{name}{{engine="0"}} {float(value)}' for name, value in values.items()]
        if self.started:
            lines.append(f"process_start_time_seconds {self.started}")
        return "\n".join(lines) + "\n"


class _Handler(BaseHTTPRequestHandler):
    state: SpeakingEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        engine = self.state
        engine.asked.append(self.path)
        if self.path == "/health":
            self._send(engine.health, b"")
        elif self.path == "/metrics":
            self._send(200 if engine.metrics else 404, engine.page().encode())
        elif self._may_ask():
            self._send(200, json.dumps({"data": [{"id": MODEL}]}).encode())

    def do_POST(self) -> None:
        self.state.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._may_ask():
            return
        if body.get("stream"):
            events = [_chunk({"content": "I am gpt-oss."}), _chunk({}, "stop"), _last()]
            text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
            self._send(200, f"{text}data: [DONE]\n\n".encode(), "text/event-stream")
            return
        tools = body.get("tools") and self.state.speaks
        answer = _answer(_CALL, "tool_calls") if tools else _answer(_TEXT, "stop")
        self._send(200, json.dumps(answer).encode())

    def _may_ask(self) -> bool:
        wanted = self.state.key
        if wanted and self.headers["authorization"] != f"Bearer {wanted}":
            self._send(401, b'{"error": "Unauthorized"}')
            return False
        return True

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


_TEXT = {"role": "assistant", "content": "I am gpt-oss."}
_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"location": "Paris"}'},
        }
    ],
}


def _answer(message: dict[str, Any], finish: str) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": _USAGE}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], "usage": _USAGE}


def _last() -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
