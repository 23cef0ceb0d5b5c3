"""The chart: its version, its package, and what it knows of models."""

import fnmatch
import gzip
import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from deploy.airgap import archive
from deploy.airgap.fault import Fault

CHART: Final = Path(__file__).parents[2] / "helm" / "gptoss"


@cache
def _yaml(name: str) -> dict[str, Any]:
    import yaml

    try:
        read: dict[str, Any] = yaml.safe_load((CHART / name).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise Fault(f"{CHART / name} is not there: run this in the repository") from None
    return read


def version() -> str:
    """The chart's."""
    return str(_yaml("Chart.yaml")["version"])


def gigabytes(model: str) -> int:
    """What a model takes on the disk; 0 if it is built on the spot."""
    models = _yaml("files/facts.yaml")["models"]
    if model not in models:
        raise Fault(f"the chart knows no model {model!r}: choose one of {', '.join(models)}")
    return int(models[model]["gigabytes"])


def package() -> bytes:
    """The chart as `helm install` takes it; the same bytes for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _files():
            content = path.read_bytes()
            archive.add(tar, f"{CHART.name}/{path.relative_to(CHART).as_posix()}", content)
    return gzip.compress(packed.getvalue(), mtime=0)


def _files() -> list[Path]:
    """What .helmignore leaves, Chart.yaml first."""
    lines = (CHART / ".helmignore").read_text().splitlines()
    ignored = [line.rstrip("/") for line in lines if line and not line.startswith("#")]
    files = [path for path in CHART.rglob("*") if path.is_file() and not _ignored(path, ignored)]
    return sorted(files, key=lambda path: (path != CHART / "Chart.yaml", path))


def _ignored(path: Path, patterns: list[str]) -> bool:
    parts = path.relative_to(CHART).parts
    return any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in patterns)
