"""Tar files: written the same way every time, and read once for everything that is to be known."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from deploy.airgap.fault import Fault

READ = 4 << 20
_SMALL = 8 << 20  # a description of an image, or stamps; never layers or tensors
_SHA256 = 64


class Hasher(Protocol):
    """The part of hashlib's objects that is used."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """The hash of all of them."""


def hasher(digest: str, size: int) -> Hasher:
    """What makes a hash like that one: sha256, or git's id of a blob as the Hub publishes it."""
    if len(digest) == _SHA256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes; none at the end."""


class Summed(io.RawIOBase):
    """A stream whose sha256 and length are known at its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._sha256.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes, which count."""
        return self._counted(self._stream.read(size))

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """All of these bytes, which count."""
        self._stream.write(data)
        return len(self._counted(data))

    def tell(self) -> int:
        """How far it is, for who writes."""
        return self.size

    def drain(self) -> None:
        """Read what is left."""
        while self.read(READ):
            pass

    def _counted(self, data: bytes) -> bytes:
        self._sha256.update(data)
        self.size += len(data)
        return data


def sha256(path: Path) -> str:
    """The sum of a file."""
    with path.open("rb") as stream:
        summed = Summed(stream)
        summed.drain()
    return summed.sha256


@contextmanager
def written(path: Path) -> Iterator[tuple[tarfile.TarFile, Summed]]:
    """A tar to add to; the sum is right once the block has ended."""
    with path.open("xb") as stream:
        summed = Summed(stream)
        with tarfile.TarFile(
            fileobj=summed, mode="w", format=tarfile.PAX_FORMAT, copybufsize=READ
        ) as tar:
            yield tar, summed


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A small file."""
    add_stream(tar, name, len(content), io.BytesIO(content))


def add_stream(
    tar: tarfile.TarFile, name: str, size: int, stream: Readable, mtime_ns: int = 0
) -> None:
    """A file; its time to the nanosecond."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    if mtime_ns:
        info.pax_headers = {"mtime": f"{mtime_ns // 10**9}.{mtime_ns % 10**9:09d}"}
    tar.addfile(info, stream)


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    """A symbolic link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    tar.addfile(info)


def mtime_ns(info: tarfile.TarInfo) -> int:
    """A member's time as `add_stream` wrote it."""
    seconds, _, fraction = info.pax_headers.get("mtime", str(int(info.mtime))).partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


@contextmanager
def read(stream: IO[bytes], name: str) -> Iterator[tuple[tarfile.TarFile, Summed]]:
    """A tar from its beginning to its end; the sum is that of the whole once the block ends."""
    summed = Summed(stream)
    try:
        with tarfile.open(fileobj=summed, mode="r|", bufsize=READ) as tar:
            yield tar, summed
        summed.drain()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Fault(f"{name} is damaged ({error}): copy it again, or bundle it again") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """A member: a file, or a link."""

    size: int
    digest: str
    """Of its bytes, of the kind that its name says; of a link nothing."""
    link: str
    content: bytes
    """If it is small."""


def entries(tar: tarfile.TarFile) -> dict[str, Entry]:
    """Every file and link."""
    return {info.name: _entry(tar, info) for info in tar if info.isfile() or info.issym()}


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    if info.issym():
        return Entry(0, "", info.linkname, b"")
    stream = tar.extractfile(info)
    if stream is None:
        raise tarfile.ReadError(f"{info.name} cannot be read")
    name = info.name.rpartition("/")[2]
    made = hasher(name if len(name) == 40 else "0" * _SHA256, info.size)
    small = info.size <= _SMALL
    kept = []
    while block := stream.read(READ):
        made.update(block)
        if small:
            kept.append(block)
    return Entry(info.size, made.hexdigest(), "", b"".join(kept))
