"""A situation, and what a panel says of it, by promtool: its query, of series that are made.

It looks at each every 15 seconds, or every minute where rules record something.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.observability.rules import Group, groups
from tests.observability.macros import substituted, variables
from tests.observability.queries import DASHBOARDS
from tests.observability.rule_tests import Labels, Series, bare, promtool

AT: Final = "10m5s"
"""Between two looks: a window of ten minutes has 40 of them, whichever end belongs to it."""
CHOSEN: Final = {"__rate_interval": "1m", "__range": "10m", "seats": "10", "gpus": "1"}

Answer = tuple[Labels, float]


@dataclass(frozen=True, slots=True)
class Case:
    """What a panel (of a table, its column) says of some series, to a thousandth."""

    page: str
    panel: str
    what: str
    series: Series
    says: tuple[Answer, ...]
    query: int = 0
    chosen: Mapping[str, str] = field(default_factory=dict)
    at: str = AT
    rules: str = ""

    def __str__(self) -> str:
        return f"{self.panel}: {self.what}"

    @property
    def expr(self) -> str:
        """What the panel asks, with what is chosen on its page."""
        board = json.loads((DASHBOARDS / f"{self.page}.json").read_text())
        (panel,) = (one for one in board["panels"] if one["title"] == self.panel)
        query = panel["targets"][self.query]["expr"]
        given = {**dict.fromkeys(variables(query), ".*"), **CHOSEN, **self.chosen}
        return substituted(query, given)

    def holds(self, folder: Path) -> None:
        """It does, or promtool says what is said instead."""
        every = "1m" if self.rules else "15s"
        expected = [{"labels": _named(labels), "value": value} for labels, value in self.says]
        test = {
            "interval": every,
            "input_series": [
                {"series": name, "values": values} for name, values in self.series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f"round({self.expr}, 0.001)",
                    "eval_time": self.at,
                    "exp_samples": expected,
                }
            ],
        }
        done = promtool(folder, bare(_rules(self.rules)), [test], every)
        assert done.returncode == 0, done.stdout + done.stderr


def _rules(name: str) -> list[Group]:
    return [group for group in groups() if group[0] == name]


def _named(labels: Labels) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
