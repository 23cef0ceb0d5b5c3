"""The report: it says what the summary says, opens anywhere, and believes no text that it shows."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.outcome import Outcome
from loadtest.record import Record
from loadtest.report import cells, definitions
from loadtest.report.axes import latency, short
from loadtest.report.figures import pointer
from loadtest.report.html import render
from loadtest.report.outcomes import LOOKS
from loadtest.report.sample import POINTS, taken
from loadtest.summary import Summary, Verdict
from tests.loadtest import made_run
from tests.loadtest.shown import agrees, resolved

TEAMS: Final = ("chat", "search", "batch", made_run.HOSTILE)


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.shown: list[tuple[dict[str, str], str]] = []
        self.scripts: list[str] = []
        self.embedded: dict[str, Any] = {}
        self.text = ""
        self._open: list[tuple[str, dict[str, str], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tags.append((tag, known))
        if tag not in ("meta", "link", "br"):
            self._open.append((tag, known, ""))

    def handle_data(self, data: str) -> None:
        self._open = [(tag, attrs, text + data) for tag, attrs, text in self._open]
        if not self._open or self._open[-1][0] not in ("script", "style"):
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        opened, attrs, text = self._open.pop()
        assert opened == tag, f"<{opened}> is ended by </{tag}>"
        if "data-key" in attrs:
            self.shown.append((attrs, text))
        if tag == "script" and attrs.get("type") == "application/json":
            self.embedded[attrs["id"]] = json.loads(text)
        elif tag == "script":
            self.scripts.append(text)


@pytest.fixture(scope="module")
def run() -> tuple[Summary, list[Record]]:
    scenario = made_run.scenario(*TEAMS)
    records = made_run.records(scenario)
    return made_run.with_quotas(made_run.summary(scenario, records)), records


@pytest.fixture(scope="module")
def page(run: tuple[Summary, list[Record]]) -> Page:
    return Page(render(*run))


def test_each_figure_shown_is_that_of_the_summary_embedded(page: Page) -> None:
    document = page.embedded["summary"]
    assert len(page.shown) > 600
    for attrs, text in page.shown:
        whole = resolved(document, attrs["data-of"]) if "data-of" in attrs else None
        assert agrees(resolved(document, attrs["data-key"]), text, whole), (attrs, text)


def test_that_comparison_sees_a_figure_that_is_a_little_off() -> None:
    assert agrees(0.0873, "87.3 ms")
    assert not agrees(0.0873, "88.3 ms")
    assert not agrees(0.0873, "87.3 s")
    assert not agrees(None, "0 ms")
    assert not agrees(12, "13.3%", 100)


def test_the_summary_embedded_is_the_one_written_but_for_what_opens_doors(
    run: tuple[Summary, list[Record]], page: Page
) -> None:
    written = json.loads(msgspec.json.encode(run[0]))
    embedded = page.embedded["summary"]
    assert embedded["target"] == "https://…@gateway.example:8443"
    assert embedded["scenario"]["target"]["headers"] == {"x-route-key": "…"}
    for document in (written, embedded):
        document["target"] = document["scenario"]["target"] = None
    assert embedded == written


def test_no_secret_of_the_scenario_is_anywhere_in_it(run: tuple[Summary, list[Record]]) -> None:
    assert "very-secret" in str(msgspec.to_builtins(run[0])), "there is nothing to be hidden"
    text = render(*run)
    assert "s3cret" not in text
    assert "very-secret" not in text


@pytest.mark.parametrize("part", ["overall", "teams/chat", "teams/search"])
def test_percentiles_rates_and_tokens_of_each_team_are_shown(page: Page, part: str) -> None:
    keys = {attrs["data-key"] for attrs, _ in page.shown}
    for one in definitions.TIMES:
        for name in ("p50", "p90", "p95", "p99", "mean", "highest", "count", "failed"):
            assert f"/{part}/{one.name}/{name}" in keys
        assert f"/{part}/gap/p99_low" in keys
    for name in ("rate", "good_rate", "output_rate", "output_tokens", "reasoning_tokens"):
        assert f"/{part}/{name}" in keys


def test_each_column_has_what_its_heading_says(page: Page) -> None:
    keys = [attrs["data-key"] for attrs, _ in page.shown]
    start = keys.index("/teams/chat/ttft/p50")
    row = [key.rsplit("/", 1)[1] for key in keys[start : start + 8]]
    assert row == ["p50", "p90", "p95", "p99", "mean", "highest", "count", "failed"]
    assert "p50p90p95p99meanhighestrequestsfailed" in page.text


def test_each_number_has_its_definition_beside_it(page: Page) -> None:
    for one in (*definitions.TIMES, *definitions.COUNTS, *definitions.RATES, *definitions.TOKENS):
        assert one.title + one.meaning in page.text
    assert "when the request was due, not from when it was sent" in page.text


def test_a_percentile_among_failures_is_infinite_and_one_of_nothing_is_a_dash() -> None:
    scenario = made_run.scenario("chat")
    records = made_run.records(scenario)
    shown = _by_key(Page(render(made_run.summary(scenario, records), records)))
    assert shown["/overall/ttft/p99"] == "∞"
    assert shown["/teams/chat/ttft/p50"].endswith("ms")
    shown = _by_key(Page(render(made_run.summary(scenario, []), [])))
    assert shown["/teams/chat/ttft/failed"] != "0", "nothing that was due was sent: it all failed"
    assert shown["/teams/chat/gap/p99"] == "\N{EN DASH}"


def test_a_run_of_nothing_has_a_report_too() -> None:
    scenario = made_run.scenario("chat", cost=None)
    empty = made_run.summary(scenario, [])
    for part in (empty.overall, *empty.teams.values()):
        part.planned = part.sent = 0
    empty.windows, empty.series, empty.faults = [], [], []
    page = Page(render(empty, []))
    assert "Nothing to draw" in page.text
    assert "None were read" in page.text
    assert page.embedded["plots"] == {}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_verdict_and_its_reasons_stand_at_the_top(
    run: tuple[Summary, list[Record]], verdict: Verdict
) -> None:
    made = msgspec.structs.replace(run[0], verdict=verdict, reasons=["a < b", "c & d"])
    page = Page(render(made, []))
    banner = page.text.index(verdict.value, page.text.index("gateway.example"))
    assert banner < page.text.index("a < b") < page.text.index("c & d")
    assert page.text.index("c & d") < page.text.index("Objectives by team")
    assert ("html", {"lang": "en", "class": verdict.value}) in page.tags


def test_an_invalid_run_says_that_its_figures_are_of_no_use() -> None:
    scenario = made_run.scenario("chat")
    records = made_run.records(scenario)
    made = made_run.summary(scenario, records, lag=0.01)
    assert made.verdict is Verdict.INVALID
    page = Page(render(made, records))
    assert "Do not use these figures" in page.text
    assert "INVALID: noisy-neighbour" in page.text
    css = (files("loadtest.report") / "style.css").read_text()
    assert 'html.invalid section::after {\n  content: "INVALID"' in css


def test_hostile_text_stays_text(page: Page) -> None:
    assert made_run.HOSTILE in page.text
    assert len(page.scripts) == 2, "the library and the report's own"
    names = [
        trace.get("name", "") for plot in page.embedded["plots"].values() for trace in plot["data"]
    ]
    assert any("alert" in name for name in names)
    assert not any("<" in name for name in names), "plotly takes some HTML in names"


def test_why_requests_failed_is_beside_how_many_did(run: tuple[Summary, list[Record]]) -> None:
    made = msgspec.json.decode(msgspec.json.encode(run[0]), type=Summary)
    outcome = next(one for one in made.overall.outcomes if one not in ("ok", "length"))
    made.overall.codes = {outcome: {"unknown/parameter": 7, made_run.HOSTILE: 2}}
    page = Page(render(made, []))
    assert "unknown/parameter 7" in page.text and f"{made_run.HOSTILE} 2" in page.text
    assert _by_key(page)[f"/overall/codes/{outcome}/unknown~1parameter"] == "7"
    for attrs, text in page.shown:
        assert "/codes/" not in attrs["data-key"] or agrees(
            resolved(page.embedded["summary"], attrs["data-key"]), text
        )


def test_no_text_can_end_the_element_it_is_in(run: tuple[Summary, list[Record]]) -> None:
    text = render(msgspec.structs.replace(run[0], reasons=["</script><img src=x>", "<!--"]), [])
    assert len(re.findall("</script", text)) == 4
    assert "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_only_its_own_scripts_may_run_and_nothing_may_be_loaded(page: Page) -> None:
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in page.scripts
    }
    assert rules["default-src"] == "'none'"
    assert set(rules["script-src"].split()) == hashes
    assert rules["img-src"] == "data: blob:"


def test_it_names_no_address_to_load_anything_from(run: tuple[Summary, list[Record]]) -> None:
    page = Page(render(*run))
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    for name in ("style.css", "report.js", "page.html"):
        text = (files("loadtest.report") / name).read_text()
        assert not re.search(r"https?://|//\w+\.|@import|url\(", text), name


def test_faults_are_bands_in_all_plots_over_time_but_those_that_were_not_made(page: Page) -> None:
    plots = page.embedded["plots"].values()
    timed = [plot for plot in plots if plot["timed"]]
    assert len(timed) > 8
    for plot in timed:
        bands = [s for s in plot["layout"]["shapes"] if s.get("fillcolor") == {"var": "fault"}]
        assert [(band["x0"], band["x1"]) for band in bands] == [(60, 75)]
        assert [a["text"] for a in plot["layout"]["annotations"]].count("<b>F1</b>") == 1
    assert "not made: port 8001 is taken" in page.text


def test_a_distribution_lacks_at_its_top_the_share_that_failed(
    run: tuple[Summary, list[Record]], page: Page
) -> None:
    for team, part in run[0].teams.items():
        number = list(run[0].teams).index(team)
        curve, ceiling = (
            trace
            for trace in page.embedded["plots"]["cdf-ttft"]["data"]
            if trace["legendgroup"] == str(number)
        )
        share = 1 - part.ttft.failed / part.ttft.count
        assert curve["y"][-1] == pytest.approx(share, abs=1e-6)
        assert ceiling["y"] == pytest.approx([share] * 2, abs=1e-6)
        at = next(x for x, y in zip(curve["x"], curve["y"], strict=True) if y >= 0.9)
        assert part.ttft.p90 is not None
        assert at == pytest.approx(part.ttft.p90, rel=0.03)


def test_what_is_stacked_over_time_are_the_windows_outcomes(
    run: tuple[Summary, list[Record]], page: Page
) -> None:
    drawn = {
        one["name"]: one["customdata"] for one in page.embedded["plots"]["outcomes-time"]["data"]
    }
    for number, window in enumerate(run[0].windows):
        counts = {name: values[number] for name, values in drawn.items() if values[number]}
        assert counts == window.outcomes


def test_server_metrics_of_several_pages_are_in_one_plot(page: Page) -> None:
    plots = page.embedded["plots"]
    running = [p for name, p in plots.items() if name.startswith("server-")]
    assert ["engine-1", "engine-2"] in [[t["name"] for t in plot["data"]] for plot in running]
    assert "Engine: requests running" in page.text
    assert "my_own_<metric>" in page.text


def test_points_are_few_however_many_requests_there_were() -> None:
    many = (
        Record(n, "chat", float(n), sent=float(n), first=n + 0.5, ended=n + 1.0, outcome=Outcome.OK)
        for n in range(20 * POINTS)
    )
    sample = taken(many, (0.0, 1e9))
    assert sample.seen == 20 * POINTS
    assert len(sample.points) == POINTS
    middle = sum(point.at for point in sample.points) / POINTS
    assert middle == pytest.approx(10 * POINTS, rel=0.05), "not drawn evenly"


def test_what_says_nothing_about_the_server_is_no_point() -> None:
    records = [
        Record(0, "chat", 1.0, outcome=Outcome.CANCELLED),
        Record(1, "batch", 1.0, outcome=Outcome.QUOTA_429),
        Record(2, "chat", 1.0, outcome=Outcome.QUOTA_429),
        Record(3, "chat", 1.0, outcome=Outcome.OK, streamed=False, ended=2.0),
    ]
    assert [p.team for p in taken(records, (0.0, 9.0), beyond=["batch"]).points] == ["chat"]


def test_every_outcome_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(Outcome)
    assert len({(look.colour, look.pattern) for look in LOOKS.values()}) == len(LOOKS)


def test_every_colour_is_one_of_the_style_sheet_in_light_and_in_dark(page: Page) -> None:
    css = (files("loadtest.report") / "style.css").read_text()
    light, dark = css.split("@media screen and (prefers-color-scheme: dark)")
    names = set(_colours(page.embedded["plots"])) | {look.colour for look in LOOKS.values()}
    assert len(names) > 12
    for name in names:
        assert f"--{name}:" in light, name
        assert f"--{name}:" in dark, name


@given(st.floats(1e-6, 1e5))
def test_times_are_written_with_three_digits(value: float) -> None:
    assert agrees(value, cells.seconds(value))
    assert "e" not in cells.seconds(value)


@given(st.floats(0, 100))
def test_a_percentage_is_never_rounded_to_all_or_nothing(value: float) -> None:
    text = cells.percent(value)
    assert (text == "100%") == (value == 100)
    assert (text == "0%") == (value == 0)


@given(st.lists(st.floats(1e-5, 1e4), min_size=1))
def test_an_axis_of_times_has_ticks_and_room_above_all_values(values: list[float]) -> None:
    axis, never = latency("TTFT", values)
    top = 10 ** axis["range"][1] if axis.get("type") == "log" else axis["range"][1]
    assert max(values) < never < top
    assert 1 < len(axis["tickvals"]) < 30
    assert axis["ticktext"] == [short(tick) for tick in axis["tickvals"]]
    assert len(set(axis["ticktext"])) == len(axis["ticktext"])


@given(st.lists(st.text(), min_size=1))
def test_a_place_in_the_summary_is_found_again_whatever_names_are(steps: list[str]) -> None:
    document: Any = 17
    for step in reversed(steps):
        document = {step: document}
    escaped = Page(f'<p data-key="{pointer(tuple(steps))}">x</p>').shown[0][0]["data-key"]
    assert resolved(document, escaped) == 17


def _by_key(page: Page) -> dict[str, str]:
    return {attrs["data-key"]: text for attrs, text in page.shown if "data-of" not in attrs}


def _colours(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"var"}:
            yield value["var"]
        for below in value.values():
            yield from _colours(below)
    elif isinstance(value, list):
        for below in value:
            yield from _colours(below)
