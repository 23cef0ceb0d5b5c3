"""An engine is replaced when it would be told something else, and only then."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.cli.main import app
from service.fleet.document import Fleet, parse, written
from service.fleet.order import Order
from service.grace import ENGINE_EXIT_SECONDS
from service.settings import Settings

TOLD: Final[Mapping[str, Any]] = {
    "name": "other",
    "drainSeconds": 60,
    "noticeSeconds": 5,
    "offline": True,
    "engine.pools.main.profile": "cpu-amx",
    "engine.pools.main.startupSeconds": 900,
    "engine.pools.main.stallSeconds": 90,
    "engine.pools.main.env": {"VLLM_LOGGING_LEVEL": "DEBUG"},
    "weights.revision": "main",
    "weights.folders": {"gpt-oss-tiny": "/models/tiny"},
    "ports.last": 8150,
}
NOT_TOLD: Final[Mapping[str, Any]] = {
    "engine.pools.main.replicas": 7,
    "engine.pools.main.rollout": {"surge": 1, "unavailable": 0},
    "engine.pools.main.autoscaling": {"enabled": True},
    "engine.pools.other": {"profile": "l4"},
    "weights.folders": {"gpt-oss-20b": "/models/20b"},
    "gateways": ["http://10.0.0.5:8001"],
    "board.port": 9000,
}


def fleet(*changes: tuple[str, Any]) -> Fleet:
    """One pool, with these changes."""
    data: dict[str, Any] = {
        "engine": {"pools": {"main": {"profile": "cpu-dev"}}},
        "gateways": ["http://10.0.0.4:8001"],
    }
    for path, value in changes:
        *groups, last = path.split(".")
        at = data
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    return parse(yaml.safe_dump(data))


def order(found: Fleet, pool: str = "main") -> Order:
    return Order.of(found, pool, found.pools[pool])


def options(command: str) -> set[str]:
    """Of `gptoss COMMAND`."""
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    return {name for parameter in found.params for name in parameter.opts}


# Generations


@pytest.mark.parametrize("path", TOLD)
def test_whatever_an_engine_is_told_makes_another_generation(path: str) -> None:
    assert order(fleet((path, TOLD[path]))).generation != order(fleet()).generation


@pytest.mark.parametrize("path", NOT_TOLD)
def test_what_engines_are_not_told_leaves_them_running(path: str) -> None:
    assert order(fleet((path, NOT_TOLD[path]))).generation == order(fleet()).generation


changes = st.lists(st.sampled_from(sorted(TOLD.items(), key=str)), max_size=4)


@given(changes, changes)
def test_a_generation_is_the_same_where_the_same_is_told(
    one: list[tuple[str, Any]], other: list[tuple[str, Any]]
) -> None:
    mine, yours = order(fleet(*one)), order(fleet(*other))
    assert (mine == yours) == (mine.generation == yours.generation)


@given(changes)
def test_a_document_that_was_kept_replaces_no_engine(told: list[tuple[str, Any]]) -> None:
    """A keeper that is started again reads what it wrote."""
    kept = parse(written(fleet(*told)))
    again = parse(written(kept))
    assert order(again).generation == order(kept).generation


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("drainSeconds", 120),
        ("drainSeconds", 120.0),
        ("noticeSeconds", 15),
        ("engine.pools.main.startupSeconds", 1800),
        ("engine.pools.main.stallSeconds", 180),
        ("engine.pools.main.model", "gpt-oss-tiny"),
        ("ports.first", 8100),
        ("engine.pools.main.env", {}),
    ],
)
def test_a_default_that_is_written_out_replaces_no_engine(path: str, value: object) -> None:
    spelled = fleet((path, value))
    assert order(spelled) == order(fleet())
    assert order(spelled).generation == order(fleet()).generation


def test_variables_in_another_order_are_the_same() -> None:
    forth = order(fleet(("engine.pools.main.env", {"A": "1", "B": "2"})))
    back = order(fleet(("engine.pools.main.env", {"B": "2", "A": "1"})))
    assert forth.generation == back.generation


def test_pools_that_are_alike_are_two_all_the_same() -> None:
    found = fleet(("engine.pools.twin", {"profile": "cpu-dev"}))
    assert order(found).generation != order(found, "twin").generation


# What is told


def test_an_engine_is_told_what_the_document_says() -> None:
    pool = {"profile": "h200", "model": "openai/gpt-oss-20b", "env": {"A": "1"}, "stallSeconds": 90}
    found = order(
        fleet(
            ("name", "prod"),
            ("drainSeconds", 300),
            ("engine.pools.main", pool),
            ("weights.folders", {"gpt-oss-20b": "/m"}),
            ("ports", {"first": 9000, "last": 9009}),
        )
    )
    assert (found.fleet, found.pool) == ("prod", "main")
    assert (found.model, found.profile, found.weights) == ("gpt-oss-20b", "h200", "/m")
    assert (found.first_port, found.last_port) == (9000, 9009)
    assert (found.startup, found.stall, found.env) == (1800, 90, {"A": "1"})
    assert found.grace.engine_termination == 15 + 300 + ENGINE_EXIT_SECONDS


def test_weights_in_a_folder_are_not_fetched() -> None:
    folders = ("weights.folders", {"gpt-oss-tiny": "/models/tiny"})
    there = order(fleet(folders, ("weights.revision", "v1")))
    fetched = order(fleet(("weights.revision", "v1")))
    newest = order(fleet())
    common = ["--model", "gpt-oss-tiny", "--profile", "cpu-dev", "--host", "10.0.0.7"]
    common += ["--port", "8100"]
    assert there.arguments("10.0.0.7", 8100) == [*common, "--weights", "/models/tiny"]
    assert fetched.arguments("10.0.0.7", 8100) == [*common, "--revision", "v1"]
    assert newest.arguments("10.0.0.7", 8100) == common


def test_the_command_has_these_options() -> None:
    there = order(fleet(("weights.folders", {"gpt-oss-tiny": "/m"})))
    fetched = order(fleet(("weights.revision", "v1")))
    for told in (there, fetched):
        words = told.arguments("127.0.0.1", 8100)
        assert {word for word in words if word.startswith("--")} <= options("engine")


@given(st.floats(1, 3600))
def test_an_engine_drains_as_long_as_the_fleet_says(seconds: float) -> None:
    variables = order(fleet(("drainSeconds", seconds))).variables()
    assert float(variables["GPTOSS_DRAIN"]) == pytest.approx(seconds, rel=1e-4)
    assert Settings(drain=variables["GPTOSS_DRAIN"]).drain == pytest.approx(seconds, rel=1e-4)


def test_streams_get_the_time_that_the_document_says() -> None:
    found = order(fleet(("engine.pools.main.env", {"A": "2"})))
    assert found.variables() == {"A": "2", "GPTOSS_DRAIN": "120"}


def test_engines_for_other_nodes_are_other_engines() -> None:
    """As in the chart: those that run where they may not any more are replaced."""
    moved = order(fleet(("engine.pools.main.nodeSelector", {"zone": "b"})))
    assert moved.generation != order(fleet()).generation


def test_nothing_asks_a_hub_where_there_is_none() -> None:
    assert order(fleet(("offline", True))).variables()["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in order(fleet()).variables()


def test_an_order_holds_no_more_than_json_can_say() -> None:
    """What is compared is what is told: nothing of it is left out."""
    found = order(fleet(*TOLD.items()))
    said = json.loads(json.dumps({name: getattr(found, name) for name in Order.__slots__}))
    assert Order(**said) == found
