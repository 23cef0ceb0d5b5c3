"""Unit tests of Prometheus rules as promtool runs them, made from Python.

Series have the labels that a scrape gives them: two gateways and up to three engines in the
namespace `gptoss`. Values are in promtool's notation: `1x30` is 1 at 30 further instants, `0+5x30`
grows by 5 each time.
"""

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy.observability.rules import Group, render

PROGRAM: Final = shutil.which("promtool")
"""Debian's package `prometheus` has it."""
needs_promtool: Final = pytest.mark.skipif(
    PROGRAM is None, reason="no promtool: `apt-get install prometheus`"
)

NAMESPACE: Final = "gptoss"
GATEWAYS: Final = ("gateway-0", "gateway-1")
MODEL: Final = "gpt-oss-120b"

Labels = Mapping[str, str]
Series = Mapping[str, str]
"""The values of each series, by its name with labels."""


def series(name: str, values: str, **labels: str) -> Series:
    """One."""
    inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {f"{name}{{{inner}}}": values}


def gateway(
    short: str, values: str, pods: Sequence[str] = GATEWAYS, /, **labels: str
) -> dict[str, str]:
    """One of the contract's, alike on each gateway."""
    found: dict[str, str] = {}
    for pod in pods:
        target = gateway_target(pod) | labels
        found |= series(f"gptoss_gateway_{short}", values, **target)
    return found


def info(values: str, pods: Sequence[str] = GATEWAYS) -> dict[str, str]:
    """What each gateway always has."""
    return gateway("info", values, pods, version="0.1.0")


def gateway_target(pod: str) -> dict[str, str]:
    """What a scrape of it adds."""
    return {
        "namespace": NAMESPACE,
        "pod": pod,
        "instance": f"{pod}:8001",
        "job": f"{NAMESPACE}/gptoss-gateway",
    }


def engine(name: str, values: str, number: int = 0, **labels: str) -> dict[str, str]:
    """One of vLLM's."""
    own = {} if name == "cache_config_info" else {"model_name": "gpt-oss-120b"}
    target = engine_target(number) | own | {"engine": "0"} | labels
    return dict(series(f"vllm:{name}", values, **target))


def engine_target(number: int) -> dict[str, str]:
    """What a scrape of it adds."""
    return {
        "namespace": NAMESPACE,
        "pod": f"engine-{number}",
        "instance": f"engine-{number}:8100",
        "job": f"{NAMESPACE}/gptoss-engine-h100",
    }


def page(**labels: str) -> Labels:
    """Labels of an alert that wakes somebody."""
    return {"severity": "page", "namespace": NAMESPACE, **labels}


def ticket(**labels: str) -> Labels:
    """Labels of one that does not."""
    return {"severity": "ticket", "namespace": NAMESPACE, **labels}


def of_gateway(number: int) -> dict[str, str]:
    """Labels of an alert about one."""
    pod = f"gateway-{number}"
    return {"pod": pod, "instance": f"{pod}:8001"}


def of_engine(number: int) -> dict[str, str]:
    """Labels of an alert about one."""
    return {"pod": f"engine-{number}", "instance": f"engine-{number}:8100", "model_name": MODEL}


def pool(up: str = "0x30", trial: str = "0x30", down: str = "0x30") -> dict[str, str]:
    """A pool as both gateways see it."""
    counts = {"up": up, "trial": trial, "down": down, "ejected": "0x30", "stalled": "0x30"}
    found: dict[str, str] = {}
    for state, values in counts.items():
        found |= gateway("replicas", values, pool="h100", state=state)
    return found


def turned(before: int, after: int) -> str:
    """A counter's steps of five minutes: for a day, and since then."""
    return f"0+{before}x290 {before * 291}+{after}x60"


@dataclass(frozen=True, slots=True)
class Case:
    """What an alert does at an instant: it fires with each of these labels, or with none."""

    alert: str
    what: str
    series: Series
    at: str
    fires: tuple[Labels, ...] = ()

    def test(self, interval: str) -> dict[str, Any]:
        """As promtool wants it. It compares annotations too: rules here have none."""
        expected = [{"exp_labels": dict(labels)} for labels in self.fires]
        return {
            "name": f"{self.alert}: {self.what}",
            "interval": interval,
            "input_series": [
                {"series": name, "values": values} for name, values in self.series.items()
            ],
            "alert_rule_test": [
                {"eval_time": self.at, "alertname": self.alert, "exp_alerts": expected}
            ],
        }


def bare(groups: Iterable[Group]) -> str:
    """A rule file without annotations."""
    document = yaml.safe_load(render(groups))
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    return yaml.safe_dump(document)


def promtool(
    folder: Path, rules: str, tests: Sequence[Mapping[str, Any]], every: str = "1m"
) -> subprocess.CompletedProcess[str]:
    """Run tests of a rule file."""
    (folder / "rules.yaml").write_text(rules)
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": list(tests)}
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    line = ["promtool", "test", "rules", str(file)]
    return subprocess.run(line, check=False, capture_output=True, text=True)


def passes(
    folder: Path, groups: Iterable[Group], tests: Sequence[Mapping[str, Any]], every: str = "1m"
) -> None:
    """They do, or promtool says which does not."""
    done = promtool(folder, bare(groups), tests, every)
    assert done.returncode == 0, done.stdout + done.stderr
