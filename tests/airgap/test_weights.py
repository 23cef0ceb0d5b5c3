"""Weights from one machine's cache to another's claim: no network there, and no second hashing."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from deploy.airgap import unpack, weights
from deploy.airgap.fault import Fault
from deploy.airgap.weights import Shelf
from service.engine.weights import fetch, found
from service.errors import UserError
from tests.airgap import world
from tests.integration.hub import REPO
from tests.integration.test_weights import make_files, tamper

STAMPS = "gptoss/weights/openai--gpt-oss-20b.json"


def packed(claim: Path, out: Path) -> Path:
    weights.pack(weights.find(Shelf.of_claim(claim), world.MODEL, "main"), out)
    return out


def unpacked(tar: Path, folder: Path) -> Path:
    with tar.open("rb") as stream:
        unpack.unpack_stream(stream, folder)
    return folder


@pytest.fixture
def tar(claim: Path, tmp_path: Path) -> Path:
    return packed(claim, tmp_path / "tar")


def test_what_arrives_is_found_without_network_and_without_writing(
    tar: Path, tmp_path: Path
) -> None:
    """`found` never hashes: every stamp holds to the nanosecond."""
    claim = unpacked(tar, tmp_path / "claim")
    before = {path: path.lstat().st_mtime_ns for path in claim.rglob("*")}
    assert found(REPO, stamps=claim / "gptoss/weights", cache=claim / "hub")
    done = world.weights(claim, "--offline", "--revision=main", HF_HUB_OFFLINE="1")
    assert done.status == 0, done.err
    assert {path: path.lstat().st_mtime_ns for path in claim.rglob("*")} == before
    folder = Path(done.out.strip())
    wanted = {n: b for n, b in make_files().items() if not n.startswith(("original/", "metal/"))}
    assert {n: (folder / n).read_bytes() for n in wanted} == wanted
    assert "original" not in {path.name for path in folder.iterdir()}


def test_a_disk_without_exact_times_costs_one_more_hashing(
    tar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.utime
    monkeypatch.setattr(os, "utime", lambda path, ns: real(path, (ns[0] // 10**9, ns[1] // 10**9)))
    claim = unpacked(tar, tmp_path / "claim")
    assert "keeps no exact times: the Job will hash" in capsys.readouterr().err
    stamps, cache = claim / "gptoss/weights", claim / "hub"
    with pytest.raises(UserError, match="changed since"):
        found(REPO, stamps=stamps, cache=cache)
    fetch(REPO, offline=True, stamps=stamps, cache=cache)
    assert found(REPO, stamps=stamps, cache=cache)


def test_it_continues_and_leaves_what_is_there(tar: Path, tmp_path: Path) -> None:
    claim = unpacked(tar, tmp_path / "claim")
    blobs = sorted(claim.glob("hub/*/blobs/*"))
    blobs[0].unlink()
    blobs[1].with_name(f"{blobs[1].name}.unpacking").write_bytes(b"half")
    before = {path: path.stat().st_ino for path in blobs[2:]}
    unpacked(tar, claim)
    assert {path: path.stat().st_ino for path in blobs[2:]} == before
    assert blobs[0].is_file()


def test_stamps_of_other_commits_stay(tar: Path, tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    other = {"revisions": {"old": "b" * 40}, "snapshots": {"b" * 40: {"files": [], "verified": {}}}}
    (claim / STAMPS).parent.mkdir(parents=True)
    (claim / STAMPS).write_text(json.dumps(other))
    known = json.loads((unpacked(tar, claim) / STAMPS).read_text())
    assert set(known["revisions"]) == {"old", "main"}
    assert len(known["snapshots"]) == 2


def test_a_disk_without_links_gets_the_files(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", refuse)
        claim = unpacked(tar, tmp_path / "claim")
    assert not any(path.is_symlink() for path in claim.rglob("*"))
    assert found(REPO, stamps=claim / "gptoss/weights", cache=claim / "hub")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_run_by_root_all_of_it_is_the_jobs(tar: Path, tmp_path: Path) -> None:
    claim = unpacked(tar, tmp_path / "claim")
    assert {path.lstat().st_uid for path in (claim, *claim.rglob("*"))} == {unpack.OWNER}


def test_wrong_bytes_are_not_packed(claim: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(claim, tmp_path / "copy", symlinks=True)
    tamper(next(copy.glob("hub/*/snapshots/*/config.json")))
    with pytest.raises(Fault, match=r"config\.json is not what the Hub published"):
        packed(copy, tmp_path / "tar")


@pytest.mark.parametrize("gone", ["config.json", "LICENSE"])
def test_what_is_missing_is_told_with_the_command_that_fetches_it(
    claim: Path, tmp_path: Path, gone: str
) -> None:
    copy = shutil.copytree(claim, tmp_path / "copy", symlinks=True)
    next(copy.glob(f"hub/*/snapshots/*/{gone}")).unlink()
    with pytest.raises(Fault, match=rf"{gone} is missing .* gptoss weights gpt-oss-20b --revision"):
        packed(copy, tmp_path / "tar")
    with pytest.raises(Fault, match="knows no weights of gpt-oss-120b at main: fetch"):
        weights.find(Shelf.of_claim(copy), "gpt-oss-120b", "main")


def test_damage_on_the_way_leaves_no_stamps(tar: Path, tmp_path: Path) -> None:
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(Fault, match="is damaged"):
        unpacked(tar, tmp_path / "claim")
    assert not (tmp_path / "claim" / STAMPS).exists()
    assert not list((tmp_path / "claim").rglob("*.unpacking"))


def test_a_stream_that_ends_early_leaves_no_stamps(tar: Path, tmp_path: Path) -> None:
    with tar.open("r+b") as stream:
        stream.truncate(tar.stat().st_size // 2)
    with pytest.raises(Fault, match=r"the stream is damaged|is damaged in the bundle"):
        unpacked(tar, tmp_path / "claim")
    assert not (tmp_path / "claim" / STAMPS).exists()


BLOB = f"hub/models--o--m/snapshots/{'a' * 40}"


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("../evil", ""),
        ("/etc/evil", ""),
        ("hub/models--o--m/blobs/../../../evil", ""),
        ("hub/models--o--m/refs/../../../../evil", ""),
        ("gptoss/weights/../../evil.json", ""),
        (f"{BLOB}/config.json", "/etc/passwd"),
        (f"{BLOB}/config.json", "../../../models--x--y/blobs/" + "b" * 40),
        (f"{BLOB}/../../../../x", "../../blobs/" + "b" * 40),
    ],
)
def test_nothing_gets_out_of_the_folder(tmp_path: Path, name: str, link: str) -> None:
    bad = tmp_path / "tar"
    with tarfile.open(bad, "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
        tar.addfile(info, io.BytesIO())
    with pytest.raises(Fault, match="does not belong to weights"):
        unpacked(bad, tmp_path / "claim")
    assert [path.name for path in tmp_path.rglob("*")] in (["tar", "claim"], ["claim", "tar"])
