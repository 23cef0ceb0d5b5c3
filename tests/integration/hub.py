"""A Hugging Face Hub on 127.0.0.1: as much of its wire protocol as a download uses, with faults.

Modelled on what the Hub sends: `/api/models/<repo>/revision/<rev>?blobs=true` lists files with
sizes, git blob ids and LFS sha256; `/<repo>/resolve/<rev>/<file>` answers small files itself, and
redirects LFS files to a CDN (here another host name, so that credentials must be dropped on the
way) which serves ranges.
"""

import hashlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

REPO = "openai/gpt-oss-20b"
PAGE = b"<!doctype html><title>Log in to the guest network</title>"
_BLOCK = 16_384


def git_blob(content: bytes) -> str:
    """The id that git gives to bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


@dataclass
class Faults:
    """What goes wrong from now on. All off by default."""

    cut: int | None = None
    """Break the connection of a file's answer after so many bytes."""
    cuts: int = 10**9
    """How often that happens."""
    wrong: set[str] = field(default_factory=set)
    """Files that are sent with a flipped byte."""
    api: int = 200
    """Status of the list; with `code` as X-Error-Code."""
    files: int = 200
    """Status of files."""
    cdn: int = 200
    """Status of the CDN."""
    code: str = ""
    times: int = 10**9
    """How many answers get these statuses."""
    wait: str = ""
    """Retry-After of those."""
    html: str = ""
    """A page with status 200 in place of "api" or "files"."""
    no_ranges: bool = False
    delay: float = 0.0
    """Seconds between blocks of 16 KiB."""


@dataclass(frozen=True)
class Served:
    """One answer of file bytes."""

    name: str
    start: int
    sent: int


class FakeHub:
    """Files of one repository at `main`, and what was asked of them."""

    def __init__(self, files: dict[str, bytes], lfs: frozenset[str]) -> None:
        self.files = files
        self.lfs = lfs
        self.faults = Faults()
        self.requests: list[str] = []
        self.served: list[Served] = []
        self.tokens: dict[str, str | None] = {}
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://localhost:{self.port}"

    @property
    def commit(self) -> str:
        """Changes with the files, as git's do."""
        listed = json.dumps({name: git_blob(body) for name, body in sorted(self.files.items())})
        return hashlib.sha1(listed.encode()).hexdigest()  # noqa: S324

    def digest(self, name: str) -> str:
        """The published hash."""
        body = self.files[name]
        return hashlib.sha256(body).hexdigest() if name in self.lfs else git_blob(body)

    def forget(self) -> None:
        """Begin a new count of requests, once those of a killed client are over."""
        deadline = time.monotonic() + 10
        while self._server.open and time.monotonic() < deadline:
            time.sleep(0.005)
        self.requests, self.served = [], []

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(5)

    def info(self) -> dict[str, object]:
        """The answer of the models API."""
        siblings = []
        for name, body in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(body)}
            pointer = f"oid sha256:{self.digest(name)}".encode() if name in self.lfs else body
            entry["blobId"] = git_blob(pointer)
            if name in self.lfs:
                entry["lfs"] = {"sha256": self.digest(name), "size": len(body), "pointerSize": 134}
            siblings.append(entry)
        return {"id": REPO, "sha": self.commit, "private": False, "siblings": siblings}


def fetch_and_die(endpoint: str, stamps: Path, cache: Path, at: int) -> None:
    """In a process of its own: fetch, and kill -9 oneself once `at` bytes are there."""
    from service.engine.weights import fetch, meter
    from service.engine.weights.hub import Hub

    meter.REPORT_EVERY = 0.002

    def die(done: int, total: int, note: str) -> None:
        if total and done >= at:
            os.kill(os.getpid(), signal.SIGKILL)

    fetch(REPO, stamps=stamps, progress=die, hub=Hub(endpoint, pause=0.01), cache=cache)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    open = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.open -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed on purpose: their broken connections are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(path)
        self.hub.tokens[path] = self.headers.get("Authorization")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._list(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(?:main|[0-9a-f]{40})/(.+)", path):
            self._resolve(match[2])
        elif match := re.fullmatch(r"/cdn/(.+)", path):
            if not self._failed(self.hub.faults.cdn, ""):
                self._bytes(match[1])
        else:
            self._status(404)

    def _failed(self, status: int, kind: str) -> bool:
        faults = self.hub.faults
        if kind and faults.html == kind:
            self._send(200, {"Content-Type": "text/html"}, PAGE)
            return True
        if status == 200 or faults.times <= 0:
            return False
        faults.times -= 1
        self._status(status)
        return True

    def _status(self, status: int) -> None:
        faults = self.hub.faults
        headers = {"X-Error-Code": faults.code} if faults.code else {}
        if faults.wait:
            headers["Retry-After"] = faults.wait
        self._send(status, headers, b'{"error": "no"}')

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _list(self, repo: str, revision: str) -> None:
        if self._failed(self.hub.faults.api, "api"):
            return
        if repo != REPO or revision not in ("main", self.hub.commit):
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
            return
        body = json.dumps(self.hub.info()).encode()
        self._send(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, name: str) -> None:
        if self._failed(self.hub.faults.files, "files"):
            return
        if name not in self.hub.lfs:
            self._bytes(name)
            return
        headers = {
            "Location": f"{self.hub.cdn}/cdn/{name}",
            "X-Repo-Commit": self.hub.commit,
            "X-Linked-Etag": f'"{self.hub.digest(name)}"',
            "X-Linked-Size": str(len(self.hub.files[name])),
        }
        self._send(302, headers, b"Found. Redirecting")

    def _bytes(self, name: str) -> None:
        faults, body, served = self.hub.faults, self.hub.files[name], self.hub.served
        if name in faults.wrong:
            body = bytes([body[0] ^ 1]) + body[1:]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and not faults.no_ranges else 0
        part = body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("ETag", f'"{self.hub.digest(name)}"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if faults.cut is not None and len(part) > faults.cut and faults.cuts > 0:
            faults.cuts -= 1
            part, self.close_connection = part[: faults.cut], True
        sent = 0
        try:
            while sent < len(part):
                block = part[sent : sent + _BLOCK]
                self.wfile.write(block)
                sent += len(block)
                time.sleep(faults.delay)
        except OSError:  # the client is gone
            self.close_connection = True
        finally:
            served.append(Served(name, start, sent))
