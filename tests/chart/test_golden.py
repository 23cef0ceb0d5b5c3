"""The renders that are kept for review are what the chart renders now."""

import pytest

from tests.chart.golden import FOLDER, OVERLAYS, golden

ANEW = "make them anew, and read what changed: python -m tests.chart.golden"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_chart_renders_what_was_reviewed(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text() == golden(name), ANEW


def test_no_other_render_is_kept() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(OVERLAYS)
