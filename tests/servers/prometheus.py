"""A real Prometheus on loopback, which looks at its targets each second."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import yaml

from tests.process import environment, free_port, running

PROGRAM = shutil.which("prometheus")
"""Debian's package `prometheus` has it."""

Series = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Target:
    """Where metrics are, `host:port`, and the labels that an operator's monitor would add."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Prometheus:
    """Used as a context manager: started at entry, gone with all its data at exit."""

    def __init__(self, folder: Path, targets: Sequence[Target], every: str = "1s") -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._config = {
            "global": {"scrape_interval": every, "scrape_timeout": every},
            "scrape_configs": [
                {
                    "job_name": target.labels.get("job", target.address),
                    "static_configs": [
                        {"targets": [target.address], "labels": dict(target.labels)}
                    ],
                }
                for target in targets
            ],
        }
        self._running = ExitStack()

    def __enter__(self) -> Self:
        assert PROGRAM is not None, "Debian's package prometheus is not installed"
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config))
        line = [
            PROGRAM,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        ready, log = f"{self.url}/-/ready", self._folder / "log"
        self._running.enter_context(running(line, environment(self._folder), ready=ready, log=log))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def query(self, expression: str) -> list[Series]:
        """What an expression gives now: labels and value of each series."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10)
        document = answer.json()
        assert document["status"] == "success", document
        return [(one["metric"], float(one["value"][1])) for one in document["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """Of an expression that gives one series; None where it gives none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None
