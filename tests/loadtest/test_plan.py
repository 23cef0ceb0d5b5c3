"""What is sent when: one process of arrivals per team, whoever sends it."""

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan import plan as planning
from loadtest.plan.arrival import Arrival
from loadtest.plan.plan import TeamPlan
from loadtest.plan.prompts import Prompts
from loadtest.plan.words import Words
from loadtest.scenario.document import Scenario
from loadtest.scenario.load import load, ready

POISSON: Final = {"arrivals": {"kind": "poisson", "rate": 5}}
CLOSED: Final = {"arrivals": {"kind": "closed", "clients": 7}}


def scenario(seed: int = 1, duration: float = 3600, **teams: Any) -> Scenario:
    document = {"name": "a", "seed": seed, "duration": duration, "teams": teams}
    return Scenario.model_validate(document)


def times(team: TeamPlan) -> list[float]:
    return [one.at for one in team.arrivals]


def counts(team: TeamPlan, windows: int, duration: float = 3600) -> Any:
    return np.histogram(times(team), windows, (0, duration))[0]


def parts(plans: dict[str, TeamPlan], workers: int) -> list[dict[str, TeamPlan]]:
    return [planning.slice(plans, worker, workers) for worker in range(workers)]


# --- teams ------------------------------------------------------------------------------------


def test_teams_are_independent_of_each_other() -> None:
    plans = planning.plan(scenario(one=POISSON, other=POISSON))
    one, other = counts(plans["one"], 3600), counts(plans["other"], 3600)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(3600)


def test_a_change_to_one_team_leaves_the_others_as_they_are() -> None:
    before = planning.plan(scenario(one=POISSON, other=POISSON, third=CLOSED))
    changed = POISSON | {"arrivals": {"kind": "constant", "rate": 50}, "start": "1m"}
    after = planning.plan(scenario(zero=CLOSED, one=changed, other=POISSON, third=CLOSED))
    assert after["other"] == before["other"]
    assert after["third"] == before["third"]
    assert after["one"] != before["one"]


def test_a_change_of_rate_leaves_what_is_asked_as_it_is() -> None:
    slow = planning.plan(scenario(one=POISSON))["one"].arrivals
    fast = planning.plan(scenario(one={"arrivals": {"kind": "poisson", "rate": 9}}))["one"].arrivals
    assert [one.seed for one in slow] == [one.seed for one in fast[: len(slow)]]


def test_the_seed_decides_everything() -> None:
    assert planning.plan(scenario(1, a=POISSON)) == planning.plan(scenario(1, a=POISSON))
    one, other = planning.plan(scenario(1, a=POISSON)), planning.plan(scenario(2, a=POISSON))
    assert not set(times(one["a"])) & set(times(other["a"]))
    assert not {x.seed for x in one["a"].arrivals} & {x.seed for x in other["a"].arrivals}


def test_another_process_makes_the_same_plan(tmp_path: Path) -> None:
    """Python's own hash of text differs from one process to the next."""
    program = (
        "import sys; from loadtest.plan.plan import plan; from loadtest.scenario.load import load;"
        "import msgspec; sys.stdout.buffer.write(msgspec.json.encode(plan(load('agentic'))))"
    )
    made = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, timeout=60
    )
    assert made.stdout == msgspec.json.encode(planning.plan(load("agentic")))


def test_a_team_sends_in_its_own_time_only() -> None:
    late = POISSON | {"start": "10m", "stop": "20m"}
    found = times(planning.plan(scenario(one=late))["one"])
    assert 600 <= found[0] < found[-1] < 1200
    assert abs(len(found) - 3000) < 5 * math.sqrt(3000)
    never = POISSON | {"start": "2h"}
    assert planning.plan(scenario(one=never, other=CLOSED | {"start": "2h"})) == {
        "one": TeamPlan([]),
        "other": TeamPlan([], closed=True),
    }


def test_workloads_are_chosen_by_weight() -> None:
    mixed = POISSON | {"workloads": [{"name": "a"}, {"name": "b", "weight": 3}]}
    found = Counter(one.workload for one in planning.plan(scenario(one=mixed))["one"].arrivals)
    total = found[0] + found[1]
    assert abs(found[1] / total - 0.75) < 5 * math.sqrt(0.75 * 0.25 / total)


@pytest.mark.parametrize("name", ready())
def test_all_that_is_ready_made_can_be_planned_and_asked(name: str) -> None:
    ready_made = load(name, {"duration": "9m", "warmup": 0})
    plans = planning.plan(ready_made)
    assert any(its.arrivals for its in plans.values())
    prompts = Prompts(Words.load(), 67)
    for team, its in plans.items():
        for arrival in its.arrivals[:3]:
            workload = ready_made.teams[team].workloads[arrival.workload]
            seed = planning.team_seed(ready_made, team)
            assert prompts.conversation(workload, arrival, "m", seed).turn(None)


# --- traces -----------------------------------------------------------------------------------


def test_a_trace_begins_with_its_team_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    lines = [(1000 * at, 600 + at, 9, [at, 3]) for at in range(50)]
    file.write_bytes(
        b"\n".join(
            msgspec.json.encode(
                dict(
                    zip(["timestamp", "input_length", "output_length", "hash_ids"], x, strict=True)
                )
            )
            for x in lines
        )
    )
    arrivals = {"kind": "trace", "file": str(file), "format": "mooncake", "speed": 2}
    found = planning.plan(scenario(one={"arrivals": arrivals, "start": 10, "stop": 15}))["one"]
    assert times(found) == [10 + at / 2 for at in range(10)]
    assert [one.index for one in found.arrivals] == list(range(10))
    last = found.arrivals[-1]
    assert (last.prompt, last.output, last.prefix, last.block) == (609, 9, (9, 3), 512)


# --- slices -----------------------------------------------------------------------------------

TEAMS = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.one_of(
        st.builds(
            lambda rate: {"arrivals": {"kind": "poisson", "rate": rate}}, st.floats(0.01, 20)
        ),
        st.builds(
            lambda rate: {"arrivals": {"kind": "constant", "rate": rate}}, st.floats(0.01, 20)
        ),
        st.builds(
            lambda clients, start: {
                "arrivals": {"kind": "closed", "clients": clients},
                "start": start,
            },
            st.integers(1, 30),
            st.floats(0, 20),
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(TEAMS, st.integers(1, 12), st.integers())
def test_each_arrival_is_in_the_part_of_one_worker_and_parts_are_even_at_any_time(
    teams: dict[str, Any], workers: int, seed: int
) -> None:
    plans = planning.plan(scenario(seed, 10, **teams))
    cut = parts(plans, workers)
    for name, whole in plans.items():
        assert [x.index for x in whole.arrivals] == list(range(len(whole.arrivals)))
        assert times(whole) == sorted(times(whole))
        merged = sorted((one for part in cut for one in part[name].arrivals), key=_index)
        assert merged == whole.arrivals
        for part in cut:
            assert part[name].closed == whole.closed
            assert times(part[name]) == sorted(times(part[name]))
        if whole.closed:
            _even([times(part[name]) for part in cut], at_any_time=False)
    for closed in (False, True):
        mine = [
            sorted(at for one in part.values() if one.closed == closed for at in times(one))
            for part in cut
        ]
        _even(mine, at_any_time=not closed)


def _index(arrival: Arrival) -> int:
    return arrival.index


def _even(mine: list[list[float]], *, at_any_time: bool) -> None:
    sizes = [len(one) for one in mine]
    assert max(sizes) - min(sizes) <= 1
    if at_any_time:
        # Until any instant, none has sent two more than another.
        for at in sorted({at for one in mine for at in one})[::7]:
            sent = [int(np.searchsorted(one, at)) for one in mine]
            assert max(sent) - min(sent) <= 1


@pytest.mark.parametrize("workers", [1, 2, 10])
def test_what_the_server_sees_is_poisson_however_many_processes_send_it(workers: int) -> None:
    plans = planning.plan(scenario(one=POISSON, other=POISSON))
    sent = [at for part in parts(plans, workers) for team in part.values() for at in times(team)]
    found, _ = np.histogram(sent, 360, (0, 3600))
    assert abs(found.var(ddof=1) / found.mean() - 1) < 5 * math.sqrt(2 / 359)
    assert sorted(sent) == sorted(times(plans["one"]) + times(plans["other"]))


# --- closed loops -----------------------------------------------------------------------------


def test_clients_begin_spread_over_a_second_or_their_first_pause() -> None:
    many = {"arrivals": {"kind": "closed", "clients": 1000, "think": "20s"}, "start": 5}
    for changes, spread in [({}, 20.0), ({"think": 0}, 1.0)]:
        team = many | {"arrivals": many["arrivals"] | changes}  # type: ignore[operator]
        found = planning.plan(scenario(one=team))["one"]
        assert found.closed
        assert len(found.arrivals) == 1000
        assert 5 <= times(found)[0] < times(found)[-1] < 5 + spread
        middle = np.median(times(found))
        assert abs(middle - 5 - spread / 2) < 0.1 * spread


def test_each_request_of_a_client_is_one_of_its_own_and_of_nobody_else() -> None:
    whole = scenario(one=CLOSED | {"workloads": [{"name": "a"}, {"name": "b"}]})
    team, seed = whole.teams["one"], planning.team_seed(whole, "one")
    clients = planning.plan(whole)["one"].arrivals
    made = [
        planning.next_arrival(team, client, number, len(clients), 3.5, seed)
        for client in clients
        for number in range(40)
    ]
    assert sorted(one.index for one in made) == list(range(280))
    assert len({one.seed for one in made}) == 280
    assert {one.workload for one in made} == {0, 1}
    assert {one.at for one in made} == {3.5}


def test_a_clients_first_request_is_the_one_of_the_plan() -> None:
    whole = scenario(one=CLOSED)
    team, seed = whole.teams["one"], planning.team_seed(whole, "one")
    for client in planning.plan(whole)["one"].arrivals:
        assert planning.next_arrival(team, client, 0, 7, client.at, seed) == client


def test_the_same_requests_are_in_two_runs_of_a_closed_loop() -> None:
    """Of an open loop with as many requests too: what is asked goes by its number alone."""
    whole = scenario(one=CLOSED)
    seed = planning.team_seed(whole, "one")
    client = planning.plan(whole)["one"].arrivals[3]
    one = planning.next_arrival(whole.teams["one"], client, 5, 7, 10.0, seed)
    other = planning.next_arrival(whole.teams["one"], client, 5, 7, 99.0, seed)
    assert msgspec.structs.replace(one, at=99.0) == other
    opened = planning.plan(scenario(one=POISSON))["one"].arrivals[one.index]
    assert (opened.seed, opened.workload) == (one.seed, one.workload)
