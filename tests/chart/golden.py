"""Whole renders, to be read: what a change of the chart changes is seen in its review.

python -m tests.chart.golden      writes tests/chart/golden/*.yaml anew
"""

from pathlib import Path
from typing import Any, Final

import yaml

from tests.chart.render import EVERY_API, Object, overlay, render

FOLDER: Final = Path(__file__).parent / "golden"
OVERLAYS: Final = ("minimal", "eight-h100", "keda", "offline")
KUBE: Final = "1.34.0"


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def golden(name: str) -> str:
    """An overlay's objects in a steady order, without what is random."""
    objects = render(overlay(name), kube=KUBE, apis=EVERY_API)
    ordered = sorted(objects, key=lambda one: (one.template, one.kind, one.name))
    heading = (
        f"# Made by `python -m tests.chart.golden`: ci/{name}-values.yaml, Kubernetes {KUBE}.\n"
    )
    return heading + "".join(f"---\n{_dump(one)}" for one in ordered)


def _dump(one: Object) -> str:
    body = dict(one.body)
    if one.kind == "Secret":
        body["data"] = dict.fromkeys(sorted(body["data"]), "(made once)")
    if "dashboard" in one.name or one.kind == "PrometheusRule":
        body = {key: value for key, value in body.items() if key not in ("data", "spec")}
    return f"# {one.template}\n" + yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=100)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in OVERLAYS:
        (FOLDER / f"{name}.yaml").write_text(golden(name))


if __name__ == "__main__":
    main()
