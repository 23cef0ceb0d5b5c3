"""A page of Prometheus' HTTP service discovery that changes while it is served, and fails."""

import contextlib
import gzip
import json
import select
import socket
import socketserver
import ssl
import threading
from collections import deque
from enum import StrEnum, auto
from typing import Self

PATH = "/pools/h100"
_PAUSE = 0.02
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_PIECE = b" " * (64 << 10)


class Behaviour(StrEnum):
    """What becomes of a request."""

    ANSWER = auto()
    FAIL = auto()
    """500, with the page as its body."""
    REDIRECT = auto()
    """To another path of this server, which has the page."""
    EMPTY = auto()
    """204."""
    HANG = auto()
    """Accepted, and never answered."""
    DRIP = auto()
    """A byte now and then, without end."""
    HUGE = auto()
    """White space without end, then JSON."""
    TORN = auto()
    """Less than was announced."""
    CLOSE = auto()
    """Not a byte."""
    GARBAGE = auto()
    """No HTTP."""
    PACKED = auto()
    """Compressed, which nobody asked for."""


class Page:
    """A server on one port of loopback, in threads of this process.

    Used as a context manager; the page has no target at first. `tls` makes it one by https.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.tls = tls
        self.seen: list[str] = []
        """The head of each request."""
        self.open = 0
        """Connections of which neither side has let go."""
        self._body = b"[]"
        self._standing = Behaviour.ANSWER
        self._script: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._running: contextlib.ExitStack | None = None

    @property
    def url(self) -> str:
        """What an upstream has."""
        return f"sd+http{'s' if self.tls else ''}://127.0.0.1:{self.port}{PATH}"

    @property
    def asked(self) -> int:
        """How many requests there were."""
        with self._lock:
            return len(self.seen)

    def put(self, *targets: str) -> None:
        """Let the page have these targets, one group each."""
        self.write(json.dumps([{"targets": [one], "labels": {"x": "y"}} for one in targets]))

    def write(self, text: str | bytes) -> None:
        """Let the page be that."""
        with self._lock:
            self._body = text.encode() if isinstance(text, str) else text

    def script(self, *pages: str) -> None:
        """What the page is the next times, one by one, before it is as before."""
        with self._lock:
            self._script.extend(page.encode() for page in pages)

    @property
    def is_scripted(self) -> bool:
        """Whether a script is not yet at its end."""
        with self._lock:
            return bool(self._script)

    def behave(self, behaviour: Behaviour) -> None:
        """What becomes of requests from now on. What hangs ends."""
        with self._lock:
            self._standing = behaviour
            self._released.set()
            self._released = threading.Event()

    def start(self) -> None:
        """Listen, on the same port as before."""
        assert self._running is None, "it runs already"
        with contextlib.ExitStack() as stack:
            server = _Server(self)
            stack.callback(server.server_close)
            self.port = int(server.server_address[1])
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            self._running = stack.pop_all()

    def stop(self) -> None:
        """End: a connection is refused by the system."""
        assert self._running is not None, "it does not run"
        self._released.set()
        self._running.close()
        self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            self.stop()

    def serve(self, connection: socket.socket) -> None:
        """Read one request, do with it what is to be done, and see the other side off."""
        with self._lock:
            self.open += 1
        # The other side may leave at any time: that is what is tested.
        with contextlib.suppress(OSError):
            self._serve(connection)
        with self._lock:
            self.open -= 1

    def _serve(self, connection: socket.socket) -> None:
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as reader:
            head = b"".join(iter(reader.readline, b"\r\n")).decode()
            with self._lock:
                self.seen.append(head)
                behaviour, released = self._standing, self._released
                body = self._script.popleft() if self._script else self._body
            if behaviour is Behaviour.HANG:
                while not released.is_set() and not _is_left(connection):
                    pass
            elif behaviour is Behaviour.DRIP:
                connection.sendall(_HEAD + b"\r\n")
                while not released.wait(_PAUSE):
                    connection.sendall(b" ")
            elif behaviour is Behaviour.HUGE:
                connection.sendall(_HEAD + b"\r\n")
                while not released.is_set():
                    connection.sendall(_PIECE)
                connection.sendall(body)
            else:
                path = head.split()[1]
                connection.sendall(_answer(behaviour, body, redirected=path != PATH))


def _is_left(connection: socket.socket) -> bool:
    """Whether the other side has closed it, after a moment."""
    readable, _, _ = select.select([connection], [], [], _PAUSE)
    return bool(readable) and not connection.recv(1)


def _answer(behaviour: Behaviour, body: bytes, *, redirected: bool) -> bytes:
    whole = _HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    match behaviour:
        case Behaviour.FAIL:
            return whole.replace(b"200 OK", b"500 Internal Server Error", 1)
        case Behaviour.REDIRECT if not redirected:
            return b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
        case Behaviour.EMPTY:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        case Behaviour.TORN:
            return whole[:-1]
        case Behaviour.CLOSE:
            return b""
        case Behaviour.GARBAGE:
            return b"\x00\xff" * 100 + body
        case Behaviour.PACKED:
            packed = gzip.compress(body)
            return _HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (
                len(packed),
                packed,
            )
    return whole


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, owner: Page) -> None:
        super().__init__(("127.0.0.1", owner.port), _Handler)
        self.owner = owner


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.owner.serve(self.request)
