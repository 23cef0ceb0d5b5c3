"""A folder outside the repository for what is made once: base images, built images."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "GPTOSS_TEST_CACHE"
ROOT = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """The cache, made if need be."""
    path = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "gptoss-tests")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def lock() -> Iterator[None]:
    """One builder at a time: two would make the same thing twice, in half the speed."""
    with (folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(paths: Iterable[Path], *words: str) -> str:
    """What identifies files by name and content, and the words beside them."""
    summed = hashlib.sha256("\0".join(words).encode())
    for path in sorted(_files(paths)):
        name = path.relative_to(ROOT).as_posix()
        summed.update(f"\0{name}\0".encode())
        summed.update(hashlib.sha256(path.read_bytes()).digest())
    return summed.hexdigest()[:16]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (
                each
                for each in path.rglob("*")
                if each.is_file() and "__pycache__" not in each.parts
            )
        else:
            yield path
