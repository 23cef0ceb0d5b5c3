"""The report in a real browser without a network: all is drawn, and says what its JSON says.

Pictures for a person to look at are left in .pictures.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any, Final

import msgspec
import pytest

from loadtest.report.html import render
from tests.loadtest import made_run
from tests.loadtest.shown import agrees, resolved

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM: Final = os.environ.get("CHROMIUM") or which("chromium") or "/usr/bin/chromium"
PICTURES: Final = Path(".pictures")
SHOWN: Final = """
    [...document.querySelectorAll("[data-key]")].map(
        (one) => [one.dataset.key, one.dataset.of ?? "", one.textContent])
"""

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).is_file(), reason=f"there is no {CHROMIUM}: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenario = made_run.scenario("chat", "search", "batch", made_run.HOSTILE)
    records = made_run.records(scenario)
    summary = made_run.with_quotas(made_run.summary(scenario, records))
    summary.reasons.append('<img src="http://127.0.0.1:9/x" onerror="window.hacked = 1">')
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(summary, records), encoding="utf-8")
    return path


class Tab:
    """A page, and what it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.said.append(f"{one.type}: {one.text}"))
        self.page.on("pageerror", lambda one: self.said.append(f"error: {one}"))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn]", timeout=60_000)

    def until(self, expression: str) -> None:
        """Wait until that is so. Playwright's own way evaluates it within the page, which its
        policy forbids."""
        deadline = monotonic() + 30
        while not self.page.evaluate(expression):
            assert monotonic() < deadline, f"not within 30 s: {expression}"
            self.page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def tab(browser: Any, report: Path) -> Iterator[Tab]:
    opened = Tab(browser, report, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()


def test_it_opens_without_a_complaint_and_asks_nobody_for_anything(tab: Tab, report: Path) -> None:
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert tab.page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_that_a_complaint_and_a_request_would_be_seen(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    script = "document.documentElement.dataset.drawn = 'yes'; throw new Error('seen')"
    image = '<img src="http://127.0.0.1:9/x">'
    path.write_text(f"<!doctype html><html>{image}<script>{script}</script>")
    tab = Tab(browser, path)
    assert any("seen" in one for one in tab.said)
    assert "http://127.0.0.1:9/x" in tab.asked
    tab.context.close()


def test_every_plot_is_drawn(tab: Tab) -> None:
    plots = tab.page.evaluate("""
        Object.fromEntries([...document.querySelectorAll(".plot")].map((plot) => [plot.id, {
            wanted: JSON.parse(document.getElementById("plots").textContent)
                [plot.id.slice(5)].data.length,
            traces: plot.data.length,
            drawn: plot.querySelectorAll(
                ".main-svg .scatterlayer .trace :is(path.js-line, path.point), .main-svg .bars path"
            ).length,
            shown: [...plot.querySelectorAll(".main-svg")].every(
                (svg) => svg.getBoundingClientRect().width > 100),
        }]))
    """)
    assert len(plots) >= 14
    for name, plot in plots.items():
        assert plot["traces"] == plot["wanted"] > 0, name
        assert plot["drawn"] >= plot["wanted"], name
        assert plot["shown"], name


def test_every_figure_is_that_of_the_json(tab: Tab) -> None:
    document = tab.page.evaluate("JSON.parse(document.getElementById('summary').textContent)")
    shown = tab.page.evaluate(SHOWN)
    assert len(shown) > 600
    for key, of, text in shown:
        whole = resolved(document, of) if of else None
        assert agrees(resolved(document, key), text, whole), (key, text)


def test_no_name_or_reason_becomes_a_part_of_the_page(tab: Tab) -> None:
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.evaluate("document.images.length") == 0
    assert tab.page.evaluate("document.scripts.length") == 4
    legends = tab.page.evaluate(
        "[...document.querySelectorAll('.legendtext')].map((one) => one.textContent)"
    )
    assert made_run.HOSTILE in legends
    assert tab.page.evaluate("document.querySelectorAll('svg a').length") == 0


def test_plots_over_time_are_zoomed_together(tab: Tab) -> None:
    plots = "[...document.querySelectorAll('.plot')]"
    before = tab.page.evaluate(f"{plots}.map((one) => one.layout.xaxis.range)")
    tab.page.evaluate(
        "Plotly.relayout(document.getElementById('plot-teams-time'), {'xaxis.range': [50, 80]})"
    )
    tab.until("document.getElementById('plot-server-0').layout.xaxis.range[0] === 50")
    after = tab.page.evaluate(f"{plots}.map((one) => one.layout.xaxis.range)")
    changed = [one for one, other in zip(after, before, strict=True) if one != other]
    timed = tab.page.evaluate(
        "Object.values(JSON.parse(document.getElementById('plots').textContent))"
        ".filter((one) => one.timed).length"
    )
    assert changed == [[50, 80]] * timed


def test_colours_follow_light_and_dark_and_all_text_can_be_read(browser: Any, report: Path) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        tab = Tab(browser, report, color_scheme=scheme)
        seen[scheme] = tab.page.evaluate(
            "document.getElementById('plot-teams-time').data[0].line.color"
        )
        low = tab.page.evaluate(CONTRAST)
        assert low == [], f"contrast below 4.5 in {scheme}"
        other = "dark" if scheme == "light" else "light"
        tab.page.emulate_media(color_scheme=other)
        tab.until(
            f"document.getElementById('plot-teams-time').data[0].line.color !== '{seen[scheme]}'"
        )
        tab.context.close()
    assert seen["light"] != seen["dark"]


def test_no_width_makes_the_page_scroll_sideways(browser: Any, report: Path) -> None:
    tab = Tab(browser, report, viewport={"width": 320, "height": 800})
    for width in (320, 390, 768, 1280):
        tab.page.set_viewport_size({"width": width, "height": 800})
        # Plots follow a little later.
        tab.until("""
            [...document.querySelectorAll(".plot")].every((plot) => Math.abs(
                plot.querySelector(".main-svg").getBoundingClientRect().width
                - plot.getBoundingClientRect().width) < 2)
        """)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.context.close()


def test_it_can_be_used_by_keyboard_and_read_aloud(tab: Tab) -> None:
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.className") == "skip"
    nameless = tab.page.evaluate("""
        [...document.querySelectorAll("[role=img], [role=region]")]
            .filter((one) => !one.getAttribute("aria-label")).length
    """)
    assert nameless == 0
    assert tab.page.evaluate(
        "[...document.querySelectorAll('table')].every((one) => one.caption && one.tHead)"
    )
    assert tab.page.evaluate(
        "[...document.querySelectorAll('.scroll, pre')].every((one) => one.tabIndex === 0)"
    )


def test_it_is_readable_on_paper_whatever_the_screen_is_like(browser: Any, report: Path) -> None:
    tab = Tab(browser, report, color_scheme="dark", viewport={"width": 688, "height": 980})
    tab.page.emulate_media(media="print")
    tab.until(
        "getComputedStyle(document.documentElement).getPropertyValue('--text').trim() ==="
        " document.getElementById('plot-teams-time').layout.font.color"
    )
    assert tab.page.evaluate("document.getElementById('plot-teams-time').layout.font.color") == (
        "#1a1f26"
    )
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 688
    tab.page.emulate_media(media="screen")
    pdf = tab.page.pdf(format="A4")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40
    assert tab.said == []
    tab.context.close()


def test_pictures_are_left_to_look_at(browser: Any, report: Path) -> None:
    PICTURES.mkdir(exist_ok=True)
    pictures: dict[str, dict[str, Any]] = {
        "light": {"viewport": {"width": 1280, "height": 900}},
        "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
        "narrow": {"viewport": {"width": 390, "height": 844}},
    }
    for name, options in pictures.items():
        tab = Tab(browser, report, **options)
        path = PICTURES / f"report-{name}.png"
        tab.page.screenshot(path=str(path), full_page=True)
        assert path.stat().st_size > 100_000
        tab.context.close()


def test_an_invalid_run_is_stamped_in_every_section(browser: Any, tmp_path: Path) -> None:
    scenario = made_run.scenario("chat")
    records = made_run.records(scenario)
    made = made_run.summary(scenario, records, lag=0.01)
    path = tmp_path / "invalid.html"
    path.write_text(render(made, records), encoding="utf-8")
    tab = Tab(browser, path, viewport={"width": 1280, "height": 900})
    stamps = tab.page.evaluate("""
        [...document.querySelectorAll("section")]
            .map((one) => getComputedStyle(one, "::after").content)
    """)
    assert len(stamps) > 6
    assert set(stamps) == {'"INVALID"'}
    assert tab.page.title().startswith("INVALID")
    PICTURES.mkdir(exist_ok=True)
    tab.page.screenshot(path=str(PICTURES / "report-invalid.png"))
    tab.context.close()


def test_a_run_of_nothing_opens_too(browser: Any, tmp_path: Path) -> None:
    scenario = made_run.scenario("chat")
    empty = msgspec.structs.replace(
        made_run.summary(scenario, []), windows=[], series=[], faults=[]
    )
    path = tmp_path / "empty.html"
    path.write_text(render(empty, []), encoding="utf-8")
    tab = Tab(browser, path)
    assert tab.said == []
    assert "Nothing to draw" in tab.page.inner_text("body")
    tab.context.close()


# WCAG: of each text that is shown, with the nearest background that is no transparent one.
CONTRAST: Final = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((one) => {
      const part = one / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.offsetParent || one.closest("svg")) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([one.textContent.slice(0, 40), one.className, ratio]);
  }
  return low;
})()
"""
