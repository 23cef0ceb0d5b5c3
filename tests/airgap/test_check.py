"""Every kind of damage is found, and told in a line."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.airgap import archive, bundle, check

IMAGE, MODEL = "images/gptoss-engine=0.1.0.tar", "weights/gpt-oss-20b.tar"
EVERY = (IMAGE, MODEL, "gptoss-0.1.0.tgz", "airgap.pyz")

Said = Callable[[Path], list[str]]


@pytest.fixture
def out(bundled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundled, tmp_path / "out")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def check_it(folder: Path) -> list[str]:
        right = check.check(folder)
        lines = capsys.readouterr().out.splitlines()
        assert right == any(" is right: " in line for line in lines)
        return [] if right else lines

    return check_it


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_whole_one_is_right(out: Path, said: Said) -> None:
    assert said(out) == []


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("file", EVERY)
def test_a_flipped_bit_is_found(out: Path, said: Said, file: str, part: float) -> None:
    flip(out / file, int((out / file).stat().st_size * part))
    assert said(out)[0].startswith(f"{file}: ")


@pytest.mark.parametrize("file", EVERY)
def test_a_missing_one_a_short_one_a_long_one_and_a_stranger_are_found(
    out: Path, said: Said, file: str
) -> None:
    content = (out / file).read_bytes()
    (out / file).write_bytes(content[:-1])
    assert said(out) == [
        f"{file}: {len(content) - 1} bytes instead of {len(content)}: copy it again"
    ]
    (out / file).write_bytes(content + b"x")
    assert said(out)[0].startswith(f"{file}: {len(content) + 1} bytes instead")
    (out / file).unlink()
    assert said(out) == [f"{file}: missing: copy it again"]
    (out / file).write_bytes(content)
    (out / "images" / "more.tar").write_bytes(b"")
    (out / ".DS_Store").write_bytes(b"")
    assert [line.partition(":")[0] for line in said(out)] == [".DS_Store", "images/more.tar"]


def test_descriptions_that_are_damaged_are_found(out: Path, said: Said) -> None:
    manifest, sums = (out / "bundle.json").read_text(), (out / "SHA256SUMS").read_text()
    (out / "bundle.json").write_text(manifest.replace('"0.1.0"', '"0.1.1"'))
    assert said(out) == ["bundle.json: not what SHA256SUMS says: copy it again"]
    for wrong in (
        "",
        "{",
        "[]",
        '{"format": 2}',
        manifest.replace('"size": ', '"size": -0.5, "x":'),
    ):
        (out / "bundle.json").write_text(wrong)
        assert len(said(out)) == 1
    (out / "bundle.json").write_text(manifest.replace(MODEL, "../../etc/passwd"))
    assert "bundle.json is damaged" in said(out)[0]
    (out / "bundle.json").write_text(manifest)
    (out / "SHA256SUMS").write_text("\n".join(sums.splitlines()[1:]))
    assert said(out)
    (out / "SHA256SUMS").write_text("nonsense\n")
    assert said(out) == ["SHA256SUMS is damaged: copy it again"]
    (out / "SHA256SUMS").write_bytes(b"\xff\xfe")
    assert said(out) == ["SHA256SUMS is damaged: copy it again"]
    (out / "SHA256SUMS").unlink()
    assert said(out) == ["SHA256SUMS is missing: bundle again, it was not finished, or copy it"]


def forged(out: Path, file: str, change: Callable[[Path], object]) -> None:
    """Change a file, and all sums so that they fit it."""
    change(out / file)
    data = json.loads((out / "bundle.json").read_text())
    for kind in ("images", "models"):
        for item in data[kind]:
            if item["file"] == file:
                item["sha256"] = archive.sha256(out / file)
                item["size"] = (out / file).stat().st_size
    (out / "bundle.json").write_text(json.dumps(data))
    bundle.write_sums(out, bundle.read(out).items)


def test_sums_that_were_made_anew_do_not_hide_another_image(out: Path, said: Said) -> None:
    other = out / "images/gptoss-gateway=0.1.0.tar"
    forged(out, IMAGE, lambda path: path.write_bytes(other.read_bytes()))
    (problem,) = said(out)
    assert problem.startswith(f"{IMAGE}: its manifest is sha256:")


@pytest.mark.parametrize("file", [IMAGE, MODEL])
def test_nor_changed_bytes(out: Path, said: Said, file: str) -> None:
    """In a layer, in a tensor."""
    with tarfile.open(out / file) as tar:
        blobs = [info for info in tar if "/blobs/" in f"/{info.name}" and info.isfile()]
        descriptions = [info for info in blobs if tar.extractfile(info).read(1) == b"{"]  # type: ignore[union-attr]
    longest = max(set(blobs) - set(descriptions), key=lambda info: info.size)
    forged(out, file, lambda path: flip(path, longest.offset_data + longest.size // 2))
    assert said(out)
    assert all("is damaged" in line or "the published hash" in line for line in said(out))
