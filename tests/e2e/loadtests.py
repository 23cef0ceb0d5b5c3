"""The load test as a command, and what it left."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from loadtest.folder import Folder
from loadtest.record import Record
from loadtest.summary import FaultSeen, Summary
from tests.e2e.conftest import MODEL

DENIED: Final = 1.5
"""For how long `faults` lets nobody connect, s."""
STOPPED: Final = 4.0
"""For how long `pod_faults` lets pods stand still, s."""
# The machine of the tests does much else, and its cores are the engines'.
LENIENT: Final = {"lag_p99": 2, "loop_lag_p99": 2, "rate_percent": 50, "cpu_percent": 100}


@dataclass(frozen=True)
class Ran:
    """One run, to its end."""

    status: int
    said: str
    """All that it printed."""
    folder: Folder

    @property
    def records(self) -> list[Record]:
        return self.folder.records()

    @property
    def summary(self) -> Summary:
        return self.folder.summary()

    def fault(self, what: str) -> FaultSeen:
        """What the only one of that kind did."""
        (found,) = (one for one in self.summary.faults if one.what == what)
        return found

    def failed(self, since: float, until: float = math.inf) -> int:
        """Requests that ended then, s after the run's start, without all of their answer."""
        ends = (one.ended for one in self.records if not one.good)
        return sum(since <= (math.inf if end is None else end) <= until for end in ends)


def run(folder: Path, document: Mapping[str, Any], url: str, key: str = "", **keys: str) -> Ran:
    """Run a scenario. `keys` are environment variables of teams."""
    source = folder.with_suffix(".yaml")
    source.write_text(yaml.safe_dump(dict(document)))
    line = [sys.executable, "-m", "loadtest", "run", str(source), "--url", url]
    ran = subprocess.run(
        [*line, "--model", MODEL, "--out", str(folder)],
        env=os.environ | {"OPENAI_API_KEY": key} | keys,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout + ran.stderr, Folder(folder))


def steady(rate: float, seconds: float, output: int) -> dict[str, Any]:
    """Streams at a constant rate, from clients who come again. Half of them may fail."""
    return {
        "name": "faults",
        "duration": seconds,
        "drain": 30,
        "slo": {"percent": 50},
        "teams": {
            "main": {
                "arrivals": {"kind": "constant", "rate": rate},
                "workloads": [{"prompt": 40, "output": output, "temperature": 0}],
                "retry": {"policy": "backoff", "attempts": 8, "base": 0.3, "cap": 1},
            }
        },
        "trust": LENIENT,
    }


def faults(core: Path, door: str, behind: str, prometheus: str) -> dict[str, Any]:
    """A steady load by a proxy at `door` to the gateway `behind` it. The engine's process whose
    number is in the file `core` stands still for a while; when that is over, nobody can connect."""
    stop = {"at": 6, "do": "stop", "target": "core", "lasts": 7}
    # Late enough for the first to be seen to be over: that takes 15 s.
    deny = {"at": 33, "do": "deny", "target": "door", "lasts": DENIED}
    return steady(rate=7, seconds=41, output=120) | {
        "fault_targets": {
            "core": {"kind": "process", "pid_file": str(core)},
            "door": {"kind": "proxy", "listen": door, "upstream": behind},
        },
        "faults": [
            stop | {"alert": "EngineStalled", "alert_within": 20},
            deny | {"alert": "GatewayDown", "alert_within": 5},
            # After that, so that everybody has to connect anew.
            {"at": 33.1, "do": "cut", "target": "door"},
        ],
        "prometheus": prometheus,
    }


def pod_faults(namespace: str, victim: str) -> dict[str, Any]:
    """A steady load; all engines of the namespace stand still for a moment, and then the pod that
    the selector `victim` finds is killed."""
    pods = {"kind": "kubectl", "namespace": namespace}
    engines = {"selector": "app.kubernetes.io/component=engine", "container": "engine"}
    return steady(rate=4, seconds=40, output=120) | {
        "fault_targets": {"engines": pods | engines, "victim": pods | {"selector": victim}},
        "faults": [
            {"at": 6, "do": "stop", "target": "engines", "lasts": STOPPED},
            {"at": 25, "do": "kill", "target": "victim"},
        ],
    }
