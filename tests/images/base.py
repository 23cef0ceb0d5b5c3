"""Base images, made from Debian's packages and PyPI's: no registry can be asked where tests run.

They stand in for what the Dockerfiles name: `debian` for python:3.11-slim-bookworm, `debian_pip`
for python:3.11-bookworm, and `vllm_cpu` for vllm/vllm-openai, with vLLM's CPU build where
upstream's has the one for CUDA.
"""

import shutil
from pathlib import Path

from tests.images import buildah, cache, packages

HERE = Path(__file__).parent
_SUITE = "bookworm"
_PACKAGES = "python3,ca-certificates"
_UNUSED = ("./proc/*", "./sys/*", "./dev/*", "./run/*", "./tmp/*", "./var/cache/*")
_UNREAD = (
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
)


def debian() -> str:
    """Debian with Python, and little else."""
    image = f"localhost/debian:{cache.digest([], _SUITE, _PACKAGES)}"
    if not buildah.exists(image):
        work = _empty(cache.folder() / "debian")
        root = work / "root"
        options = ("--variant=minbase", f"--include={_PACKAGES}")
        buildah.run("debootstrap", *options, _SUITE, root, *packages.debian_mirror(_SUITE))
        excluded = [f"--exclude={path}" for path in (*_UNUSED, *_UNREAD)]
        buildah.run("tar", "-C", root, "--numeric-owner", *excluded, "-cf", work / "root.tar", ".")
        buildah.build(image, HERE / "debian.Dockerfile", work)
        shutil.rmtree(work)
    return image


def debian_pip() -> str:
    """The same with pip, and with `strip`."""
    return _derived("debian-pip", HERE / "debian-pip.Dockerfile", debian())


def vllm_cpu() -> str:
    """The same with vLLM installed for the whole system, as in upstream's image."""
    base = debian_pip()
    recipe = HERE / "vllm-cpu.Dockerfile"
    inputs = [recipe, HERE / "packages.py", packages.REQUIREMENTS / "cpu.txt"]
    image = f"localhost/vllm-cpu:{cache.digest(inputs, base)}"
    if not buildah.exists(image):
        work = _empty(cache.folder() / "vllm-cpu")
        packages.install_vllm(work / "site")
        buildah.build(image, recipe, work, "--build-arg", f"BASE_IMAGE={base}")
        shutil.rmtree(work)
    return image


def _derived(name: str, recipe: Path, base: str) -> str:
    image = f"localhost/{name}:{cache.digest([recipe], base)}"
    if not buildah.exists(image):
        buildah.build(image, recipe, HERE, "--build-arg", f"BASE_IMAGE={base}")
    return image


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
