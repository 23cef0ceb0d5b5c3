"""The standard Hugging Face cache, as other tools leave it and expect it.

    models--openai--gpt-oss-20b/
        blobs/<digest>                  the bytes
        blobs/<digest>.incomplete       the beginning of them
        snapshots/<commit>/<name>       a link to a blob
        refs/<revision>                 the commit that a branch pointed to

A download gets its final name only after its hash was checked, so no name in `snapshots` ever leads
to bytes that this module wrote and did not check.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.engine.weights.manifest import File, Manifest
from service.engine.weights.meter import Meter

POLL = 0.5
_SMALL = 100 << 20


@dataclass(frozen=True)
class Cache:
    """One repository's folder in the cache."""

    root: Path
    repo: str

    @property
    def name(self) -> str:
        """Of the folder; huggingface_hub's `repo_folder_name`."""
        return "models--" + self.repo.replace("/", "--")

    def snapshot(self, commit: str) -> Path:
        """The folder that vLLM is given."""
        return self.root / self.name / "snapshots" / commit

    @property
    def blobs(self) -> Path:
        """The folder of all bytes."""
        return self.root / self.name / "blobs"

    def blob(self, file: File) -> Path:
        """Where its bytes are, once checked."""
        return self.blobs / file.digest

    def partial(self, file: File) -> Path:
        """Where its bytes gather."""
        return self.blob(file).with_name(f"{file.digest}.incomplete")

    def held(self, commit: str, file: File) -> Path | None:
        """The file under a final name, checked or not: in the snapshot, or shared by another."""
        for path in (self.snapshot(commit) / file.name, self.blob(file)):
            if path.is_file():
                return path
        return None

    def missing(self, manifest: Manifest) -> list[File]:
        """Files that must be (or are being) downloaded."""
        return [file for file in manifest.files if self.held(manifest.commit, file) is None]

    def gathered(self, file: File) -> int:
        """Bytes of the download so far that can be continued."""
        try:
            size = self.partial(file).stat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= file.size else 0

    def place(self, commit: str, file: File, checked: Path) -> None:
        """Give checked bytes their names."""
        blob, pointer = self.blob(file), self.snapshot(commit) / file.name
        if checked == self.partial(file) and checked.exists():
            with checked.open("rb") as source:
                os.fsync(source.fileno())  # or a power cut could leave zeros under a stamped name
            checked.replace(blob)
        if pointer.exists():
            return
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)  # a link to nowhere
        try:
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:  # a disk without links, as some network disks are: the file itself
            if file.size < _SMALL:
                shutil.copy2(blob, pointer)
            else:
                blob.replace(pointer)

    def discard(self, file: File, wrong: Path) -> None:
        """Take away wrong bytes and the name that led to them, so that they are fetched again."""
        blob = self.blob(file)
        with contextlib.suppress(FileNotFoundError):
            if wrong.samefile(blob):
                blob.unlink()
        wrong.unlink(missing_ok=True)

    def refer(self, revision: str, commit: str) -> None:
        """Note where a branch points, as huggingface_hub does, for tools that read the cache."""
        ref = self.root / self.name / "refs" / revision
        if revision == commit or (ref.is_file() and ref.read_text().strip() == commit):
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{secrets.token_hex(4)}.tmp")
        new.write_text(commit)
        new.replace(ref)

    @contextlib.contextmanager
    def alone(self, meter: Meter) -> Iterator[None]:
        """One process at a time downloads a repository; the kernel frees it when one is killed.

        Some shared disks pretend to lock. Two writers then spoil each other's file, which its hash
        shows: it costs a download, never a wrong file.
        """
        path = self.root / ".locks" / self.name / "gptoss.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.blobs.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    meter.report()
                    meter.wait(POLL, "")
                except OSError:  # a disk without locks
                    break
            yield
