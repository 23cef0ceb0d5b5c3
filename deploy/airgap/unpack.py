"""`unpack`: the weights to where the claim is mounted.

A file has its final name only once its hash was right, and the stamps come last: whoever waits for
them (`gptoss weights --offline --wait`) never sees half. What is there is not written again.
"""

import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from deploy.airgap import archive, bundle, room
from deploy.airgap.bundle import Model
from deploy.airgap.console import note, say
from deploy.airgap.fault import Fault
from deploy.airgap.weights import File, Hashed

OWNER: Final = 10001  # the user of the chart's Job
_REPO = r"hub/models--[\w.-]+"
_BLOB = re.compile(rf"{_REPO}/blobs/([0-9a-f]{{64}}|[0-9a-f]{{40}})")
_LINK = re.compile(rf"({_REPO})/snapshots/[0-9a-f]{{40}}/.+")
_LATER = re.compile(rf"{_REPO}/refs/.+|gptoss/weights/[\w.-]+\.json")
_SMALL = 100 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, and whose files are to be."""

    folder: Path
    owner: int

    def give(self, path: Path) -> None:
        """Make it the owner's, if that can be done."""
        if os.geteuid() == 0:
            os.chown(path, self.owner, self.owner, follow_symlinks=False)

    def parent(self, path: Path) -> Path:
        """Make the folders above a file."""
        for folder in reversed(path.relative_to(self.folder).parents):
            if not (new := self.folder / folder).exists():
                new.mkdir()
                self.give(new)
        return path


def unpack(source: Path, folder: Path, owner: int = OWNER) -> None:
    """Every model of a bundle."""
    models = bundle.read(source).models
    if not models:
        raise Fault(f"{source} has no weights: bundle it with a render that has them on a claim")
    place = Place(_made(folder, owner), owner)
    for model in models:
        _check_room(place, source, model)
        with (source / model.file).open("rb") as stream:
            _unpack(stream, model.file, place, partial(_same, model))
        say(f"{model.name} at {model.revision} ({model.commit}) is in {folder}")


def unpack_stream(stream: IO[bytes], folder: Path, owner: int = OWNER) -> None:
    """One tar from a pipe, into a pod for instance."""
    place = Place(_made(folder, owner), owner)
    total = _unpack(stream, "the stream", place, lambda total: None)
    say(f"unpacked in {folder}; its sha256, to be compared with {bundle.SUMS}: {total}")


def _made(folder: Path, owner: int) -> Path:
    if not folder.exists():
        folder.mkdir(parents=True)
        Place(folder, owner).give(folder)
    return folder


def _check_room(place: Place, source: Path, model: Model) -> None:
    path = source / model.file
    if not path.is_file() or path.stat().st_size != model.size:
        raise Fault(f"{path} is missing or not whole: copy it again, and `check` the bundle")
    blobs = place.folder.glob("hub/*/blobs/*")
    there = sum(each.stat().st_size for each in blobs if f"--{model.name}/" in str(each))
    room.check(place.folder, max(0, model.bytes - there), "make the claim larger")


def _same(model: Model, total: str) -> None:
    if total != model.sha256:
        raise Fault(
            f"{model.file} is not what {bundle.MANIFEST} says: copy it again, then run again"
        )


def _unpack(stream: IO[bytes], name: str, place: Place, accept: Callable[[str], None]) -> str:
    later: dict[str, bytes] = {}
    rough: list[str] = []
    with archive.read(stream, name) as (tar, summed):
        for info in tar:
            if info.isfile() and _LATER.fullmatch(info.name) and bundle.inside(info.name):
                later[info.name] = _content(tar, info).read()
            else:
                _put(tar, info, place, rough)
    accept(summed.sha256)
    for file, content in later.items():
        _finish(place, file, content)
    if rough:
        note(f"{place.folder} keeps no exact times: the Job will hash {len(rough)} files once more")
    return summed.sha256


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None, "it is a file"
    return stream


def _put(tar: tarfile.TarFile, info: tarfile.TarInfo, place: Place, rough: list[str]) -> None:
    path = place.folder / info.name
    if info.isfile() and (match := _BLOB.fullmatch(info.name)):
        if not _is_there(path, info):
            note(info.name)
            _blob(_content(tar, info), File(info.name, info.size, match[1]), info, place)
        if path.stat().st_mtime_ns != archive.mtime_ns(info):
            rough.append(info.name)
    elif info.issym() and _is_sound(info):
        _link(place.parent(path), info.linkname, place)
    else:
        raise Fault(f"{info.name} does not belong to weights: this tar was not made by `bundle`")


def _is_sound(info: tarfile.TarInfo) -> bool:
    """Whether it leads to a blob of the same repository, and nowhere else."""
    match = _LINK.fullmatch(info.name)
    if match is None or not bundle.inside(info.name):
        return False
    target = os.path.normpath(f"{os.path.dirname(info.name)}/{info.linkname}")  # noqa: PTH120
    return target.startswith(f"{match[1]}/blobs/") and _BLOB.fullmatch(target) is not None


def _is_there(path: Path, info: tarfile.TarInfo) -> bool:
    """Of an earlier call: the time is given last."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (info.size, archive.mtime_ns(info))


def _blob(stream: IO[bytes], file: File, info: tarfile.TarInfo, place: Place) -> None:
    path = place.parent(place.folder / file.name)
    new = path.with_name(f"{path.name}.unpacking")
    source = Hashed(stream, file)
    try:
        with new.open("wb") as out:
            shutil.copyfileobj(source, out, archive.READ)
            out.flush()
            os.fsync(out.fileno())
        if not source.right:
            raise Fault(f"{file.name} is damaged in the bundle: copy its tar again, then run again")
        place.give(new)
        new.chmod(0o644)
        os.utime(new, ns=(archive.mtime_ns(info),) * 2)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _link(path: Path, target: str, place: Place) -> None:
    if path.is_symlink() or path.exists():
        path.unlink()
    try:
        path.symlink_to(target)
        place.give(path)
    except OSError:  # a disk without links: the file itself, as `gptoss weights` does it
        blob = path.parent / target
        if blob.stat().st_size < _SMALL:
            shutil.copy2(blob, path)
        else:
            blob.replace(path)


def _finish(place: Place, file: str, content: bytes) -> None:
    """The stamps, beside those of other commits that are there."""
    path = place.parent(place.folder / file)
    if file.startswith("gptoss/") and path.exists():
        content = json.dumps(_merged(path, json.loads(content))).encode()
    bundle.replace(path, content)
    place.give(path)


def _merged(path: Path, new: dict[str, Any]) -> dict[str, Any]:
    try:
        old = json.loads(path.read_bytes())
        return {kind: {**old[kind], **new[kind]} for kind in ("revisions", "snapshots")}
    except (ValueError, KeyError, TypeError):
        return new  # spoiled stamps vouch for nothing
