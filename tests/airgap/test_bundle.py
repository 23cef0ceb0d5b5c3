"""A bundle from the connected side to the other, and what is told when that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from helm_python import Chart

from deploy.airgap import chart, room
from deploy.airgap.fault import Fault
from service.engine.weights import found
from tests.airgap import image, registry, world
from tests.airgap.registry import Registry
from tests.airgap.world import Connected
from tests.chart.render import manifests, overlay
from tests.integration.hub import REPO


@pytest.fixture
def copy(bundled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundled, tmp_path / "copy")


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_arrives(bundled: Path, connected: Connected, tmp_path: Path) -> None:
    """All steps of the other side, with the bundle's own tool and Python alone."""
    out = shutil.copytree(bundled, tmp_path / "usb")
    checked = world.there(out, "check", out)
    assert (checked.status, checked.out.splitlines()[0].partition(": ")[2]) == (
        0,
        "chart 0.1.0, 4 images, gpt-oss-20b",
    ), checked.out
    claim = tmp_path / "claim"
    done = world.there(out, "unpack", out, claim)
    assert done.status == 0, done.err
    found = world.weights(claim, "--offline", HF_HUB_OFFLINE="1")
    assert found.status == 0, found.err
    with registry.serving(tmp_path / "internal") as internal:
        for _ in range(2):  # what is there is not copied again
            pushed = world.there(out, "push", out, f"{internal.address}/serving/", "--insecure")
            assert pushed.status == 0, pushed.err
        assert pushed.err.count("is there\n") == len(connected.images)
        for name, digest in connected.images.items():
            assert internal.digest(f"serving/{name}") == digest
            internal.pull(f"serving/{name}", tmp_path / f"pulled-{digest}")
    assert pushed.out == (
        f"helm install gptoss {out}/gptoss-0.1.0.tgz --namespace gptoss -f values.yaml "
        f"--set images.registry={internal.address}/serving --set offline=true\n"
    )


def test_a_model_goes_through_a_pipe(bundled: Path, tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    done = world.there(bundled, "unpack", "-", claim, given=bundled / "weights/gpt-oss-20b.tar")
    assert done.status == 0, done.err
    sums = (bundled / "SHA256SUMS").read_text()
    assert f"{done.out.split()[-1]}  weights/gpt-oss-20b.tar\n" in sums
    assert found(REPO, stamps=claim / "gptoss/weights", cache=claim / "hub")


def test_sha256sum_reads_it(bundled: Path) -> None:
    line = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(line, cwd=bundled, check=False).returncode == 0


def test_the_chart_renders_as_the_repositorys(bundled: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(bundled / "gptoss-0.1.0.tgz", tmp_path)
    with Chart.load(bundled / "gptoss-0.1.0.tgz"):
        pass
    values = overlay("offline", secrets={"existing": "s"}, database={"existingSecret": "d"})
    values["database"]["trial"] = values["quota"]["trial"] = {"enabled": False}
    values["quota"]["existingSecret"] = "q"
    assert manifests(values, chart=tmp_path / "gptoss") == manifests(values)
    assert not (tmp_path / "gptoss" / "ci").exists()


def test_the_chart_is_the_same_bytes_every_time() -> None:
    assert chart.package() == chart.package()


def test_no_secret_of_the_render_is_in_it(bundled: Path, connected: Connected) -> None:
    assert "kind: Secret" in connected.rendered
    assert sorted(path.name for path in bundled.iterdir()) == [
        "SHA256SUMS",
        "airgap.pyz",
        "bundle.json",
        "gptoss-0.1.0.tgz",
        "images",
        "unpack.yaml",
        "weights",
    ]


# --- again ------------------------------------------------------------------------------------


def test_what_is_right_is_not_made_again(copy: Path, connected: Connected) -> None:
    before = times(copy)
    assert connected.bundle(copy).status == 0
    after = times(copy)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"bundle.json", "SHA256SUMS"}
    assert world.there(copy, "check", copy).status == 0


def test_what_is_damaged_or_gone_is_made_again(copy: Path, connected: Connected) -> None:
    before = times(copy)
    tars = sorted(copy.glob("images/*.tar"))
    tars[0].write_bytes(tars[0].read_bytes()[:-1] + b"x")
    tars[1].unlink()
    (copy / "SHA256SUMS").unlink()
    assert connected.bundle(copy).status == 0
    assert world.there(copy, "check", copy).status == 0
    assert times(copy)[tars[2].name] == before[tars[2].name]


def test_what_is_needed_no_more_goes(copy: Path, connected: Connected) -> None:
    less = connected.rendered.replace("postgres:17.6-bookworm", "gptoss-gateway:0.1.0")
    other = Connected(connected.registry, connected.images, connected.claim, less)
    assert other.bundle(copy).status == 0
    assert len(list(copy.glob("images/*"))) == 3
    assert world.there(copy, "check", copy).status == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_has_no_half_file_and_continues(
    connected: Connected, tmp_path: Path, sent: signal.Signals
) -> None:
    """Interrupted at the third of its images: a skopeo that never ends stands in there."""
    programs, out, waits = tmp_path / "bin", tmp_path / "out", tmp_path / "waits"
    programs.mkdir()
    real = shutil.which("skopeo")
    (programs / "skopeo").write_text(
        f'#!/bin/sh\ncase "$*" in *copy*postgres*) touch {waits}; exec sleep 60;; esac\n'
        f'exec {real} "$@"\n'
    )
    (programs / "skopeo").chmod(0o755)
    line = [sys.executable, "-m", "deploy.airgap", "bundle", str(out), "-", "--arch", "amd64"]
    line += ["--registry", world.REGISTRY, "--from", f"{connected.registry.address}/public"]
    line += ["--insecure", "--weights", str(connected.claim)]
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=world.ROOT, env=env
    ) as command:
        assert command.stdin and command.stderr
        command.stdin.write(connected.rendered)
        command.stdin.close()
        deadline = time.monotonic() + 120
        while not waits.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert waits.exists()
        command.send_signal(sent)
        err = command.stderr.read()
    assert command.returncode == 130
    assert err.splitlines()[-1] == "airgap: interrupted: run again, it continues where it was"
    done = json.loads((out / "bundle.json").read_text())
    recorded = {one["file"] for kind in done if kind != "format" for one in done[kind]}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == recorded | {"bundle.json"}
    assert len(done["images"]) == 2
    before = times(out)
    checked = world.there(out, "check", out)
    assert (checked.status, "SHA256SUMS is missing: bundle again" in checked.out) == (1, True)
    assert connected.bundle(out).status == 0
    assert world.there(out, "check", out).status == 0
    assert all(times(out)[Path(file).name] == before[Path(file).name] for file in recorded)


# --- stores of this machine -------------------------------------------------------------------


@pytest.mark.skipif(
    not shutil.which("buildah") or os.geteuid() != 0, reason="buildah not installed, or no root"
)
def test_an_image_built_here_is_taken_from_here(connected: Connected, tmp_path: Path) -> None:
    """And again when it is built anew; one for other machines is not."""
    out, name = tmp_path / "out", "postgres:17.6-bookworm"

    def build(content: str, arch: str = "amd64") -> None:
        image.make(tmp_path / content, content, arch)
        target = f"containers-storage:localhost/{name}"
        subprocess.run(["skopeo", "copy", f"dir:{tmp_path / content}", target], check=True)

    def pushed() -> str:
        assert connected.bundle(out).status == 0
        assert world.there(out, "check", out).status == 0
        done = json.loads((out / "bundle.json").read_text())
        return next(str(one["config"]) for one in done["images"] if one["name"] == name)

    try:
        build("one")
        first = pushed()
        build("two")
        second = pushed()
        build("three", "arm64")
        third = pushed()
    finally:
        subprocess.run(["buildah", "rmi", "--all", "--force"], check=False, capture_output=True)
    assert first != second
    assert third == second, "what is in the bundle is for the right machines, and stays"
    assert (tmp_path / "one" / first.removeprefix("sha256:")).is_file()
    assert (tmp_path / "two" / second.removeprefix("sha256:")).is_file()


def test_what_docker_saves_becomes_the_same_image(connected: Connected, tmp_path: Path) -> None:
    """From a docker-archive that skopeo wrote: no docker runs here."""
    from deploy.airgap import archive, layout

    digest = image.make(tmp_path / "made", "saved")
    saved, folder, out = tmp_path / "saved.tar", tmp_path / "folder", tmp_path / "out.tar"
    copy = ["skopeo", "copy", f"dir:{tmp_path / 'made'}", f"docker-archive:{saved}:a/b:1"]
    subprocess.run(copy, check=True)
    with saved.open("rb") as stream:
        layout.from_docker(stream, folder)
    packed = layout.pack(folder, "a/b:1", out)
    with out.open("rb") as stream, archive.read(stream, "it") as (tar, _):
        entries = archive.entries(tar)
    assert not list(layout.problems(entries, packed.digest))
    assert digest != packed.digest, "its layers were compressed"
    config = json.loads((tmp_path / "made" / "manifest.json").read_text())["config"]["digest"]
    assert packed.config == config
    registry_: Registry = connected.registry
    push = ["skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false"]
    target = f"docker://{registry_.address}/saved/b:1"
    subprocess.run([*push, f"oci-archive:{out}", target], check=True)
    assert registry_.digest("saved/b:1") == packed.digest


@pytest.mark.skipif(
    not shutil.which("buildah") or os.geteuid() != 0, reason="buildah not installed, or no root"
)
def test_without_skopeo_buildah_pushes(connected: Connected, tmp_path: Path) -> None:
    from deploy.airgap import bundle, layout, push

    image.make(tmp_path / "made", "by buildah")
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    packed = layout.pack(tmp_path / "made", "a/b:1", out / "images/b.tar")
    one = bundle.Image(
        "a/b:1", "images/b.tar", packed.size, packed.sha256, packed.digest, packed.config, "amd64"
    )
    push._push("buildah", out, one, f"{connected.registry.address}/buildah", True)
    connected.registry.pull("buildah/a/b:1", tmp_path / "pulled")
    assert (tmp_path / "pulled" / packed.config.removeprefix("sha256:")).is_file()


def test_docker_loads_an_archive_without_a_digest(bundled: Path) -> None:
    """As far as skopeo reads it as docker's kind: no docker runs here."""
    tar = bundled / "images" / "gptoss-engine=0.1.0.tar"
    with tarfile.open(tar) as opened:
        (described,) = json.load(opened.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert described["RepoTags"] == ["gptoss-engine:0.1.0"]
    line = ["skopeo", "inspect", "--raw", "--config", f"docker-archive:{tar}"]
    config = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    assert config["config"]["Healthcheck"] == {"Test": ["CMD", "true"]}


# --- what goes wrong --------------------------------------------------------------------------


def test_nothing_is_written_before_all_is_found(connected: Connected, tmp_path: Path) -> None:
    more = connected.rendered.replace("gptoss-gateway:0.1.0", "gptoss-gateway:9")
    out = tmp_path / "out"
    other = Connected(connected.registry, connected.images, connected.claim, more)
    done = other.bundle(out)
    assert (done.status, out.exists()) == (1, False)
    assert "gptoss-gateway:9 is in no store" in done.err
    assert "build it with deploy/docker/build" in done.err
    done = connected.bundle(out, "--weights", str(tmp_path))
    assert (done.status, out.exists()) == (1, False)
    assert "gptoss weights gpt-oss-20b --revision main" in done.err.splitlines()[-1]


def test_without_any_program_it_says_what_to_install(tmp_path: Path) -> None:
    done = world.airgap("bundle", tmp_path / "o", "-", given=world.printed(overlay("minimal")),
                        env={"PATH": str(tmp_path)})  # fmt: skip
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "install skopeo" in done.err


def test_a_folder_of_something_else_is_left_alone(connected: Connected, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = connected.bundle(tmp_path)
    assert done.status == 1
    assert "has thesis.txt, which is no part of a bundle" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"free, 1000000\.0 TB are needed: buy one"):
        room.check(tmp_path / "not" / "there", 10**18, "buy one")


@pytest.mark.parametrize("command", ["check", "push", "unpack"])
def test_no_bundle_is_told_in_one_line(tmp_path: Path, command: str) -> None:
    words = {"check": [], "push": ["r.x"], "unpack": [str(tmp_path / "claim")]}[command]
    done = world.airgap(command, tmp_path / "none", *words)
    assert done.status == 1
    assert "none is no bundle" in done.out + done.err
    assert (done.out + done.err).count("\n") == 1


def test_a_registry_that_does_not_answer_is_told_in_one_line(bundled: Path) -> None:
    done = world.there(bundled, "push", bundled, "127.0.0.1:9/x", "--insecure")
    assert done.status == 1
    assert "cannot be pushed to 127.0.0.1:9/x" in done.err.splitlines()[-1]
