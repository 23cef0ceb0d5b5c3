"""A fleet on a Ray cluster of several nodes, with real Ray and real engines, under streams.

The nodes are processes of one machine, each with an address and a home of its own. The tests go on
from one another: each begins with the fleet that the one before it left.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.grace import ENGINE_EXIT_SECONDS
from tests.e2e import ray_fleet
from tests.e2e.ray_fleet import DRAIN, ENGINE_CPUS, RayFleet, is_left
from tests.e2e.traffic import Load
from tests.integration.fleet import until

# Ray gives all that it starts a niceness of 15: beside engines of other tests these would starve.
pytestmark = pytest.mark.alone

TOKENS = 40


@pytest.fixture(scope="module")
def fleet(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayFleet]:
    home = tmp_path_factory.mktemp("fleet")
    with ray_fleet.start(home, weights, {"a": ENGINE_CPUS, "b": ENGINE_CPUS}) as started:
        yield started


def streams(fleet: RayFleet) -> Load:
    # Nearly always there is one, and something left of the processors for engines that start.
    return fleet.load(clients=2, tokens=TOKENS, pause=0.5, whole=False)


def test_one_command_starts_a_fleet_that_a_gateway_finds(fleet: RayFleet) -> None:
    said = fleet.up(replicas=1)
    assert "1 of 1 ready" in said
    assert "sd+http://" in said, "what gateways are to be told"
    engines = fleet.ready()
    (engine,) = engines.values()
    assert (engine["pool"], engine["cards"], engine["why"]) == (ray_fleet.POOL, 0, "")
    assert fleet.listed() == {engine["url"]}
    fleet.until_followed(engines)
    with streams(fleet) as load:
        load.more(6)
    assert not load.failed
    assert "api_server" in fleet.done("logs", engine["name"])


def test_another_engine_comes_with_the_demand_and_no_stream_is_cut(fleet: RayFleet) -> None:
    before = fleet.ready()
    scaling = {"enabled": True, "minReplicas": 1, "maxReplicas": 2, "requestsPerReplica": 1}
    fleet.up(autoscaling=scaling)
    assert fleet.ready().keys() == before.keys(), "an engine is told nothing of it"
    # Two and more at a time, where one is enough for one engine.
    with fleet.load(clients=3, tokens=TOKENS, pause=0.2, whole=False) as load:
        two = fleet.until_ready(2)
        assert before.keys() < two.keys(), "what ran goes on"
        assert {one["node"] for one in two.values()} == {"a", "b"}, "spread over nodes"
        fleet.until_followed(two)
        load.more(6)
    assert not load.failed
    fleet.up(autoscaling={"enabled": False}, replicas=2)
    assert fleet.ready().keys() == two.keys()


def test_engines_are_replaced_one_after_the_other_under_streams_none_is_cut(
    fleet: RayFleet,
) -> None:
    before = fleet.until_ready(2)
    with streams(fleet) as load:
        load.more(3)
        fleet.up("--no-wait", env={"VLLM_LOG_STATS_INTERVAL": "20"})
        after = fleet.until_ready(2, beside=before)
        fleet.until_followed(after)
        load.more(6)
    assert not load.failed


def test_an_engine_that_is_killed_is_replaced(fleet: RayFleet) -> None:
    before = fleet.until_ready(2)
    victim = next(iter(before.values()))
    with streams(fleet) as load:
        load.more(3)
        ray_fleet.kill(victim["process"])
        until(lambda: victim["url"] not in fleet.listed(), 60, "it is listed still")
        after = fleet.until_ready(2, beside={victim["name"]: victim})
        fleet.until_followed(after)
        load.more(6)
    assert not is_left(victim["process"])
    assert all(one.code for one in load.failed), "none is cut without a word"
    failures = [pool["last_failure"] for pool in fleet.status()["pools"]]
    assert victim["name"] in failures[0]


def test_the_engine_of_a_node_that_dies_is_started_on_another(fleet: RayFleet) -> None:
    before = fleet.until_ready(2)
    fleet.cluster.add("c", cpus=ENGINE_CPUS)
    with streams(fleet) as load:
        load.more(3)
        fleet.cluster.kill("a")
        victim = next(one for one in before.values() if one["node"] == "a")
        after = fleet.until_ready(2, beside={victim["name"]: victim})
        assert {one["node"] for one in after.values()} == {"b", "c"}
        fleet.until_followed(after)
        load.more(6)
    assert all(one.code for one in load.failed), "none is cut without a word"
    # This machine goes on, unlike one whose power fails: there, too, an engine ends in order.
    until(lambda: not is_left(victim["process"]), DRAIN + ENGINE_EXIT_SECONDS)


def test_while_the_head_is_away_streams_go_on_and_then_the_fleet_does(fleet: RayFleet) -> None:
    """It is scaled down then, under streams as well."""
    before = fleet.until_ready(2)
    fleet.until_followed(before)
    with streams(fleet) as load:
        fleet.cluster.kill_head()
        gone = fleet.command("status")
        assert gone.returncode == 1
        assert gone.stderr.startswith("gptoss: no Ray head answers at")
        load.more(30, seconds=300)
        fleet.cluster.start_head()
        until(fleet.is_known, 120, "the keeper is not back")
        assert fleet.until_ready(2).keys() == before.keys(), "what ran goes on"
        assert fleet.listed() == {one["url"] for one in before.values()}
        load.more(3)
        fleet.done("scale", ray_fleet.POOL, "1")
        left = fleet.until_ready(1)
        fleet.until_followed(left)
        load.more(3)
    assert not load.failed


def test_a_document_whose_engines_do_not_start_leaves_the_others_running(fleet: RayFleet) -> None:
    before = fleet.until_ready(1)
    with streams(fleet) as load:
        load.more(3)
        fleet.cluster.add("d", cpus=ENGINE_CPUS)
        document = fleet.document(
            rollout={"surge": 1, "unavailable": 0}, env={"VLLM_NO_SUCH_THING": "1"}
        )
        refused = fleet.command("up", str(document))
        load.more(3)
    assert refused.returncode == 1
    assert "what ran before goes on" in refused.stderr
    assert before.keys() <= fleet.ready().keys()
    assert not load.failed


def test_ended_it_leaves_nothing_behind(fleet: RayFleet) -> None:
    processes = [one["process"] for one in fleet.ready().values()]
    assert "is ended" in fleet.done("down")
    assert not [one for one in processes if is_left(one)]
    nothing = fleet.command("status")
    assert nothing.returncode == 1
    assert "no fleet is called 'gptoss'" in nothing.stderr
