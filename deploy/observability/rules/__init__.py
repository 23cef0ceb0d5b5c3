"""Alerts and objectives, as data: Prometheus's rule file is made of them, also the chart's."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.observability.rules import causes, missing, redundancy, slo, symptoms, upkeep
from deploy.observability.rules.alert import Alert, Recording

FILES: Final = (Path("deploy/observability/rules.yaml"), Path("helm/gptoss/files/rules.yaml"))
RUNBOOKS: Final = Path("deploy/observability/runbooks")

_HEADING: Final = """\
# Made by `python -m deploy.observability` from deploy/observability/rules: leave as it is.
# Links are paths within this repository and Grafana: deploy/observability/README.md, "Links".
"""

# Others go by Prometheus's own. Less often than every 5 minutes their values would come and go.
_INTERVALS: Final = {"gptoss-days": {"interval": "2m"}}

Group = tuple[str, Sequence[Alert | Recording]]


def groups() -> tuple[Group, ...]:
    """All rules. Within a group they are computed one after the other, at the same instant."""
    return (
        ("gptoss-days", tuple(slo.recordings(slo.SLOW))),
        ("gptoss-objectives", (*slo.recordings(slo.QUICK), *slo.alerts())),
        ("gptoss-symptoms", symptoms.ALERTS),
        ("gptoss-causes", (*redundancy.ALERTS, *causes.ALERTS, *upkeep.ALERTS)),
        ("gptoss-missing", tuple(missing.alerts())),
    )


def alerts() -> tuple[Alert, ...]:
    """Those among them that are alerts."""
    return tuple(rule for _, rules in groups() for rule in rules if isinstance(rule, Alert))


def render(chosen: Iterable[Group]) -> str:
    """A rule file."""
    document = {
        "groups": [
            {"name": name, **_INTERVALS.get(name, {}), "rules": [rule.rule() for rule in rules]}
            for name, rules in chosen
        ]
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)


def outputs() -> Mapping[Path, str]:
    """Every file that is made, with what it should hold."""
    text = _HEADING + render(groups())
    return dict.fromkeys(FILES, text)


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines as they are."""


def _text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _text)
