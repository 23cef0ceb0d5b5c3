"""A real registry on loopback, and what skopeo finds in it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.airgap import image
from tests.process import environment, free_port, running

PROGRAM = "docker-registry"  # Debian's package and program of that name


def missing() -> str:
    """Why there can be none here, or nothing."""
    lacking = [name for name in ("skopeo", PROGRAM) if not shutil.which(name)]
    return f"{', '.join(lacking)} not installed: `apt-get install {' '.join(lacking)}`" * (
        len(lacking) > 0
    )


@dataclass(frozen=True)
class Registry:
    """One that runs."""

    address: str

    def put(self, folder: Path, name: str) -> None:
        """Push a `dir:` folder."""
        copy = ["skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
        _run(*copy, f"dir:{folder}", f"docker://{self.address}/{name}")

    def pull(self, name: str, folder: Path) -> None:
        """Into a `dir:` folder."""
        copy = ["skopeo", "copy", "--src-tls-verify=false"]
        _run(*copy, f"docker://{self.address}/{name}", f"dir:{folder}")

    def digest(self, name: str) -> str:
        """Of the manifest that it has under a name."""
        line = ["skopeo", "inspect", "--raw", "--tls-verify=false"]
        return f"sha256:{image.sha256(_run(*line, f'docker://{self.address}/{name}'))}"


def _run(*line: str) -> bytes:
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextmanager
def serving(folder: Path) -> Iterator[Registry]:
    """An empty one."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    line = [PROGRAM, "serve", str(config)]
    with running(
        line, environment(folder), ready=f"http://{address}/v2/", log=folder / "log", seconds=20
    ):
        yield Registry(address)
