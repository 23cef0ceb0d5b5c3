"""`python -m tests.cluster`: has a cluster and the images, and runs the tests on it.

The cluster is, first found: the one that KUBECONFIG names, with the images loaded; one that the
tool in the folder TEST_CLUSTER_TOOL makes (its commands are build, up, run, gpus, crds, old-api and
down); one that `kind` makes. Arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.release import ROOT
from tests.images import build

CANNOT = 77
CRDS = ROOT / "tests" / "chart" / "crds"
PYTEST = [sys.executable, "-m", "pytest", "-q", "tests/cluster"]


def main(arguments: list[str]) -> int:
    """Run the tests; the exit status is theirs. Where there can be no cluster: 0, and why."""
    tool = os.environ.get("TEST_CLUSTER_TOOL")
    if "KUBECONFIG" in os.environ:
        return subprocess.run([*PYTEST, *arguments], check=False).returncode
    if tool:
        return with_tool(Path(tool), arguments)
    if shutil.which("kind"):
        return with_kind(arguments)
    print("tests/cluster: SKIPPED: no KUBECONFIG, no TEST_CLUSTER_TOOL, and no kind")
    return 0


def with_tool(tool: Path, arguments: list[str]) -> int:
    """A cluster that is compiled, for machines without a container engine."""
    with tempfile.TemporaryDirectory(prefix="gptoss-cluster-") as scratch:
        work = Path(scratch)
        built = subprocess.run([tool / "build"], check=False).returncode
        if built == CANNOT:
            print("tests/cluster: SKIPPED: this machine cannot build a cluster, see above")
            return 0
        if built:
            return built
        images = [make(work) for make in build.ALL.values()]
        environment = os.environ | {
            "TEST_CLUSTER": str(work / "cluster"),
            "GPTOSS_TEST_CHART": str(work / "chart"),
        }

        def call(*line: str | Path) -> int:
            return subprocess.run(line, env=environment, check=False).returncode

        if status := call(tool / "up", *images):
            print("tests/cluster: SKIPPED, see above" if status == CANNOT else "no cluster")
            return 0 if status == CANNOT else status
        try:
            for image in images:
                image.unlink()
            return (
                call(tool / "gpus", "4")
                or call(tool / "crds", CRDS)
                or call(tool / "old-api", ROOT / "helm" / "gptoss", work / "chart")
                or without_probe_grace(work / "chart")
                or call(tool / "run", *PYTEST, *arguments)
            )
        finally:
            call(tool / "down")


def without_probe_grace(chart: Path) -> int:
    """Take out what `old-api` leaves in: a grace period of a probe is younger than its cluster."""
    template = chart / "templates" / "engine" / "_engine.tpl"
    text = template.read_text()
    line = next(one for one in text.splitlines(True) if "terminationGracePeriodSeconds:" in one)
    template.write_text(text.replace(line, ""))
    return 0


def with_kind(arguments: list[str]) -> int:
    """A cluster in containers, for machines with Docker."""
    name = "gptoss-tests"
    with tempfile.TemporaryDirectory(prefix="gptoss-cluster-") as scratch:
        config = Path(scratch) / "kubeconfig"
        environment = os.environ | {"KUBECONFIG": str(config)}
        images = [make(Path(scratch)) for make in build.ALL.values()]
        cluster = ["--name", name]
        subprocess.run(["kind", "create", "cluster", *cluster, "--kubeconfig", config], check=True)
        try:
            for image in images:
                subprocess.run(["kind", "load", "image-archive", image, *cluster], check=True)
            return subprocess.run([*PYTEST, *arguments], env=environment, check=False).returncode
        finally:
            subprocess.run(["kind", "delete", "cluster", *cluster], check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
