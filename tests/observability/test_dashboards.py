"""Dashboards are what the pages make, whole, and such as Grafana's own types allow."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.observability import __main__ as command
from deploy.observability import external, pages, vllm
from deploy.observability.page import PAGES
from deploy.observability.pages.capacity import DEMAND
from deploy.observability.promql import (
    Not,
    gauge,
    gauges,
    highest,
    increase,
    of,
    quantile,
    rate,
    total,
)
from service.telemetry import contract
from tests.chart.render import CHART
from tests.observability.schema.check import check, committed, install

Board = dict[str, Any]
NUMBERS = {"stat", "bargauge", "timeseries", "heatmap"}
BUILT_IN = {"__all", "__rate_interval", "__range", "__range_s", "__url_time_range"}
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|([a-z_]\w*))")

BOARDS: dict[str, Board] = {name: json.loads(text) for name, text in committed().items()}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def _panels(board: Board) -> Iterator[Board]:
    """Without the headings of rows."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


# What is made.


def test_what_is_committed_is_what_is_made() -> None:
    assert command.old() == []


def test_a_file_that_was_changed_by_hand_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["observability", "--root", str(tmp_path)])
    assert command.main() == 0
    assert command.old(tmp_path) == []
    changed = tmp_path / "deploy/observability/dashboards/teams.json"
    changed.write_text(changed.read_text().replace("Fairness", "Unfairness"))
    stray = changed.with_name("former.json")
    stray.write_text("{}")
    monkeypatch.setattr("sys.argv", ["observability", "--check", "--root", str(tmp_path)])
    capsys.readouterr()
    assert command.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in said] == [
        "deploy/observability/dashboards/former.json",
        "deploy/observability/dashboards/teams.json",
    ]
    assert "Unfairness" in changed.read_text(), "--check writes nothing"


def test_the_chart_has_the_same_files() -> None:
    folder = CHART / "files" / "dashboards"
    assert {path.stem: path.read_text() for path in folder.iterdir()} == committed()


def test_a_config_map_takes_them() -> None:
    # Kubernetes takes 1 MiB, and 256 KiB of annotations, which `kubectl apply` makes of it all.
    for name, text in committed().items():
        assert len(text.encode()) < 200 * 1024, name


# What a page is.


@each_board
def test_a_panel_says_what_it_shows_and_what_to_do(board: Board) -> None:
    for panel in _panels(board):
        assert panel["title"], panel
        assert len(panel["description"]) > 60, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel.get("targets", []):
            assert target["datasource"] == panel["datasource"], panel["title"]


@each_board
def test_a_number_has_a_unit(board: Board) -> None:
    for panel in _panels(board):
        if panel["type"] in NUMBERS:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if panel["type"] == "table":
            with_unit = [
                one["matcher"]["options"]
                for one in panel["fieldConfig"]["overrides"]
                if any(each["id"] == "unit" for each in one["properties"])
            ]
            assert len(with_unit) == len(panel["targets"]), panel["title"]


@each_board
def test_titles_and_numbers_are_unique_within_a_page(board: Board) -> None:
    for key in ("title", "id"):
        counted = Counter(panel[key] for panel in board["panels"])
        assert max(counted.values()) == 1, counted.most_common(3)


@each_board
def test_no_panel_lies_over_another_or_beyond_the_grid(board: Board) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert columns[-1] < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@each_board
def test_variables_that_are_used_are_there_and_those_there_are_used(board: Board) -> None:
    names = [one["name"] for one in board["templating"]["list"]]
    assert names[:2] == ["datasource", "namespace"]
    text = json.dumps([board["panels"], board["templating"]])
    used = {first or second for first, second in VARIABLE.findall(text)}
    assert set(names) <= used
    # `${__field.labels.x}` and `${__value.raw}` have a dot, and so are none of these.
    assert used - BUILT_IN <= set(names)


@each_board
def test_what_can_be_chosen_is_asked_of_metrics_and_can_be_all(board: Board) -> None:
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            assert one["query"]["query"].startswith("label_values(")
            assert (one["allValue"], one["includeAll"], one["multi"]) == (".*", True, True)


@each_board
def test_load_tests_are_marked(board: Board) -> None:
    marks = [one for one in board["annotations"]["list"] if "target" in one]
    assert [one["target"]["tags"] for one in marks] == [["loadtest"]]


def _links(board: Board) -> Iterator[tuple[str, set[str]]]:
    """Every address that leads to a page, with the variables that it sets there."""
    for url in re.findall(r'"url": "([^"]*)"', json.dumps(board)):
        path, _, query = url.partition("?")
        names = {part.partition("=")[0].removeprefix("var-") for part in query.split("&") if part}
        yield path, {name for name in names if not name.startswith("$")}


@each_board
def test_links_lead_to_pages_and_set_variables_that_these_have(board: Board) -> None:
    others = {f"/d/{one['uid']}": one for one in BOARDS.values()}
    found = list(_links(board))
    assert {path for path, _ in found} >= others.keys() - {f"/d/{board['uid']}"}
    for path, names in found:
        assert path in others
        assert names <= {one["name"] for one in others[path]["templating"]["list"]}, path
    for link in board["links"]:
        assert link["keepTime"]
        assert link["includeVars"]


def test_pages_are_those_that_links_and_alerts_know() -> None:
    assert [board["uid"] for board in BOARDS.values()] == sorted(PAGES)
    assert {f"gptoss-{name}" for name in BOARDS} == PAGES.keys()


def test_what_shows_nothing_by_itself_is_a_panel_with_a_reason() -> None:
    there = {(name, one["title"]) for name, board in BOARDS.items() for one in _panels(board)}
    assert pages.needs().keys() <= there
    assert len(pages.needs()) < len(there) / 8, "a short list"
    unseen = {one.unseen for one in external.EXPORTERS}
    assert all(reason in unseen or "fault" in reason for reason in pages.needs().values())


def test_metrics_of_others_are_used_only_where_it_is_said() -> None:
    hidden = {one.name for each in external.EXPORTERS if each.unseen for one in each.metrics}
    for name, board in BOARDS.items():
        for panel in _panels(board):
            asked = " ".join(target["expr"] for target in panel.get("targets", []))
            if any(one in asked for one in hidden):
                assert (name, panel["title"]) in pages.needs()


def test_demand_is_what_autoscaling_follows() -> None:
    template = (CHART / "templates" / "engine" / "scaledobject.yaml").read_text()
    names = "|".join(one.short for one in DEMAND)
    assert f'sum({{__name__=~"gptoss_gateway_({names})"' in template
    asked = json.dumps(BOARDS["capacity"]).replace("\\\\", "")
    assert f"gptoss_gateway_({names})" in asked


@each_board
def test_percentiles_are_of_all_observations(board: Board) -> None:
    for panel in _panels(board):
        for target in panel.get("targets", []):
            for inner in re.findall(r"histogram_quantile\([^,]*, (.{10})", target["expr"]):
                assert inner == "sum by (le", target["expr"]


# What no page can ask.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: rate(contract.REQUESTS, polo="h100"),
        lambda: rate(contract.REQUESTS, outcome="fine"),
        lambda: rate(contract.REQUESTS, outcome=Not("okay")),
        lambda: rate(contract.REQUESTS, status=("200", "201")),
        lambda: rate(contract.IN_FLIGHT),
        lambda: gauge(contract.REQUESTS),
        lambda: quantile(0.5, contract.REQUESTS),
        lambda: quantile(0.5, contract.TTFT, "team"),
        lambda: total(rate(contract.CHUNKS), "team"),
        lambda: total(increase(vllm.FINISHED, finished_reason="timeout")),
        lambda: total(rate(vllm.FINISHED), "model"),
        lambda: total(rate(contract.CHUNKS), "model") / total(rate(contract.STREAMS), "end"),
        lambda: of(gauge(external.MEMORY), gauge(contract.INFO), "version"),
        lambda: gauges(contract.QUEUE_WAITING, contract.CHUNKS),
    ],
)
def test_a_query_that_nothing_can_answer_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_queries_read_as_they_should() -> None:
    where = 'namespace=~"$namespace", model=~"$model"'
    assert str(total(rate(contract.REQUESTS, model="$model", outcome=Not("ok")), "outcome")) == (
        "sum by (outcome) (rate(gptoss_gateway_requests_total"
        f'{{{where}, outcome!="ok"}}[$__rate_interval]))'
    )
    assert str(quantile(0.95, contract.TTFT, "model", model="$model")) == (
        "histogram_quantile(0.95, sum by (le, model) (rate("
        f"gptoss_gateway_time_to_first_token_seconds_bucket{{{where}}}[$__rate_interval])))"
    )
    used = highest(gauge(contract.QUOTA_USED), "team", "limit")
    assert str(used / highest(gauge(contract.QUOTA_LIMIT), "team")).endswith(
        " / on (team) group_left () max by (team) "
        '(gptoss_gateway_quota_limit{namespace=~"$namespace"})'
    )


# Grafana's own types.


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("npm"):
        pytest.skip("npm is not there: dashboards are not checked against @grafana/schema")
    folder = tmp_path_factory.mktemp("schema")
    install(folder)
    return folder


def test_grafana_knows_all_that_is_in_them(compiler: Path) -> None:
    assert check(compiler, committed()) == ""


def _broken(board: Board) -> dict[str, Board]:
    """The same with a mistake each, by where the compiler should find it."""

    def panel(kind: str, wrong: Callable[[Board], object]) -> Board:
        copy: Board = json.loads(json.dumps(board))
        wrong(next(one for one in copy["panels"] if one["type"] == kind))
        return copy

    return {
        "dashboard": {**board, "schemaVersion": "41"},
        "kind": panel("stat", lambda one: one.update(type="statistic")),
        "threshold": panel(
            "stat", lambda one: one["fieldConfig"]["defaults"]["thresholds"].update(mode="abs")
        ),
        "option": panel("stat", lambda one: one["options"].update(colourMode="value")),
        "line": panel(
            "timeseries", lambda one: one["fieldConfig"]["defaults"]["custom"].update(width=1)
        ),
        "query": panel("timeseries", lambda one: one["targets"][0].update(expression="up")),
        "grid": panel("timeseries", lambda one: one["gridPos"].pop("h")),
    }


def test_a_mistake_in_one_is_found(compiler: Path) -> None:
    broken = {name: json.dumps(one) for name, one in _broken(BOARDS["service"]).items()}
    said = check(compiler, broken)
    # A dashboard is a line there, the first being line 2.
    lines = {int(found) for found in re.findall(r"dashboards\.ts\((\d+),", said)}
    assert lines == set(range(2, 2 + len(broken))), said
