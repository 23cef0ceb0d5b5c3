"""The load test as a command, and what it says, beside another tool."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from loadtest.folder import Folder
from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.summary import Part
from tests.crosscheck.paced import Figures


def scenario(path: Path, kind: str, rate: float, seconds: float) -> Path:
    """One that only measures: what else this machine does is not held against it."""
    document: dict[str, Any] = {
        "name": "cross",
        "duration": seconds,
        "drain": 20,
        "workers": 1,
        "slo": {"ttft": 20, "percent": 50},
        "trust": {"lag_p99": 5, "cpu_percent": 100, "rate_percent": 50, "loop_lag_p99": 5},
        "teams": {"a": {"arrivals": {"kind": kind, "rate": rate}, "workloads": [{"output": 64}]}},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def run(folder: Path, source: Path, url: str, key: str) -> Folder:
    """To its end. What it left."""
    line = [sys.executable, "-m", "loadtest", "run", str(source), "--url", url, "--model", "m"]
    ran = subprocess.run(
        [*line, "--out", str(folder)],
        env=os.environ | {"OPENAI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Folder(folder)


def figures(records: list[Record], part: Part) -> Figures:
    """Its summary, but rates by GuideLLM's stretch of time: from the first request to the end of
    the last one. Its own are of the time in which requests were due."""
    good = [record for record in records if record.good]
    ends = [record.ended for record in good if record.ended is not None]
    sent = [record.sent for record in good if record.sent is not None]
    seconds = max(ends) - min(sent)
    return Figures(
        sum(
            count
            for outcome, count in part.outcomes.items()
            if outcome in (Outcome.OK, Outcome.LENGTH)
        ),
        len(good) / seconds,
        sum(record.output_tokens for record in good) / seconds,
        ms(part.sent_ttft.p50),
        ms(part.sent_ttft.p99),
        ms(part.tpot.p50),
    )


def ms(seconds: float | None) -> float:
    """None is infinite: there were that many failures."""
    return math.inf if seconds is None else seconds * 1000
