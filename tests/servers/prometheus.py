"""A real Prometheus on loopback, which looks at its targets each second."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests import web
from tests.process import environment, free_port, running

PROGRAM = shutil.which("prometheus")
"""Debian's package `prometheus` has it."""

Series = tuple[Mapping[str, str], float]
Line = tuple[Mapping[str, str], list[tuple[float, float]]]
Alert = Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """Where metrics are, `host:port`, and the labels that an operator's monitor would add."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Prometheus:
    """Used as a context manager: started at entry, gone with all its data at exit.

    `rules` is a file of rules, evaluated as often as targets are looked at.
    """

    def __init__(
        self,
        folder: Path,
        targets: Sequence[Target],
        every: str = "1s",
        rules: Path | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._config = {
            "global": {
                "scrape_interval": every,
                "scrape_timeout": every,
                "evaluation_interval": every,
            },
            "rule_files": [str(rules)] if rules else [],
            "scrape_configs": [
                {
                    "job_name": target.address,  # a label `job` of its own comes first
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
            "--enable-feature=exemplar-storage",
        ]
        ready, log = f"{self.url}/-/ready", self._folder / "log"
        self._running.enter_context(running(line, environment(self._folder), ready=ready, log=log))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def query(self, expression: str) -> list[Series]:
        """What an expression gives now: labels and value of each series."""
        found = self._ask("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def range(self, expression: str, start: float, end: float, step: float) -> list[Line]:
        """What it gave meanwhile: labels, and values by time, of each series. Epoch seconds."""
        answer = self._ask("query_range", query=expression, start=start, end=end, step=step)
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"]])
            for one in answer["result"]
        ]

    def label_values(self, selector: str, label: str) -> set[str]:
        """What a label has been in the series of a selector; of all series where it is empty."""
        matching = {"match[]": selector} if selector else {}
        return set(self._ask(f"label/{label}/values", **matching))

    def alerts(self) -> list[Alert]:
        """Those that fire now: their labels."""
        found = self._ask("alerts")["alerts"]
        return [one["labels"] for one in found if one["state"] == "firing"]

    def exemplars(self, expression: str, start: float, end: float) -> list[Mapping[str, str]]:
        """The labels of the examples of some series."""
        found = self._ask("query_exemplars", query=expression, start=start, end=end)
        return [one["labels"] for series in found for one in series["exemplars"]]

    def _ask(self, what: str, **parameters: Any) -> Any:
        answer = web.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10)
        document = answer.json()
        assert document["status"] == "success", document
        return document["data"]

    def value(self, expression: str) -> float | None:
        """Of an expression that gives one series; None where it gives none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None
