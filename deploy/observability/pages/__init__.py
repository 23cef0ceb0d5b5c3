"""The pages, one module each, beside what several of them ask (`objectives`) and a long row
(`retries`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.observability.page import Page, text_of
from deploy.observability.pages import capacity, gateway, loadtest, replicas, service, teams

ALL: Final[tuple[Page, ...]] = (
    service.PAGE,
    teams.PAGE,
    replicas.PAGE,
    capacity.PAGE,
    gateway.PAGE,
    loadtest.PAGE,
)
FOLDERS: Final = (Path("deploy/observability/dashboards"), Path("helm/gptoss/files/dashboards"))
"""For compose, and for the chart, which cannot reach beyond its own folder."""


def outputs() -> Mapping[Path, str]:
    """Every file that is made, from the repository's root, with what it should hold."""
    return {folder / f"{page.name}.json": text_of(page) for page in ALL for folder in FOLDERS}


def needs() -> Mapping[tuple[str, str], str]:
    """By name of the page's file and title of the panel: what the panel shows nothing without. A
    reason begins with `fault` where something has to be wrong, which tests then make so."""
    panels = ((page, panel) for page in ALL for panel in page.panels)
    return {(page.name, panel.title): panel.needs for page, panel in panels if panel.needs}
