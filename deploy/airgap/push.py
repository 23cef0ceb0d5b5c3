"""`push`: the images into the registry on the other side, under the names that the chart makes."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from deploy.airgap import bundle, name, program, room
from deploy.airgap.bundle import Image
from deploy.airgap.console import note, say
from deploy.airgap.fault import Fault
from deploy.airgap.program import Failed


def push(folder: Path, registry: str, *, insecure: bool = False) -> None:
    """Push all, then say how to install."""
    described = bundle.read(folder)
    registry = registry.rstrip("/")
    tool = program.first("skopeo", "podman", "buildah", "docker")
    for image in described.images:
        _check(folder, image, tool)
    for image in described.images:
        note(f"{registry}/{image.name}")
        try:
            _push(tool, folder, image, registry, insecure)
        except Failed as error:
            raise Fault(
                f"{image.name} cannot be pushed to {registry} ({error}): log in there "
                f"(`{tool} login {registry.partition('/')[0]}`), and `check` the bundle"
            ) from None
    chart = described.charts[0]
    say(
        f"helm install gptoss {folder / chart.file} --namespace gptoss -f values.yaml "
        f"--set images.registry={registry} --set offline=true"
    )


def _check(folder: Path, image: Image, tool: str) -> None:
    path = folder / image.file
    if not path.is_file() or path.stat().st_size != image.size:
        raise Fault(f"{path} is missing or not whole: copy it again, and `check` the bundle")
    if name.has_digest(image.name) and tool != "skopeo":
        raise Fault(f"only skopeo pushes {image.name} without another digest: {program.ADVICE}")


def _push(tool: str, folder: Path, image: Image, registry: str, insecure: bool) -> None:
    target = f"{registry}/{image.name}"
    if tool == "skopeo":
        _copy(folder, image, f"docker://{target}", insecure)
    elif tool == "docker":
        loaded = program.output("docker", "load", "--quiet", "--input", str(folder / image.file))
        source = loaded.rpartition(": ")[2]
        program.output("docker", "tag", source, target)
        program.run(["docker", "push", target])
    else:
        tls = ["--tls-verify=false"] if insecure else []
        line = [tool, "pull", "--quiet", f"oci-archive:{image.file}"]
        # Its path is relative, since what comes behind a colon would be taken for a name.
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{tool}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
        program.run([tool, "push", *tls, done.stdout.split()[-1], f"docker://{target}"])


def _copy(folder: Path, image: Image, target: str, insecure: bool) -> None:
    """By skopeo, which unpacks an archive first; as it is, so that it keeps its digest."""
    tls = ["--tls-verify=false"] if insecure else []
    if _digest(target, tls) == image.digest:
        note("is there")
        return
    where = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 - skopeo's own
    with tempfile.TemporaryDirectory(dir=where) as scratch:
        room.check(Path(scratch), image.size, "set TMPDIR to a folder on a larger disk")
        line = ["skopeo", "copy", "--all", "--preserve-digests"]
        line += [f"--dest-{word.removeprefix('--')}" for word in tls]
        line += [f"oci-archive:{image.file}", target]
        program.run(line, cwd=folder, more={"TMPDIR": scratch})


def _digest(target: str, tls: list[str]) -> str:
    """What the registry has under that name, or nothing."""
    line = ["skopeo", "inspect", *tls, "--raw", target]
    done = subprocess.run(line, capture_output=True, check=False)
    return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" if done.returncode == 0 else ""
