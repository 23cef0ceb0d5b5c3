"""What the Hub publishes about one commit: its files, their sizes and their hashes."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Protocol

from service.errors import UserError

SHA256_LENGTH = 64
COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w./-]*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")

# The same weights again, for OpenAI's own loader and for Apple's GPUs: vLLM reads neither, and they
# would double the download.
UNUSED = ("original", "metal")


class Hasher(Protocol):
    """The part of hashlib's objects that is used here."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """The hash of all of them."""


@dataclass(frozen=True)
class File:
    """One file of a commit. Its digest is also the name of its blob in the Hugging Face cache."""

    name: str
    size: int
    digest: str
    """sha256 of a large file (Git LFS); of a small one the git blob id."""

    def hasher(self) -> Hasher:
        """A hash that ends at `digest` when fed the right bytes."""
        if len(self.digest) == SHA256_LENGTH:
            return hashlib.sha256()
        # Git hashes a header before the bytes; sha1 is what it publishes, no secret rests on it.
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)

    @property
    def used(self) -> bool:
        """Whether vLLM needs it."""
        return PurePosixPath(self.name).parts[0] not in UNUSED

    @property
    def sound(self) -> bool:
        """Whether name and digest may become paths on this disk."""
        path = PurePosixPath(self.name)
        inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
        return inside and self.size >= 0 and _DIGEST.fullmatch(self.digest) is not None


@dataclass(frozen=True)
class Manifest:
    """The files to have, of one commit."""

    repo: str
    commit: str
    files: tuple[File, ...]

    @cached_property
    def total(self) -> int:
        """Bytes on disk; equal files share theirs."""
        return sum({file.digest: file.size for file in self.files}.values())


def human(count: int) -> str:
    """Bytes as the Hub's pages show them: powers of 1000."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def check_name(repo: str) -> str:
    """A repository's name, which becomes part of paths and addresses."""
    if _REPO.fullmatch(repo) is None or "--" in repo:
        raise UserError(f"{repo!r} is no repository of the Hub: write it as openai/gpt-oss-20b")
    return repo


def check_revision(revision: str) -> str:
    """A branch, tag or commit, which becomes part of paths and addresses."""
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise UserError(f"{revision!r} is no revision: use main, a tag or a full commit")
    return revision
