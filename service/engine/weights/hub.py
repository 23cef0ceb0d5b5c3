"""Requests to the Hugging Face Hub: the list of a commit's files, and their bytes from anywhere on.

huggingface_hub gives the endpoint, the token and the cache's place, but not the transfer. As read
in 2.4.0 (the same since 1.31), `_download_to_tmp_and_move` writes each attempt to a file with a
random name and deletes it on failure: nothing continues after an interruption or a `kill -9`. Xet
downloads go through the same function, and Xet's own chunk cache holds 10 GB or nothing, by build.
So the bytes come over plain HTTP with `Range`, which the Hub offers for Xet-backed files too (by a
redirect to its bridge). hf_xet is not used, installed or not, and HF_HUB_DISABLE_XET is not needed:
there is one path, and its resume is tested.
"""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from service.engine.weights.faults import Again, broken, flat, refused, stranger
from service.engine.weights.manifest import COMMIT, File, Manifest, check_name
from service.engine.weights.meter import Meter
from service.errors import UserError

T = TypeVar("T")

LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Hub:
    """Which Hub, and how patiently."""

    endpoint: str
    attempts: int = 5
    """Failures in a row, without a byte in between, before giving up."""
    pause: float = 1.0
    """Seconds before the second attempt; doubles."""
    silence: float = 20.0
    """Seconds without a byte after which a connection counts as broken."""

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """The authorities that may sign for it; SSL_CERT_FILE counts. Slow to build."""
        return httpx.create_ssl_context()

    @classmethod
    def standard(cls) -> Self:
        """Hugging Face's, or the mirror that HF_ENDPOINT names."""
        from huggingface_hub import constants

        return cls(constants.ENDPOINT)


class _Lfs(msgspec.Struct):
    sha256: str
    size: int


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int
    blob: str = msgspec.field(name="blobId")
    lfs: _Lfs | None = None


class _Info(msgspec.Struct):
    sha: str
    siblings: tuple[_Sibling, ...]


class Session:
    """Connections to one Hub about one repository."""

    def __init__(self, hub: Hub, repo: str) -> None:
        from huggingface_hub import constants, get_token

        self._hub = hub
        self._host = urlsplit(hub.endpoint).hostname or hub.endpoint
        self._repo = check_name(repo)
        # The user's token, if there is one; httpx drops it when redirected to another host. No
        # compression, since a range counts the bytes that are sent.
        headers = {"User-Agent": "gptoss-serving", "Accept-Encoding": "identity"}
        if not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
            headers["Authorization"] = f"Bearer {token}"
        try:
            self._client = httpx.Client(
                headers=headers, follow_redirects=True, timeout=hub.silence, verify=hub.trust
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise UserError(
                f"the network settings cannot be used ({flat(error)}): mend HTTPS_PROXY, ALL_PROXY "
                "and SSL_CERT_FILE"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def published(self, revision: str, meter: Meter) -> Manifest:
        """The files of a branch, tag or commit; one answer, so that they are of one commit."""
        url = f"{self._hub.endpoint}/api/models/{self._repo}/revision/{quote(revision, safe='')}"

        def ask() -> bytes:
            with self._answer(f"{url}?blobs=true", revision) as response:
                return response.read()

        meter.report()
        body = self.insist(ask, meter, offline_is_final=True)
        try:
            info = msgspec.json.decode(body, type=_Info)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise stranger(self._host) from None
        files = tuple(
            File(s.rfilename, s.lfs.size, s.lfs.sha256)
            if s.lfs
            else File(s.rfilename, s.size, s.blob)
            for s in info.siblings
        )
        if not COMMIT.fullmatch(info.sha) or not all(file.sound for file in files):
            raise stranger(self._host)
        used = tuple(sorted((f for f in files if f.used), key=lambda f: -f.size))
        if not used:
            raise UserError(f"{self._repo} at {revision} has no files: check the name and revision")
        return Manifest(self._repo, info.sha, used)

    @contextlib.contextmanager
    def read(self, file: File, commit: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The file's bytes from `start` on; from 0 if the server does not know ranges."""
        url = f"{self._hub.endpoint}/{self._repo}/resolve/{commit}/{quote(file.name)}"
        asked = {"Range": f"bytes={start}-"} if start else {}
        with self._answer(url, commit, asked) as response:
            head = response.headers
            if response.status_code == httpx.codes.PARTIAL_CONTENT:
                want = f"bytes {start}-{file.size - 1}/{file.size}"
                right = head.get("Content-Range") == want
            else:
                start = 0
                right = head.get("Content-Length", str(file.size)) == str(file.size)
            page = head.get("Content-Type", "").startswith("text/html")
            if not right or (page and not file.name.endswith(".html")):
                raise UserError(
                    f"{response.url.host} sends something else for {file.name} than published: "
                    "a proxy, login page or stale mirror may answer; check HTTPS_PROXY and "
                    "HF_ENDPOINT"
                )
            yield start, response.iter_raw()

    def insist(
        self,
        attempt: Callable[[], T],
        meter: Meter,
        gained: Callable[[], int] = lambda: 0,
        *,
        offline_is_final: bool = False,
    ) -> T:
        """Attempt until it works, or has failed some times without gaining a byte in between."""
        failures, before = 0, gained()
        while True:
            try:
                return attempt()
            except Again as error:
                fault: Again | UserError = error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                fault = broken(error, self._host)
            if isinstance(fault, UserError):
                raise fault
            after = gained()
            failures = 1 if after > before else failures + 1
            before = after
            if failures >= self._hub.attempts or (offline_is_final and not fault.answered):
                times = f", {failures} times in a row" if failures > 1 else ""
                raise UserError(f"{fault}{times}: {fault.todo}")
            wait = min(max(fault.after, self._hub.pause * 2 ** (failures - 1)), LONGEST_WAIT)
            meter.wait(wait, f"{fault}; attempt {failures + 1} of {self._hub.attempts} follows")

    @contextlib.contextmanager
    def _answer(
        self, url: str, revision: str, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                raise refused(response, self._host, self._repo, revision)
            yield response
