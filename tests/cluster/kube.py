"""A Kubernetes cluster, as `kubectl` with KUBECONFIG reaches it."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]


class Kube:
    """One namespace of the cluster. Failures raise, with what kubectl said."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """What a kubectl command prints."""
        line = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(
            line, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(line)}: {done.stderr.strip()}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Make these objects."""
        self.run(
            "apply",
            "-f",
            "-",
            stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}),
        )

    def all(self, kind: str, **labels: str) -> list[Object]:
        """Objects of a kind, by the last parts of their labels' names (`component`, `pool`)."""
        arguments = ["get", kind, "--output", "json"]
        if labels:
            names = {"component": "app.kubernetes.io/component", "pool": "gptoss/pool"}
            wanted = ",".join(f"{names[name]}={value}" for name, value in labels.items())
            arguments += ["--selector", wanted]
        found: list[Object] = json.loads(self.run(*arguments))["items"]
        return found

    def one(self, kind: str, name: str) -> Object:
        """An object."""
        found: Object = json.loads(self.run("get", kind, name, "--output", "json"))
        return found

    def exec(self, target: str, container: str, *command: str) -> str:
        """What a command prints in a container."""
        return self.run("exec", target, "--container", container, "--", *command)

    def pods(self, **labels: str) -> list[Object]:
        """Pods that are not on their way out."""
        pods = self.all("pods", **labels)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def name(found: Object) -> str:
    """Of an object."""
    return str(found["metadata"]["name"])


def names(found: list[Object]) -> set[str]:
    """Of objects."""
    return set(map(name, found))


def condition(pod: Object, kind: str) -> Mapping[str, str]:
    """A condition of a pod, such as `Ready`; empty where it has none yet."""
    conditions = pod["status"].get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def until(look: Callable[[], T], seconds: float = 120, what: str = "") -> T:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or look}"
        time.sleep(0.5)
    return seen


def is_there() -> bool:
    """Whether there is a kubectl to ask."""
    return shutil.which("kubectl") is not None


def folder(path: Path, owner: int) -> Path:
    """A folder of a node that a pod of that user may write to."""
    path.mkdir(parents=True, exist_ok=True)
    shutil.chown(path, owner, owner)
    return path
