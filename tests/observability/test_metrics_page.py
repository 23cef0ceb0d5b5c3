"""METRICS.md is what the contract says."""

import pytest

from deploy.observability import metrics_page
from service.telemetry import contract
from tests.observability.queries import ROOT

PAGES = metrics_page.outputs()


def test_it_is_current() -> None:
    for path, text in PAGES.items():
        assert (ROOT / path).read_text() == text, f"{path}: run `python -m deploy.observability`"


@pytest.mark.parametrize("family", contract.FAMILIES, ids=lambda family: family.short)
def test_it_has_every_metric_with_all_of_its_labels(family: contract.Family) -> None:
    (text,) = PAGES.values()
    name = family.name if family.kind is contract.Kind.HISTOGRAM else family.exported
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    for label in family.labels:
        assert f"`{label.name}`" in row
        assert all(f"`{value}`" in text for value in label.values)
        assert not label.bound or f"Bounded by: {label.bound}" in text


def test_every_metric_has_a_topic() -> None:
    found = [family for families in metrics_page.topics().values() for family in families]
    assert found == list(contract.FAMILIES)
    assert "" not in metrics_page.topics()
