"""OCI archives: made of what skopeo, podman and buildah leave in a folder (`dir:`).

No manifest is converted, so an image has the digest here that it had where it is from, and docker's
health check. `manifest.json` is for `docker load`.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from deploy.airgap import archive
from deploy.airgap.archive import Entry
from deploy.airgap.fault import Fault

_BLOBS: Final = "blobs/sha256/"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_DOCKER: Final = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"


@dataclass(frozen=True, slots=True)
class Packed:
    """What was written."""

    size: int
    sha256: str
    digest: str
    config: str


def pack(folder: Path, name: str, out: Path) -> Packed:
    """Move an image from a `dir:` folder into an archive, blob by blob."""
    top = (folder / "manifest.json").read_bytes()
    manifest = json.loads(top)
    digest = hashlib.sha256(top).hexdigest()
    with archive.written(out) as (tar, summed):
        archive.add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        archive.add(tar, "index.json", _json(_index(manifest, digest, len(top), name)))
        if "config" in manifest:
            archive.add(tar, "manifest.json", _json([_loadable(manifest, name)]))
        archive.add(tar, _BLOBS + digest, top)
        for hexa, path in sorted(_blobs(folder)):
            if hexa != digest:
                with path.open("rb") as stream:
                    archive.add_stream(tar, _BLOBS + hexa, path.stat().st_size, stream)
            path.unlink()
    config = manifest.get("config", {}).get("digest", "")
    return Packed(summed.size, summed.sha256, f"sha256:{digest}", config)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _blobs(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        hexa = path.name.removesuffix(".manifest.json")
        if len(hexa) == 64:
            yield hexa, path


def _index(manifest: dict[str, Any], digest: str, size: int, name: str) -> dict[str, Any]:
    kind = manifest.get("mediaType") or (_INDEX if "manifests" in manifest else _MANIFEST)
    notes = {"org.opencontainers.image.ref.name": name}
    top = {"mediaType": kind, "digest": f"sha256:{digest}", "size": size, "annotations": notes}
    return {"schemaVersion": 2, "manifests": [top]}


def _loadable(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    def path(blob: dict[str, Any]) -> str:
        return _BLOBS + str(blob["digest"]).removeprefix("sha256:")

    layers = [path(layer) for layer in manifest["layers"]]
    tags = [] if "@" in name else [name]
    return {"Config": path(manifest["config"]), "RepoTags": tags, "Layers": layers}


def from_docker(stream: IO[bytes], folder: Path) -> None:
    """Make a `dir:` folder of what `docker save` prints."""
    folder.mkdir()
    found: dict[str, str] = {}
    with archive.read(stream, "what docker saved") as (tar, _):
        for info in tar:
            if info.isfile():
                found[info.name] = _keep(tar, info, folder)
            elif info.issym() or info.islnk():
                found[info.name] = f"->{_target(info)}"
    try:
        (saved,) = json.loads((folder / found["manifest.json"]).read_bytes())
        config = _blob(folder, found, saved["Config"], _DOCKER_CONFIG)
        layers = [_blob(folder, found, layer, _DOCKER_LAYER) for layer in saved["Layers"]]
    except (KeyError, ValueError) as error:
        raise Fault(
            f"docker saved no image that is known here ({error!r}): install skopeo"
        ) from None
    used = {str(blob["digest"]).removeprefix("sha256:") for blob in (config, *layers)}
    for path in folder.iterdir():
        if path.name not in used:
            path.unlink()
    manifest = {"schemaVersion": 2, "mediaType": _DOCKER, "config": config, "layers": layers}
    (folder / "manifest.json").write_bytes(_json(manifest))


def _target(info: tarfile.TarInfo) -> str:
    """Older dockers link to a layer that another image has, too."""
    if info.islnk():
        return info.linkname
    parts = info.name.split("/")[:-1]
    for part in info.linkname.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _keep(tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> str:
    """Write a member under its sum, which is returned."""
    stream = tar.extractfile(info)
    assert stream is not None, "it is a file"
    new, made = folder / "new", hashlib.sha256()
    with new.open("wb") as out:
        while block := stream.read(archive.READ):
            made.update(block)
            out.write(block)
    new.replace(folder / made.hexdigest())
    return made.hexdigest()


def _blob(folder: Path, found: dict[str, str], name: str, kind: str) -> dict[str, Any]:
    digest = found[name]
    if digest.startswith("->"):
        digest = found[digest[2:]]
    path = folder / digest
    with path.open("rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
    kind = f"{kind}.gzip" if gzipped else kind
    return {"mediaType": kind, "size": path.stat().st_size, "digest": f"sha256:{digest}"}


def problems(entries: dict[str, Entry], digest: str) -> Iterator[str]:
    """What is wrong with an archive whose manifest should have that digest."""
    blobs = {name[len(_BLOBS) :]: one for name, one in entries.items() if name.startswith(_BLOBS)}
    for hexa, entry in blobs.items():
        if entry.digest != hexa:
            yield f"its blob {hexa[:12]} is damaged"
    try:
        (top,) = json.loads(entries["index.json"].content)["manifests"]
        if top["digest"] != digest:
            yield f"its manifest is {top['digest']}, and {digest} was recorded"
        yield from _lacking(blobs, top["digest"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        yield f"it is no OCI archive ({error!r})"


def _lacking(blobs: dict[str, Entry], digest: str) -> Iterator[str]:
    """Blobs that a manifest names and the archive has not."""
    entry = blobs.get(digest.removeprefix("sha256:"))
    if entry is None:
        yield f"its manifest {digest} is not in it"
        return
    manifest = json.loads(entry.content)
    for inner in manifest.get("manifests", ()):
        yield from _lacking(blobs, inner["digest"])
    for blob in (*filter(None, [manifest.get("config")]), *manifest.get("layers", ())):
        if str(blob["digest"]).removeprefix("sha256:") not in blobs:
            yield f"its layer {blob['digest']} is not in it"
