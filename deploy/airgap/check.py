"""`check`: whether a bundle is whole; needs neither a network nor any program."""

from collections.abc import Iterator
from pathlib import Path

from deploy.airgap import archive, bundle, layout, weights
from deploy.airgap.archive import Entry
from deploy.airgap.bundle import Bundle, Image, Item, Model
from deploy.airgap.console import note, say
from deploy.airgap.fault import Fault


def check(folder: Path) -> bool:
    """Print every problem; whether there is none."""
    try:
        described = bundle.read(folder)
        found = list(problems(folder, described))
    except Fault as error:
        say(str(error))
        return False
    for problem in found:
        say(problem)
    if not found:
        say(f"{folder} is right: {_contents(described)}")
        say(f"sha256 of {bundle.SUMS}: {archive.sha256(folder / bundle.SUMS)}")
    return not found


def _contents(described: Bundle) -> str:
    charts = ", ".join(f"chart {one.version}" for one in described.charts)
    models = ", ".join(one.name for one in described.models) or "no weights"
    return f"{charts}, {len(described.images)} images, {models}"


def problems(folder: Path, described: Bundle) -> Iterator[str]:
    """One line each."""
    sums = bundle.read_sums(folder)
    there = bundle.files(folder)
    wanted = sums.keys() | {item.file for item in described.items}
    for file in sorted(wanted - there):
        yield f"{file}: missing: copy it again"
    for file in sorted(there - wanted - {bundle.SUMS}):
        yield f"{file}: no part of the bundle: remove it"
    if bundle.MANIFEST not in sums:
        yield f"{bundle.MANIFEST}: not in {bundle.SUMS}: bundle again"
    elif archive.sha256(folder / bundle.MANIFEST) != sums[bundle.MANIFEST]:
        yield f"{bundle.MANIFEST}: not what {bundle.SUMS} says: copy it again"
    items = {item.file: item for item in described.items}
    for file in sorted(sums.keys() - items.keys() - {bundle.MANIFEST}):
        yield f"{file}: in {bundle.SUMS} and not in {bundle.MANIFEST}: bundle again"
    for item in described.items:
        if item.file in there:
            yield from (f"{item.file}: {problem}" for problem in _item(folder, item, sums))


def _item(folder: Path, item: Item, sums: dict[str, str]) -> Iterator[str]:
    note(f"checking {item.file}")
    path = folder / item.file
    if (size := path.stat().st_size) != item.size:
        yield f"{size} bytes instead of {item.size}: copy it again"
        return
    entries: dict[str, Entry] = {}
    try:
        total, entries = _read(path, item)
    except Fault as error:
        yield str(error)
        return
    if total != sums.get(item.file):
        yield f"not what {bundle.SUMS} says: copy it again"
    if total != item.sha256:
        yield f"not what {bundle.MANIFEST} says: copy it again"
    if isinstance(item, Image):
        yield from layout.problems(entries, item.digest)
    elif isinstance(item, Model):
        yield from weights.problems(entries, item.name, item.commit)


def _read(path: Path, item: Item) -> tuple[str, dict[str, Entry]]:
    """The sum, and what is in it if it is a tar of ours: read once for both."""
    if not isinstance(item, Image | Model):
        return archive.sha256(path), {}
    with path.open("rb") as stream:
        with archive.read(stream, "the tar") as (tar, summed):
            entries = archive.entries(tar)
        return summed.sha256, entries
