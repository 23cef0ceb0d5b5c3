"""The folder in which a built model lives: complete or absent, never half.

A model is built in a hidden sibling folder and renamed when its files are on disk. A lock lets one
process build while others wait; the kernel drops the lock of a killed builder, and the next one
clears what it left.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from service.engine.tiny.recipe import TinyRecipe
from service.errors import UserError

Progress = Callable[[float, str], None]
"""Called with the fraction done (0 to 1, never falling) and a few words."""

_POLL_SECONDS = 0.2
_FULL = (errno.ENOSPC, errno.EDQUOT)


def location(cache_dir: Path, recipe: TinyRecipe | None = None) -> Path:
    """Where the model of this recipe is, or will be."""
    return cache_dir / f"gpt-oss-tiny-{(recipe or TinyRecipe()).digest()}"


def is_built(cache_dir: Path, recipe: TinyRecipe | None = None) -> bool:
    """The folder gets its name last, so that it exists means that it is complete."""
    return location(cache_dir, recipe).is_dir()


def ensure(
    cache_dir: Path,
    progress: Progress = lambda fraction, note: None,
    recipe: TinyRecipe | None = None,
) -> Path:
    """The model's folder; builds it first when it is not there. Safe to call from anywhere at once.

    Raises UserError when the cache cannot hold it or when the packages that build it are missing.
    """
    recipe = recipe or TinyRecipe()
    final = _location(cache_dir, recipe)
    if final.is_dir():
        return final
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / f".{final.name}.lock", progress):
            if not final.is_dir():
                _build(recipe, final, progress)
    except OSError as error:
        raise _user_error(error, cache_dir) from error
    return final


def found(cache_dir: Path, recipe: TinyRecipe | None = None) -> Path:
    """The model's folder; UserError where it is not built, or not yet. Nothing is written."""
    folder = _location(cache_dir, recipe or TinyRecipe())
    if not folder.is_dir():
        raise UserError(
            f"the tiny model is not in {folder}: build it with `gptoss weights gpt-oss-tiny`"
        )
    return folder


def _location(cache_dir: Path, recipe: TinyRecipe) -> Path:
    try:
        return location(cache_dir, recipe)
    except PackageNotFoundError as error:
        raise _lacking(error) from error


def _build(recipe: TinyRecipe, final: Path, progress: Progress) -> None:
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write_model(recipe, partial, progress)
        _flush(partial)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_model(recipe: TinyRecipe, folder: Path, progress: Progress) -> None:
    try:
        from service.engine.tiny.checkpoint import write
    except ModuleNotFoundError as error:
        raise _lacking(error) from error
    write(recipe, folder, progress)


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as lock:
        while not _try_lock(lock.fileno()):
            progress(0.0, "another process builds it")
            time.sleep(_POLL_SECONDS)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flush(folder: Path) -> None:
    """On disk before it gets its name, or a power cut leaves a complete folder of empty files."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lacking(error: ModuleNotFoundError) -> UserError:
    return UserError(
        f"the tiny model needs the package {error.name!r}: "
        "install gptoss-serving[engine-cpu] (or [engine] on a GPU machine)"
    )


def _user_error(error: OSError, cache_dir: Path) -> UserError:
    if error.errno in _FULL:
        return UserError(
            f"no space left in {cache_dir} for the tiny model (about 150 MB): "
            "free some, or choose another cache folder"
        )
    return UserError(
        f"cannot write the tiny model to {cache_dir} ({error.strerror or error}): "
        "choose a cache folder that you can write to"
    )
