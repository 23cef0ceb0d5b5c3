"""The published weights, complete and verified, in the standard Hugging Face cache.

    folder = fetch("openai/gpt-oss-20b", stamps=settings.cache_dir / "weights", progress=draw)

A start has four steps, each of which may be killed: learn what is published; take what is there;
download what is missing; hash what no stamp vouches for. Only then the folder is returned.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from service.engine.weights.cache import Cache
from service.engine.weights.manifest import (
    COMMIT,
    File,
    Manifest,
    check_name,
    check_revision,
    human,
)
from service.engine.weights.meter import Meter, Progress
from service.engine.weights.record import Record
from service.errors import UserError

if TYPE_CHECKING:
    from service.engine.weights.hub import Hub, Session

__all__ = ["File", "Manifest", "Progress", "fetch", "found", "human", "published"]

DEFAULT_REVISION = "main"
_READ = 4 << 20


def _silent(done: int, total: int, note: str) -> None:
    pass


def published(
    repo: str,
    revision: str | None = None,
    *,
    hub: "Hub | None" = None,
    progress: Progress = _silent,
) -> Manifest:
    """What the Hub publishes of a repository now: the commit, and the files vLLM needs."""
    from service.engine.weights.hub import Hub, Session

    with Session(hub or Hub.standard(), repo) as session:
        asking = Meter(progress, "asking the Hub")
        return session.published(check_revision(revision or DEFAULT_REVISION), asking)


def fetch(
    model_repo: str,
    *,
    revision: str | None = None,
    stamps: Path,
    offline: bool = False,
    progress: Progress = _silent,
    hub: "Hub | None" = None,
    cache: Path | None = None,
) -> Path:
    """The folder of the snapshot, every file of it right; or a UserError of one line.

    `stamps` is a folder of ours for what was verified. `hub` and `cache` are the environment's
    (HF_ENDPOINT, HF_HOME, HF_HUB_CACHE) unless given. KeyboardInterrupt passes through; the next
    call continues. A pinned commit that is verified here needs no network.
    """
    from huggingface_hub import constants

    from service.engine.weights.faults import disk
    from service.engine.weights.hub import Hub

    revision = check_revision(revision or DEFAULT_REVISION)
    hub = hub or Hub.standard()
    root = cache or Path(constants.HF_HUB_CACHE)
    store = Cache(root, check_name(model_repo))
    try:
        record = Record(stamps, model_repo)
        known = record.manifest(revision)
        if offline or constants.HF_HUB_OFFLINE:
            manifest = _local(model_repo, revision, known, store)
        elif known and COMMIT.fullmatch(revision) and not store.missing(known):
            manifest = known
        else:
            manifest = published(model_repo, revision, hub=hub, progress=progress)
            record.remember(manifest)
        if store.missing(manifest):
            _check_room(store, manifest)
            with store.alone(Meter(progress, "another process downloads these weights: waiting")):
                _download(store, manifest, hub, progress)
                _verify(store, record, manifest, progress)
        else:
            _verify(store, record, manifest, progress)
        record.refer(revision, manifest.commit)
        with suppress(OSError):  # a complete cache may be read-only, and this is for others
            store.refer(revision, manifest.commit)
    except OSError as error:
        raise disk(error, root) from None
    return store.snapshot(manifest.commit)


def found(
    model_repo: str, *, revision: str | None = None, stamps: Path, cache: Path | None = None
) -> Path:
    """The folder of a snapshot of which every file was verified here and is unchanged since.

    UserError where that is not so, or not yet: another process may be at it. Nothing is hashed,
    asked or written.
    """
    from huggingface_hub import constants

    from service.engine.weights.faults import disk

    revision = check_revision(revision or DEFAULT_REVISION)
    root = cache or Path(constants.HF_HUB_CACHE)
    store = Cache(root, check_name(model_repo))
    try:
        record = Record(stamps, model_repo)
        manifest = _local(model_repo, revision, record.manifest(revision), store)
        folder = store.snapshot(manifest.commit)
        unverified = [
            file
            for file in manifest.files
            # By its name in the snapshot, which bytes that another file shares may still lack.
            if not (path := folder / file.name).exists()
            or not record.vouches(manifest.commit, file, path)
        ]
    except OSError as error:
        raise disk(error, root) from None
    if unverified:
        raise UserError(
            f"{_names(unverified)} of {model_repo} was never verified on this machine, or changed "
            "since: run once with network"
        )
    return folder


def _local(repo: str, revision: str, known: Manifest | None, store: Cache) -> Manifest:
    if known is None:
        raise UserError(
            f"offline, and {repo} at {revision} was never verified on this machine: run once with "
            "network, or copy the cache folder and the stamps of a machine that has it"
        )
    if missing := store.missing(known):
        raise UserError(
            f"offline, and {_names(missing)} of {repo} is missing in "
            f"{store.snapshot(known.commit)}: run once with network, or copy the cache folder of a "
            "machine that has it"
        )
    return known


def _lacking(store: Cache, manifest: Manifest) -> list[File]:
    """The missing files, one of each content."""
    return list({file.digest: file for file in store.missing(manifest)}.values())


def _still_needed(store: Cache, manifest: Manifest) -> int:
    return sum(file.size - store.gathered(file) for file in _lacking(store, manifest))


def _check_room(store: Cache, manifest: Manifest) -> None:
    from service.engine.weights.faults import too_small

    folder = next(path for path in (store.root, *store.root.parents) if path.exists())
    need, free = _still_needed(store, manifest), shutil.disk_usage(folder).free
    if need > free:
        raise too_small(manifest.repo, need, manifest.total, free, folder)


def _download(store: Cache, manifest: Manifest, hub: "Hub", progress: Progress) -> None:
    from service.engine.weights.hub import Session

    done = manifest.total - _still_needed(store, manifest)
    meter = Meter(progress, "downloading", done, manifest.total)
    with Session(hub, manifest.repo) as session:
        meter.run(
            partial(_complete, session, store, manifest.commit, file, meter)
            for file in _lacking(store, manifest)
        )


def _complete(session: "Session", store: Cache, commit: str, file: File, meter: Meter) -> None:
    """Fetch what a file still lacks, into its `.incomplete`."""
    from service.engine.weights.faults import Again

    path = store.partial(file)
    path.touch()

    def attempt() -> None:
        start = store.gathered(file)
        if start == file.size:
            return
        with session.read(file, commit, start) as (first, chunks), path.open("ab") as out:
            if first != out.tell():  # the server does not know ranges, or the file was too long
                out.truncate(first)
                meter.add(first - start)
            gained = first
            for chunk in chunks:
                gained += len(chunk)
                if gained > file.size:
                    break
                out.write(chunk)
                meter.add(len(chunk))
        if gained != file.size:
            raise Again(
                f"the answer for {file.name} ended at byte {gained} of {file.size}",
                "run again, it continues where it was",
                answered=True,
            )

    session.insist(attempt, meter, lambda: store.gathered(file))


def _verify(store: Cache, record: Record, manifest: Manifest, progress: Progress) -> None:
    """Hash what no stamp vouches for; give it its names if right, take it away if not."""
    commit = manifest.commit
    found = [(file, store.held(commit, file) or store.partial(file)) for file in manifest.files]
    unknown: dict[Path, list[File]] = {}  # files of one content may share their bytes
    for file, path in found:
        if record.vouches(commit, file, path):
            store.place(commit, file, path)  # its name in the snapshot may have gone
        else:
            unknown.setdefault(path, []).append(file)
    meter = Meter(progress, "verifying", 0, sum(files[0].size for files in unknown.values()))
    wrong: list[File] = []

    def check(path: Path, files: list[File]) -> None:
        first = files[0]
        try:
            status = path.stat()
            right = status.st_size == first.size and _digest(first, path, meter) == first.digest
        except FileNotFoundError:  # a second name of bytes that were just discarded
            right = False
        if right:
            for file in files:
                store.place(commit, file, path)
                record.vouch(commit, file, status)
            return
        wrong.extend(files)
        try:
            store.discard(first, path)
        except OSError as error:
            raise UserError(
                f"{path} is not what the Hub published (its hash differs) and cannot be removed "
                f"({error.strerror}): remove it, then run again to fetch it anew"
            ) from None

    meter.run(partial(check, path, files) for path, files in unknown.items())
    if wrong:
        raise UserError(
            f"{_names(wrong)} of {manifest.repo} is not what the Hub published (its hash differs) "
            "and was removed: run again to fetch it anew, and check the disk if that repeats"
        )


def _digest(file: File, path: Path, meter: Meter) -> str:
    hasher = file.hasher()
    with path.open("rb") as source:
        while block := source.read(_READ):
            hasher.update(block)
            meter.add(len(block))
    return hasher.hexdigest()


def _names(files: Sequence[File]) -> str:
    first = ", ".join(sorted(file.name for file in files)[:3])
    return first if len(files) <= 3 else f"{first} and {len(files) - 3} more"
