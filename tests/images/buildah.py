"""Buildah: makes images as root without a daemon, in a storage of its own in the cache."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.images import cache

_LAST_LINES = 15


class BuildFailed(Exception):
    """A command failed; the text is its last words."""


def missing() -> str:
    """Why images cannot be built here, or nothing."""
    if os.geteuid() != 0:
        return "images are built by root here: buildah without a daemon needs it"
    programs = [name for name in ("buildah", "debootstrap", "unshare") if not shutil.which(name)]
    if programs:
        return f"{', '.join(programs)} not installed: `apt-get install buildah debootstrap`"
    return ""


def environment() -> dict[str, str]:
    """Where images are kept, and that RUN needs neither runc nor a network of its own."""
    storage = cache.folder() / "containers"
    config = storage / "storage.conf"
    if not config.exists():
        storage.mkdir(exist_ok=True)
        config.write_text(
            f'[storage]\ndriver = "{os.environ.get("STORAGE_DRIVER", "overlay")}"\n'
            f'graphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
        )
    return {**os.environ, "CONTAINERS_STORAGE_CONF": str(config), "BUILDAH_ISOLATION": "chroot"}


def run(*line: str | Path, cwd: Path = cache.ROOT) -> str:
    """Run a command with that storage; what it prints."""
    words = [str(word) for word in line]
    done = subprocess.run(
        words, cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
        raise BuildFailed(f"{' '.join(words[:3])} … failed:\n" + "\n".join(said))
    return done.stdout.strip()


def exists(image: str) -> bool:
    """Whether the storage has it."""
    try:
        run("buildah", "inspect", "--type", "image", image)
    except BuildFailed:
        return False
    return True


def build(image: str, dockerfile: Path, context: Path, *options: str) -> None:
    """Build from a Dockerfile; in docker's format, since OCI's has no HEALTHCHECK."""
    run("buildah", "bud", "--format", "docker", *options, "-f", dockerfile, "-t", image, context)


def save(image: str, name: str, tar: Path) -> None:
    """Write an image as a docker-archive that containerd and docker import under that name."""
    partial = tar.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    run("buildah", "push", image, f"docker-archive:{partial}:{name}")
    partial.rename(tar)


def remove(image: str) -> None:
    """Forget an image; it may be gone."""
    if exists(image):
        run("buildah", "rmi", "--force", image)


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """An image's files, for as long as it takes."""
    container = run("buildah", "from", image)
    try:
        yield Path(run("buildah", "mount", container))
    finally:
        run("buildah", "rm", container)
