"""What an alert is, and how it is written for Prometheus."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

RUNBOOKS: Final = "deploy/observability/runbooks"
"""Where runbooks are in this repository. The address at which people read it is put before that by
the chart (`monitoring.runbooksUrl`), or by Alertmanager (README, Links)."""


class Severity(StrEnum):
    """Who is told."""

    PAGE = "page"
    """A person, now: users feel it."""
    TICKET = "ticket"
    """A person, in working hours: it will be felt, or makes something else worse."""
    TEAM = "team"
    """The team that the label `team` names, and nobody on call."""
    NONE = "none"
    """Nobody: it says that alerting works."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `hold` is how long it must be so; `labels` are put beside the severity; `board` is
    the dashboard to look at, for the values that the labels in `variables` have."""

    name: str
    severity: Severity
    expr: str
    hold: str
    summary: str
    description: str
    board: str
    variables: tuple[str, ...] = ("namespace",)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def dashboard(self) -> str:
        """The link, in Grafana's own paths."""
        chosen = "&".join(f"var-{name}={{{{ $labels.{name} }}}}" for name in self.variables)
        return f"/d/{self.board}" + (f"?{chosen}" if chosen else "")

    def rule(self) -> dict[str, object]:
        """As the rule file has it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity.value, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{RUNBOOKS}/{self.name}.md",
                "dashboard_url": self.dashboard,
            },
        }


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes beforehand."""

    name: str
    expr: str

    def rule(self) -> dict[str, object]:
        """As the rule file has it."""
        return {"record": self.name, "expr": self.expr}


def lines(*parts: str) -> str:
    """An expression of several lines."""
    return "\n".join(parts)
