"""What a docker-archive says of its image."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Archive:
    """An image in a tar file."""

    path: Path
    names: tuple[str, ...]
    identity: str
    """Its id: the digest of its configuration."""
    config: dict[str, Any]
    """User, environment, entry point and so on."""
    layers: tuple[str, ...]
    """Digests of what each layer holds."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(word.split("=", 1) for word in self.config["Env"])


def read(path: Path) -> Archive:
    """Read an archive's description, and none of its layers."""
    with tarfile.open(path) as tar:
        (manifest,) = json.load(_file(tar, "manifest.json"))
        described = json.load(_file(tar, manifest["Config"]))
    return Archive(
        path=path,
        names=tuple(manifest["RepoTags"] or ()),
        identity=manifest["Config"].removesuffix(".json"),
        config=described["config"],
        layers=tuple(described["rootfs"]["diff_ids"]),
    )


def _file(tar: tarfile.TarFile, name: str) -> Any:
    return tar.extractfile(name)
