"""An image's command as a platform runs it: any user, a read-only root, three writable folders.

No container runtime is needed for that: mounts in a namespace of their own, and chroot.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.images import buildah
from tests.images.archive import Archive

ANY_USER = 12345
TIMEOUT = 600
WRITABLE = ("/tmp", "/var/lib/gptoss", "/var/cache/gptoss")
_ENTER = """
set -e
root=$1 user=$2 writable=$3 workdir=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t proc proc "$root/proc"
for kernel in /dev /sys; do mount --rbind $kernel "$root$kernel"; done
for folder in $writable; do mount -t tmpfs -o mode=1777 tmpfs "$root$folder"; done
exec chroot --userspec="$user:$user" --groups="$user" "$root" \
    /usr/bin/env -i --chdir "$workdir" "$@"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """An image's files and environment. Nothing runs in it between two commands."""

    archive: Archive
    root: Path

    def run(
        self, *command: str, user: int = ANY_USER, writable: Sequence[str] = WRITABLE, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, with the image's variables and those given."""
        variables = [f"{key}={value}" for key, value in (self.archive.environment | env).items()]
        line = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _ENTER,
            "enter",
        ]
        line += [
            str(self.root),
            str(user),
            " ".join(writable),
            self.archive.config["WorkingDir"] or "/",
        ]
        line += [*variables, *command]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=TIMEOUT)


@contextmanager
def opened(archive: Archive) -> Iterator[Container]:
    """A container of an image that `tests.images.build` made."""
    kept = buildah.exists(archive.identity)
    image = archive.identity if kept else f"docker-archive:{archive.path}"
    with buildah.mounted(image) as root:
        yield Container(archive, root)
