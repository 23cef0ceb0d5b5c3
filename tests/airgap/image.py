"""Images of some bytes, as skopeo's `dir:` has them: docker's kind, with a health check."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make(folder: Path, content: str, arch: str = "amd64") -> str:
    """An image with a file of that content; the digest of its manifest."""
    manifest = _image(_folder(folder), content, arch)
    return _top(folder, manifest)


def make_list(folder: Path, content: str, *archs: str) -> str:
    """An image for several architectures; the digest of the list."""
    listed = []
    for arch in archs:
        manifest = _image(_folder(folder), content + arch, arch)
        digest = sha256(manifest)
        (folder / f"{digest}.manifest.json").write_bytes(manifest)
        where = {"architecture": arch, "os": "linux"}
        listed.append(_blob(_MANIFEST, manifest) | {"platform": where})
    return _top(folder, _json({"schemaVersion": 2, "mediaType": _LIST, "manifests": listed}))


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    return folder


def _top(folder: Path, manifest: bytes) -> str:
    (folder / "manifest.json").write_bytes(manifest)
    return f"sha256:{sha256(manifest)}"


def _image(folder: Path, content: str, arch: str) -> bytes:
    layer = _layer(content.encode())
    packed = gzip.compress(layer, mtime=0)
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {"Healthcheck": {"Test": ["CMD", "true"]}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
        "history": [{"created_by": "a test"}],
    }
    blobs = [(_CONFIG, _json(config)), (_LAYER, packed)]
    for _, blob in blobs:
        (folder / sha256(blob)).write_bytes(blob)
    described = [_blob(kind, blob) for kind, blob in blobs]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described[0]}
    return _json(manifest | {"layers": described[1:]})


def _layer(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _blob(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": f"sha256:{sha256(content)}"}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
