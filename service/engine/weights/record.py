"""What was verified on this machine, so that 65 GB are not hashed at each start.

One JSON file per repository, in this program's own cache. It may be deleted at any time: the next
start hashes again (and, offline, refuses, since the published hashes are then unknown).
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import msgspec

from service.engine.weights.manifest import File, Manifest


@dataclass
class _Snapshot:
    files: tuple[File, ...]
    verified: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By file name: the size and mtime_ns that the file had when its hash was right."""


@dataclass
class _Content:
    revisions: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, _Snapshot] = field(default_factory=dict)


class Record:
    """The stamps of one repository."""

    def __init__(self, folder: Path, repo: str) -> None:
        self._repo = repo
        self._lock = Lock()
        self._path = folder / (repo.replace("/", "--") + ".json")
        try:
            self._content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except (FileNotFoundError, msgspec.DecodeError):  # lost or spoiled: it can be made again
            self._content = _Content()

    def manifest(self, revision: str) -> Manifest | None:
        """What the Hub published for a revision, as last seen here."""
        commit = self._content.revisions.get(revision, revision)
        snapshot = self._content.snapshots.get(commit)
        return Manifest(self._repo, commit, snapshot.files) if snapshot else None

    def remember(self, manifest: Manifest) -> None:
        """Keep what was published; a commit's files never change, so its stamps stay."""
        known = self._content.snapshots.get(manifest.commit)
        if known is None or known.files != manifest.files:
            self._content.snapshots[manifest.commit] = _Snapshot(manifest.files)
            self._save()

    def refer(self, revision: str, commit: str) -> None:
        """A branch points to this commit, whose files are all verified."""
        if self._content.revisions.get(revision, revision) != commit:
            self._content.revisions[revision] = commit
            self._save()

    def vouches(self, commit: str, file: File, path: Path) -> bool:
        """Whether this very file was verified and is unchanged since."""
        status = path.stat()
        seen = self._content.snapshots[commit].verified.get(file.name)
        return seen == (status.st_size, status.st_mtime_ns) and status.st_size == file.size

    def vouch(self, commit: str, file: File, status: os.stat_result) -> None:
        """The file was right; `status` was read before its bytes were."""
        with self._lock:
            verified = self._content.snapshots[commit].verified
            verified[file.name] = (status.st_size, status.st_mtime_ns)
            self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.tmp")
        new.write_bytes(msgspec.json.encode(self._content))
        new.replace(self._path)
