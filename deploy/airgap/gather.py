"""`bundle`: everything gathered in a folder; what is there and right is not made again."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.airgap import archive, bundle, chart, layout, name, room, tool, weights
from deploy.airgap.bundle import Bundle, Chart, Image, Item, Model
from deploy.airgap.console import human, note, say
from deploy.airgap.fault import Fault
from deploy.airgap.program import Failed
from deploy.airgap.rendered import CLAIM, Needs
from deploy.airgap.source import Finder
from deploy.airgap.weights import Shelf

_SCRATCH = ".making"
_OURS = {bundle.MANIFEST, bundle.SUMS}


@dataclass(frozen=True, slots=True)
class Part:
    """A file that is to be in the bundle."""

    file: str
    need: int
    """Bytes, as far as they are known."""
    same: Callable[[Item], bool]
    """Whether a file that was made before is what would be made now."""
    make: Callable[[Path], Item]
    """Make it, at that path."""
    scratch: int = 0
    """Bytes beside it while it is made."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to gather, and from where."""

    needs: Needs
    registry: str | None
    shelf: Shelf
    finder: Callable[[], Finder]


def gather(out: Path, order: Order) -> None:
    """Make or complete the bundle."""
    old = _known(out)
    scratch = out / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    parts = list(_parts(order))  # finds out what is missing before anything is written
    _refuse_strangers(out, {part.file for part in parts} | old.keys())
    kept = {part.file: old[part.file] for part in parts if _is_right(out, part, old)}
    missing = [part for part in parts if part.file not in kept]
    need = sum(part.need for part in missing) + max((part.scratch for part in missing), default=0)
    room.check(out, need, "give another disk, or make room")
    scratch.mkdir(parents=True)
    try:
        done = _make_all(out, scratch, parts, kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for file in old.keys() - {part.file for part in parts}:
        (out / file).unlink(missing_ok=True)
    total = bundle.write_sums(out, done.items)
    say(f"{out}: {len(parts)} files, {human(sum(item.size for item in done.items))}")
    say(f"sha256 of {bundle.SUMS}, to be compared on the other side: {total}")


def _known(out: Path) -> dict[str, Item]:
    """What an earlier call recorded."""
    if not (out / bundle.MANIFEST).exists():
        return {}
    return {item.file: item for item in bundle.read(out).items}


def _refuse_strangers(out: Path, known: set[str]) -> None:
    strange = sorted(
        each
        for each in (bundle.files(out) if out.exists() else ())
        if each not in known | _OURS and not each.endswith(".new")
    )
    if strange:
        raise Fault(f"{out} has {strange[0]}, which is no part of a bundle: name an empty folder")


def _is_right(out: Path, part: Part, old: dict[str, Item]) -> bool:
    item, path = old.get(part.file), out / part.file
    if item is None or not path.is_file() or path.stat().st_size != item.size:
        return False
    if not part.same(item):
        return False
    note(f"{part.file}: there, checking")
    return archive.sha256(path) == item.sha256


def _make_all(out: Path, scratch: Path, parts: list[Part], kept: dict[str, Item]) -> Bundle:
    """Each is recorded once it has its final name, so that the next call knows it."""
    (out / bundle.SUMS).unlink(missing_ok=True)
    done = Bundle()
    later = dict(kept)
    for part in parts:
        later.pop(part.file, None)
        done.add(kept.get(part.file) or _made(out, scratch, part))
        _record(out, done, later)
    return done


def _made(out: Path, scratch: Path, part: Part) -> Item:
    note(f"{part.file}: {human(part.need)}" if part.need else part.file)
    new, final = scratch / "new", out / part.file
    item = part.make(new)
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    final.parent.mkdir(parents=True, exist_ok=True)
    new.replace(final)
    return item


def _record(out: Path, done: Bundle, later: dict[str, Item]) -> None:
    so_far = Bundle()
    for item in (*done.items, *later.values()):
        so_far.add(item)
    so_far.write(out)


def _parts(order: Order) -> Iterator[Part]:
    yield _small("airgap.pyz", tool.zipped(), _plain)
    yield _small("unpack.yaml", tool.POD.read_bytes(), _plain)
    version = chart.version()
    yield _small(
        f"{chart.CHART.name}-{version}.tgz",
        chart.package(),
        lambda file, size, total: Chart(chart.CHART.name, file, size, total, version),
    )
    names = name.within(order.needs.images, order.registry)
    finder = order.finder()
    for image, rendered in names.items():
        yield _image(finder, image, rendered)
    for model in order.needs.models:
        if model.origin == CLAIM:
            yield _model(weights.find(order.shelf, model.name, model.revision))


def _plain(file: str, size: int, total: str) -> Item:
    return Item(file, file, size, total)


def _small(file: str, content: bytes, describe: Callable[[str, int, str], Item]) -> Part:
    def make(path: Path) -> Item:
        path.write_bytes(content)
        return wanted

    wanted = describe(file, len(content), hashlib.sha256(content).hexdigest())
    return Part(file, 0, lambda item: item == wanted, make)


def _image(finder: Finder, image: str, rendered: str) -> Part:
    source, file = finder.find(image, rendered), name.file(image)

    def same(item: Item) -> bool:
        """A store's image may have been built anew; a registry's tag is taken to stay."""
        if not isinstance(item, Image) or item.arch != finder.arch:
            return False
        return source.config in ("", item.config)

    def make(path: Path) -> Item:
        folder = path.with_name("image")
        try:
            finder.fetch(source, folder)
        except Failed as error:
            raise Fault(f"{image} cannot be copied: {error}") from None
        packed = layout.pack(folder, image, path)
        shutil.rmtree(folder)
        described = (packed.digest, packed.config, finder.arch)
        return Image(image, file, packed.size, packed.sha256, *described)

    return Part(file, source.size, same, make, scratch=source.size)


def _model(snapshot: weights.Snapshot) -> Part:
    file = f"weights/{snapshot.model}.tar"

    def same(item: Item) -> bool:
        wanted = (snapshot.revision, snapshot.commit)
        return isinstance(item, Model) and (item.revision, item.commit) == wanted

    def make(path: Path) -> Item:
        size, total = weights.pack(snapshot, path)
        revision, commit = snapshot.revision, snapshot.commit
        return Model(snapshot.model, file, size, total, revision, commit, snapshot.total)

    return Part(file, snapshot.total, same, make)
