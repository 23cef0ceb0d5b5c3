"""Where an image is from: a store on this machine, or a registry."""

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.airgap import layout, name, program
from deploy.airgap.fault import Fault
from deploy.airgap.program import Failed

_STORES = ("docker", "podman", "buildah")
_REMOTE = "skopeo"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's, as images name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True, slots=True)
class Source:
    """An image that was found."""

    tool: str
    reference: str
    config: str
    """The digest of its configuration, if it is on this machine."""
    size: int
    """As far as it is known."""


class Finder:
    """Looks for images with the programs that there are."""

    def __init__(self, arch: str, origin: str, *, insecure: bool = False) -> None:
        self.arch, self._origin = arch, origin.rstrip("/")
        self._stores = [each for each in _STORES if program.found(each)]
        self._skopeo = program.found(_REMOTE)
        self._insecure = insecure
        if not self._stores and not self._skopeo:
            program.first(_REMOTE, *_STORES)

    def find(self, image: str, rendered: str) -> Source:
        """A store's image first, by its name or the rendered one; a digest only in a registry."""
        others: list[str] = []
        if not name.has_digest(image):
            for tool in self._stores:
                for reference in dict.fromkeys((image, rendered)):
                    if found := self._local(tool, reference, others):
                        return found
        return self._remote(image, others)

    def _local(self, tool: str, reference: str, others: list[str]) -> Source | None:
        try:
            config, arch, size = _inspected(tool, reference)
        except Failed:
            return None
        if arch != self.arch:
            others.append(f"{tool} has it for {arch}, not {self.arch}; ")
            return None
        return Source(tool, reference, config, size)

    def _remote(self, image: str, others: Sequence[str]) -> Source:
        reference = f"{self._origin}/{image}" if self._origin else image
        if not self._skopeo:
            return self._pulled(image, reference)
        try:
            size = self._size(reference, every=name.has_digest(image))
        except Failed as error:
            raise _unknown(image, "".join(others), error) from None
        return Source(_REMOTE, reference, "", size)

    def _pulled(self, image: str, reference: str) -> Source:
        if name.has_digest(image):
            raise Fault(f"only skopeo copies {image} without another digest: {program.ADVICE}")
        tool = self._stores[0]
        try:
            program.run([tool, "pull", "--platform", f"linux/{self.arch}", reference])
            config, _, size = _inspected(tool, reference)
        except Failed as error:
            raise _unknown(image, "", error) from None
        return Source(tool, reference, config, size)

    def _size(self, reference: str, *, every: bool) -> int:
        """Bytes in the registry: of our architecture, or of every one."""
        manifest = json.loads(self._inspect("--raw", reference))
        if "manifests" in manifest:
            inner = [one for one in manifest["manifests"] if every or self._is_ours(one)]
            base = _without_tag(reference)
            return sum(self._size(f"{base}@{one['digest']}", every=every) for one in inner)
        return sum(int(layer.get("size", 0)) for layer in manifest.get("layers", ()))

    def _is_ours(self, manifest: dict[str, Any]) -> bool:
        where = manifest.get("platform", {})
        return (where.get("architecture"), where.get("os")) == (self.arch, "linux")

    def _inspect(self, *words: str) -> str:
        *options, reference = words
        line = [_REMOTE, "inspect", *self._tls("--tls-verify"), *options]
        return program.output(*line, f"docker://{reference}")

    def _tls(self, option: str) -> list[str]:
        return [f"{option}=false"] if self._insecure else []

    def fetch(self, source: Source, folder: Path) -> None:
        """Put an image in a `dir:` folder. Raises Failed."""
        if source.tool == "docker":
            _saved(source.reference, folder)
        elif source.tool == _REMOTE:
            digest = name.has_digest(source.reference)
            which = ["--all"] if digest else []
            platform_ = ["--override-os", "linux", "--override-arch", self.arch]
            copy = ["copy", "--preserve-digests", *which, *self._tls("--src-tls-verify")]
            line = [_REMOTE, *platform_, *copy, f"docker://{source.reference}"]
            program.run([*line, f"dir:{folder.name}"], cwd=folder.parent)
        else:
            line = [source.tool, "push", *_compressed(source.tool), source.reference]
            program.run([*line, f"dir:{folder.name}"], cwd=folder.parent)


def _unknown(image: str, others: str, error: Failed) -> Fault:
    return Fault(
        f"{image} is in no store of this machine, and cannot be pulled ({others}{error}): build it "
        "with deploy/docker/build, log in where it is, or name its registry with --from"
    )


def _inspected(tool: str, reference: str) -> tuple[str, str, int]:
    """Digest of the configuration, architecture, size. Raises Failed."""
    if tool == "buildah":
        line = ["buildah", "inspect", "--type", "image", "--format"]
        said = program.output(*line, "{{.FromImageID}} {{.OCIv1.Architecture}} 0", reference)
    else:
        form = "{{.Id}} {{.Architecture}} {{.Size}}"
        said = program.output(tool, "image", "inspect", "--format", form, reference)
    config, arch, size = said.split()
    return f"sha256:{config.removeprefix('sha256:')}", arch, int(size)


def _compressed(tool: str) -> list[str]:
    return ["--compress"] if tool == "podman" else []


def _without_tag(reference: str) -> str:
    base = reference.partition("@")[0]
    folder, slash, last = base.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def _saved(reference: str, folder: Path) -> None:
    line = ["docker", "save", reference]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as docker:
        assert docker.stdout is not None, "it is a pipe"
        try:
            layout.from_docker(docker.stdout, folder)
        except BaseException:
            docker.kill()
            raise
        if docker.wait():
            raise Failed(f"docker: saving {reference} ended with {docker.returncode}")
