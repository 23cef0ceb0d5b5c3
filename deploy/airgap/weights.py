"""The weights of a model, from the Hugging Face cache into a tar of what belongs on the claim.

    hub/models--openai--gpt-oss-20b/blobs/<digest>            the bytes, with their times
    hub/models--openai--gpt-oss-20b/snapshots/<commit>/<name> links to them
    hub/models--openai--gpt-oss-20b/refs/<revision>
    gptoss/weights/openai--gpt-oss-20b.json                   the stamps of `gptoss weights`

Only the commit that is asked for is in it. Every byte is hashed on the way, so the stamps, which
say that a file of this size and time was right, are true by what was just seen.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from deploy.airgap import archive
from deploy.airgap.archive import Entry
from deploy.airgap.fault import Fault

HUB: Final = "hub"
STAMPS: Final = "gptoss/weights"
_OWNER: Final = "openai"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where weights lie."""

    hub: Path
    stamps: Path

    @classmethod
    def of_claim(cls, folder: Path) -> "Shelf":
        """As they lie on the claim."""
        return cls(folder / HUB, folder / STAMPS)

    @classmethod
    def standard(cls) -> "Shelf":
        """Where `gptoss weights` puts them for who set nothing."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        hugging = Path(os.environ.get("HF_HOME") or home / "huggingface")
        hub = Path(os.environ.get("HF_HUB_CACHE") or hugging / "hub")
        ours = Path(os.environ.get("GPTOSS_CACHE_DIR") or home / "gptoss")
        return cls(hub.expanduser(), ours.expanduser() / "weights")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a commit."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit that is there."""

    model: str
    shelf: Shelf
    revision: str
    commit: str
    files: tuple[File, ...]

    @property
    def total(self) -> int:
        """Bytes; equal files count once."""
        return sum({file.digest: file.size for file in self.files}.values())

    def path(self, file: File) -> Path:
        """Where a file's name is."""
        return self.shelf.hub / folder_name(self.model) / "snapshots" / self.commit / file.name


def folder_name(model: str) -> str:
    """Of its repository in the cache."""
    return f"models--{_OWNER}--{model}"


def stamps_name(model: str) -> str:
    """Of the file with its stamps."""
    return f"{_OWNER}--{model}.json"


def find(shelf: Shelf, model: str, revision: str) -> Snapshot:
    """The commit of a revision, every file of it there."""
    stamps = shelf.stamps / stamps_name(model)
    again = (
        f"fetch them with `HF_HUB_CACHE={shelf.hub} GPTOSS_CACHE_DIR={shelf.stamps.parent} gptoss "
        f"weights {model} --revision {revision}`, or name another folder with --weights"
    )
    try:
        known = json.loads(stamps.read_bytes())
        commit = str(known["revisions"].get(revision, revision))
        files = tuple(File(**file) for file in known["snapshots"][commit]["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise Fault(f"{stamps} knows no weights of {model} at {revision}: {again}") from None
    snapshot = Snapshot(model, shelf, revision, commit, files)
    for file in files:
        path = snapshot.path(file)
        if not path.is_file() or path.stat().st_size != file.size:
            raise Fault(f"{path} is missing or not whole: {again}")
    return snapshot


def pack(snapshot: Snapshot, out: Path) -> tuple[int, str]:
    """Write the tar; its size and sum. The stamps come last, so that what has them has all."""
    base = f"{HUB}/{folder_name(snapshot.model)}"
    times: dict[str, int] = {}
    with archive.written(out) as (tar, summed):
        for file in snapshot.files:
            if file.digest not in times:
                times[file.digest] = _add(tar, snapshot, file)
        for file in snapshot.files:
            depth = len(PurePosixPath(file.name).parts) + 1
            target = "../" * depth + f"blobs/{file.digest}"
            archive.add_link(tar, f"{base}/snapshots/{snapshot.commit}/{file.name}", target)
        if snapshot.revision != snapshot.commit:
            archive.add(tar, f"{base}/refs/{snapshot.revision}", snapshot.commit.encode())
        stamps = json.dumps(_stamps(snapshot, times)).encode()
        archive.add(tar, f"{STAMPS}/{stamps_name(snapshot.model)}", stamps)
    return summed.size, summed.sha256


def _add(tar: tarfile.TarFile, snapshot: Snapshot, file: File) -> int:
    """A blob, hashed on the way; its time."""
    path = snapshot.path(file)
    name = f"{HUB}/{folder_name(snapshot.model)}/blobs/{file.digest}"
    with path.open("rb") as stream:
        mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
        hashed = Hashed(stream, file)
        archive.add_stream(tar, name, file.size, hashed, mtime_ns)
    if not hashed.right:
        raise Fault(
            f"{path} is not what the Hub published (its hash differs): run `gptoss weights "
            f"{snapshot.model}` there, it fetches it anew"
        )
    return mtime_ns


class Hashed:
    """A file that is read and hashed."""

    def __init__(self, stream: IO[bytes], file: File) -> None:
        self._stream, self._file = stream, file
        self._hasher = archive.hasher(file.digest, file.size)

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes."""
        data = self._stream.read(size)
        self._hasher.update(data)
        return data

    @property
    def right(self) -> bool:
        """Whether what was read is what was published."""
        return self._hasher.hexdigest() == self._file.digest


def _stamps(snapshot: Snapshot, times: dict[str, int]) -> dict[str, Any]:
    """As service/engine/weights/record.py keeps them."""
    named = snapshot.revision != snapshot.commit
    listed = [
        {"name": each.name, "size": each.size, "digest": each.digest} for each in snapshot.files
    ]
    verified = {each.name: [each.size, times[each.digest]] for each in snapshot.files}
    return {
        "revisions": {snapshot.revision: snapshot.commit} if named else {},
        "snapshots": {snapshot.commit: {"files": listed, "verified": verified}},
    }


def problems(entries: dict[str, Entry], model: str, commit: str) -> Iterator[str]:
    """What is wrong with a tar that should hold that commit."""
    base = f"{HUB}/{folder_name(model)}"
    try:
        stamps = json.loads(entries[f"{STAMPS}/{stamps_name(model)}"].content)
        files = [File(**file) for file in stamps["snapshots"][commit]["files"]]
    except (KeyError, ValueError, TypeError):
        yield f"it has no stamps of commit {commit}"
        return
    for file in files:
        blob = entries.get(f"{base}/blobs/{file.digest}")
        link = entries.get(f"{base}/snapshots/{commit}/{file.name}")
        if blob is None or link is None or not link.link.endswith(f"/blobs/{file.digest}"):
            yield f"{file.name} is not in it"
        elif blob.digest != file.digest or blob.size != file.size:
            yield f"{file.name} does not have the published hash"
