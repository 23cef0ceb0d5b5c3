"""Both sides: where everything is fetched, and where there is nothing."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.airgap.registry import Registry
from tests.chart.render import EVERY_API, Values, manifests, overlay
from tests.process import GPTOSS, environment

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry.internal/serving"
MODEL = "gpt-oss-20b"


@dataclass(frozen=True)
class Result:
    """A command that ended."""

    status: int
    out: str
    err: str


def printed(values: Values) -> str:
    """What `helm template` prints."""
    texts = manifests(values, apis=EVERY_API)
    return "\n---\n".join(text for name, text in texts.items() if not name.endswith(".txt"))


def offline(**more: Any) -> str:
    """The render of a small installation without a network."""
    pools = {"main": {"profile": "l40s", "model": MODEL, "replicas": 1}}
    return printed(overlay("offline", engine={"pools": pools}, **more))


def airgap(*words: str | Path, given: str = "", env: Mapping[str, str] | None = None) -> Result:
    """`python -m deploy.airgap`."""
    return _run([sys.executable, "-m", "deploy.airgap", *map(str, words)], given, env)


def there(out: Path, *words: str | Path, given: Path | None = None) -> Result:
    """The bundle's own tool with Python alone: no package is to be had, and no repository."""
    line = [sys.executable, "-I", "-S", str(out / "airgap.pyz"), *map(str, words)]
    with (given or Path(os.devnull)).open("rb") as stream:
        done = subprocess.run(
            line, stdin=stream, capture_output=True, text=True, cwd=out.parent, check=False
        )
    return _result(done)


def weights(claim: Path, *words: str, **extra: str) -> Result:
    """`gptoss weights` with the variables that the chart's Job has."""
    own = {"HF_HUB_CACHE": f"{claim}/hub", "GPTOSS_CACHE_DIR": f"{claim}/gptoss"}
    return _run([*GPTOSS, "weights", MODEL, *words], "", environment(claim.parent, own | extra))


def _run(line: list[str], given: str, env: Mapping[str, str] | None) -> Result:
    done = subprocess.run(
        line,
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ) | dict(env or {}),
        check=False,
    )
    return _result(done)


def _result(done: "subprocess.CompletedProcess[str]") -> Result:
    assert "Traceback" not in done.stderr, done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Connected:
    """The side with a network: a registry that has the images, and a folder with the weights."""

    registry: Registry
    images: dict[str, str]
    """Digest by name."""
    claim: Path
    rendered: str

    def bundle(self, out: Path, *words: str) -> Result:
        options = ["--registry", REGISTRY, "--from", f"{self.registry.address}/public"]
        more = ["--insecure", "--arch", "amd64", "--weights", str(self.claim)]
        return airgap("bundle", out, "-", *options, *more, *words, given=self.rendered)
