"""Room on a disk."""

import shutil
from pathlib import Path

from deploy.airgap.console import human
from deploy.airgap.fault import Fault

_SPARE = 64 << 20  # for folders, manifests and what else has no count


def check(folder: Path, need: int, advice: str) -> None:
    """Fault unless so many bytes can be written there."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if need and need + _SPARE > free:
        raise Fault(f"{folder} has {human(free)} free, {human(need)} are needed: {advice}")
