"""What is made from other files is what these say now: schema, README, the profiles' data."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from deploy.chart.__main__ import made
from service.engine.launcher import VLLM_VERSION
from tests.chart.render import CHART, Refused, overlays, render, rendered
from tests.chart.schemas import OLDEST

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def test_nothing_that_is_made_is_old() -> None:
    for path, text in made(CHART).items():
        assert path.read_text() == text, f"{path} is old: make helm"


def _objects(schema: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema of an object, with its place."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield where, schema
        for key, value in schema.items():
            yield from _objects(value, f"{where}/{key}")
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from _objects(value, f"{where}/{i}")


# Of Kubernetes or Helm: their own schemas look at these.
FREE = re.compile(r"/items$|/properties/global$|^/(if|then)")


def test_an_unknown_name_is_refused_everywhere() -> None:
    for where, schema in _objects(SCHEMA):
        if not FREE.search(where):
            assert "additionalProperties" in schema, where
            assert schema["additionalProperties"] is not True, where


def test_every_value_has_a_type() -> None:
    for where, schema in _objects(SCHEMA):
        for name, one in schema.get("properties", {}).items():
            if not where.startswith(("/then", "/if")):
                assert {"type", "$ref", "allOf"} & one.keys(), f"{where}/{name}"


@pytest.mark.parametrize("name", overlays())
def test_an_overlay_says_for_whom_it_is(name: str) -> None:
    text = (CHART / "ci" / f"{name}-values.yaml").read_text()
    assert text.startswith("# For ")
    assert len(text.splitlines()) <= 40, "short enough to read before use"
    assert isinstance(yaml.safe_load(text), dict)


def test_the_chart_says_which_vllm_its_engines_hold() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["annotations"]["gptoss/vllm"] == VLLM_VERSION


def test_the_chart_is_for_what_the_tests_try() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


def test_the_default_values_alone_are_not_enough_and_say_so() -> None:
    with pytest.raises(Refused, match=r"engine\.pools: name at least one"):
        render({})
    assert rendered("minimal")
