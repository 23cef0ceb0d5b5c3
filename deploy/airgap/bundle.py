"""`bundle.json`, what a bundle holds, and `SHA256SUMS`, which `sha256sum -c` reads, too."""

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from deploy.airgap import archive
from deploy.airgap.fault import Fault

MANIFEST: Final = "bundle.json"
SUMS: Final = "SHA256SUMS"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the bundle."""

    name: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Chart(Item):
    """The packaged chart."""

    version: str


@dataclass(frozen=True, slots=True)
class Image(Item):
    """An OCI archive; the name is without a registry."""

    digest: str
    """Of its manifest: what a registry has it under."""
    config: str
    """Of its configuration, which docker calls its id; of an index nothing."""
    arch: str
    """Of the machines that it is for; an index is for several."""


@dataclass(frozen=True, slots=True)
class Model(Item):
    """The weights of a model, as a tar of what belongs on the claim."""

    revision: str
    commit: str
    bytes: int


@dataclass
class Bundle:
    """All that is in it."""

    tools: list[Item] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """Every file but the two that describe the others."""
        return [*self.tools, *self.charts, *self.images, *self.models]

    def add(self, item: Item) -> None:
        """Put it with its kind."""
        kinds: dict[type[Item], list[Any]]
        kinds = {Chart: self.charts, Image: self.images, Model: self.models, Item: self.tools}
        kinds[type(item)].append(item)

    def write(self, folder: Path) -> None:
        """As `bundle.json`, at once or not at all."""
        text = json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, indent=2)
        replace(folder / MANIFEST, f"{text}\n".encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file whose name never leads to a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def read(folder: Path) -> Bundle:
    """What `bundle.json` says."""
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
        if data["format"] != _FORMAT:
            raise Fault(f"{folder / MANIFEST} is of another version of this tool: use that one")
        return Bundle(
            [_made(Item, each) for each in data["tools"]],
            [_made(Chart, each) for each in data["charts"]],
            [_made(Image, each) for each in data["images"]],
            [_made(Model, each) for each in data["models"]],
        )
    except (FileNotFoundError, NotADirectoryError):
        raise Fault(
            f"{folder} is no bundle, it has no {MANIFEST}: name the bundle's folder"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"{folder / MANIFEST} is damaged ({error!r}): copy it again") from None


_Kind = TypeVar("_Kind", bound=Item)


def _made(kind: type[_Kind], data: dict[str, Any]) -> _Kind:
    made = kind(**data)
    for each in dataclasses.fields(kind):
        if type(data[each.name]) is not each.type:
            raise ValueError(f"{each.name} is {data[each.name]!r}")
    if not inside(made.file):
        raise ValueError(f"file is {made.file!r}")
    return made


def inside(name: str) -> bool:
    """Whether a name leads nowhere but into the folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def write_sums(folder: Path, items: Iterable[Item]) -> str:
    """Of every file, `bundle.json` included; the sum of the sums."""
    sums = {item.file: item.sha256 for item in items}
    sums[MANIFEST] = archive.sha256(folder / MANIFEST)
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    replace(folder / SUMS, text.encode())
    return archive.sha256(folder / SUMS)


def read_sums(folder: Path) -> dict[str, str]:
    """The sum of every file, by its name."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except FileNotFoundError:
        raise Fault(f"{SUMS} is missing: bundle again, it was not finished, or copy it") from None
    except UnicodeDecodeError:
        raise Fault(f"{SUMS} is damaged: copy it again") from None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if not all(name and inside(name) for name in sums):
        raise Fault(f"{SUMS} is damaged: copy it again")
    return sums


def files(folder: Path) -> set[str]:
    """What there is."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
