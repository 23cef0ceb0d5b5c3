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
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.summary import FaultSeen, Summary
from tests.e2e.conftest import MODEL

DENIED: Final = 1.5
"""For how long `faults` lets nobody connect, s."""
STOPPED: Final = 4.0
"""For how long `pod_faults` lets pods stand still, s."""
# The machine of the tests does much else, and its cores are the engines'.
LENIENT: Final = {"lag_p99": 10, "loop_lag_p99": 10, "rate_percent": 50, "cpu_percent": 100}


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

    def failed(self, fault: FaultSeen) -> int:
        """Requests without all of their answer, of those that were open when it was made and those
        that were due before things were as before."""
        back = math.inf
        if fault.ended is not None and fault.recovered is not None:
            back = fault.at + fault.ended + fault.recovered
        ends = (
            one.ended
            for one in self.records
            if not (one.good or one.outcome is Outcome.CANCELLED) and one.scheduled < back
        )
        return sum(end is None or end >= fault.at for end in ends)


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


def steady(arrivals: Mapping[str, Any], seconds: float, output: int) -> dict[str, Any]:
    """Streams of clients who come again. Half of them may fail."""
    return {
        "name": "faults",
        "duration": seconds,
        "drain": 30,
        "slo": {"percent": 50},
        "teams": {
            "main": {
                "arrivals": dict(arrivals),
                "workloads": [{"prompt": 40, "output": output, "temperature": 0}],
                "retry": {"policy": "backoff", "attempts": 8, "base": 0.3, "cap": 1},
            }
        },
        "trust": LENIENT,
    }


def faults(core: Path, door: str, behind: str, prometheus: str) -> dict[str, Any]:
    """Always as many clients, by a proxy at `door` to the gateway `behind` it. The engine's process
    whose number is in the file `core` stands still for a while; when that is over, nobody can
    connect."""
    stop = {"at": 12, "do": "stop", "target": "core", "lasts": 12}
    # Late enough for the first to be seen to be over: that takes 15 s.
    deny = {"at": 42, "do": "deny", "target": "door", "lasts": DENIED}
    clients = {"kind": "closed", "clients": 12}  # as many on however slow a machine
    # Long enough for whoever comes back to find things as before.
    return steady(clients, seconds=75, output=120) | {
        "fault_targets": {
            "core": {"kind": "process", "pid_file": str(core)},
            "door": {"kind": "proxy", "listen": door, "upstream": behind},
        },
        "faults": [
            stop | {"alert": "EngineStalled", "alert_within": 20},
            deny | {"alert": "GatewayDown", "alert_within": 5},
            # After that, so that everybody has to connect anew.
            {"at": 42.1, "do": "cut", "target": "door"},
        ],
        "prometheus": prometheus,
    }


def pod_faults(namespace: str, victim: str) -> dict[str, Any]:
    """A steady load; all engines of the namespace stand still for a moment, and then the pod that
    the selector `victim` finds is killed."""
    pods = {"kind": "kubectl", "namespace": namespace}
    engines = {"selector": "app.kubernetes.io/component=engine", "container": "engine"}
    return steady({"kind": "constant", "rate": 4}, seconds=40, output=120) | {
        "fault_targets": {"engines": pods | engines, "victim": pods | {"selector": victim}},
        "faults": [
            {"at": 6, "do": "stop", "target": "engines", "lasts": STOPPED},
            {"at": 25, "do": "kill", "target": "victim"},
        ],
    }
