"""What a run will not be able to say is told before it, and what is ready-made can pass."""

import math
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.doubts import doubts, due, least
from loadtest.judgement import SURE
from loadtest.plan.plan import plan
from loadtest.scenario.arrivals import Closed
from loadtest.scenario.document import Scenario, Team
from loadtest.scenario.lengths import Fixed, Length, Uniform
from loadtest.scenario.load import load, parsed, ready
from loadtest.statistics.evidence import Weighed

POISSON: Final = {"kind": "poisson", "rate": 2}
SLO: Final = {"ttft": 3, "e2e": 60}


def scenario(arrivals: Any = POISSON, **changes: Any) -> Scenario:
    """Ten minutes of one team; what is of the team goes there."""
    of_team = {key: changes.pop(key) for key in Team.model_fields if key in changes}
    team = {"arrivals": arrivals} | of_team
    document = {"name": "x", "duration": "10m", "slo": SLO, "teams": {"a": team}} | changes
    return parsed(document, "x")


# --- those that are ready-made ----------------------------------------------------------------


def fewest(length: Length) -> int:
    """Turns that each conversation has."""
    match length:
        case Fixed():
            return length.tokens
        case Uniform():
            return length.low
    raise AssertionError(length)


def sure(ready_made: Scenario, name: str) -> float:
    """Requests of a team that are due while it counts, however long answers take that are in time:
    of conversations those that begin then, by their fewest turns."""
    team = ready_made.teams[name]
    begins = max(ready_made.warmup, team.start)
    if isinstance(team.arrivals, Closed):
        longest = ready_made.slo_of(name).e2e
        assert longest is not None, "nobody knows how many there are"
        each = (ready_made.duration - begins) // (longest + team.arrivals.think)
        return team.arrivals.clients * each
    all_ = [
        fewest(team.workloads[one.workload].turns)
        for one in plan(ready_made)[name].arrivals
        if one.at >= begins
    ]
    limits = team.expect.limits
    if team.expect.conforming or limits is None:
        return sum(all_)
    # What is refused says nothing of a team that goes beyond its limit.
    stop = ready_made.duration if team.stop is None else team.stop
    assert limits.requests_per_minute is not None
    return min(sum(all_), limits.requests_per_minute * (stop - begins) / 60)


EACH: Final = [(name, team) for name in ready() for team in load(name).teams]


@pytest.mark.parametrize(("name", "team"), EACH)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_that_is_ready_made_can_pass(name: str, team: str, seed: int) -> None:
    ready_made = load(name, {"seed": seed})
    share = ready_made.slo_of(team).percent / 100
    assert Weighed(sure(ready_made, team), 0).kept(share, SURE)


@pytest.mark.parametrize("name", ready())
def test_of_what_is_ready_made_nothing_is_doubted(name: str) -> None:
    assert doubts(load(name)) == []


# --- too few ----------------------------------------------------------------------------------


def test_99_percent_takes_381_requests() -> None:
    assert least(99) == 381
    assert least(100) is None


@given(st.floats(0.1, 99.95))
def test_the_least_number_is_enough_and_one_less_is_not(percent: float) -> None:
    number = least(percent)
    assert number is not None
    assert Weighed(number, 0).kept(percent / 100, SURE)
    assert number == 1 or not Weighed(number - 1, 0).kept(percent / 100, SURE)


def test_a_run_of_too_few_requests_is_doubted() -> None:
    few = scenario(POISSON | {"rate": 0.5}, warmup="1m")
    (said,) = doubts(few)
    assert said.startswith(
        "team a: about 270 requests will be due after the warm-up, and 381 without a miss are the"
        " fewest that show 99%: this run cannot pass."
    )
    assert doubts(scenario(POISSON | {"rate": 0.5}, slo=SLO | {"percent": 98})) == []


def test_a_promise_of_all_is_doubted() -> None:
    (said,) = doubts(scenario(slo=SLO | {"percent": 100}))
    assert said.startswith("team a: 100% can never be shown")


@pytest.mark.parametrize(
    ("arrivals", "changes", "number"),
    [
        (POISSON, {}, 1200),
        (POISSON, {"warmup": "1m"}, 1080),
        (POISSON, {"warmup": "1m", "start": "2m", "stop": "5m"}, 360),
        ({"kind": "constant", "rate": 2}, {}, 1200),
        ({"kind": "gamma", "rate": 2, "burstiness": 0.5}, {}, 1200),
        ({"kind": "ramp", "start": 0, "end": 4}, {}, 1200),
        ({"kind": "ramp", "start": 0, "end": 4}, {"warmup": "5m"}, 900),
        ({"kind": "steps", "rates": [1, 3]}, {"warmup": "4m"}, 960),
        (POISSON, {"workloads": [{"turns": 3}, {"turns": 1}]}, 2400),
        ({"kind": "closed", "clients": 2}, {}, None),
        (POISSON, {"workloads": [{"tools": 2}]}, None),
    ],
)
def test_how_many_are_due_is_known_where_answers_do_not_make_them(
    arrivals: object, changes: dict[str, Any], number: int | None
) -> None:
    one = scenario(arrivals, **changes)
    assert due(one, "a") == (None if number is None else pytest.approx(number))


@pytest.mark.parametrize(
    "arrivals",
    [
        POISSON,
        {"kind": "gamma", "rate": 2, "burstiness": 3},
        {"kind": "ramp", "start": 1, "end": 5},
        {"kind": "steps", "rates": [1, 4, 2]},
    ],
)
def test_as_many_are_due_as_are_planned(arrivals: object) -> None:
    one = scenario(arrivals, warmup="100s", duration="50m")
    counted = [each for each in plan(one)["a"].arrivals if each.at >= one.warmup]
    expected = due(one, "a")
    assert expected is not None
    assert abs(len(counted) - expected) < 5 * math.sqrt(expected)


def test_of_a_team_beyond_its_limit_those_that_are_let_in_count() -> None:
    expect = {"conforming": False, "limits": {"requests_per_minute": 6}}
    assert due(scenario(expect=expect), "a") == 66
    assert due(scenario(expect=expect | {"conforming": True}), "a") == 1200


# --- what objectives do not see ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("slo", "stream", "doubted"),
    [
        ({"tpot": 0.08}, False, "tpot say nothing of answers that are not streamed (workload w)"),
        ({"ttft": 1, "tpot": 1}, False, "ttft and tpot say nothing"),
        ({"tpot": 0.08, "e2e": 9}, False, ""),
        ({"tpot": 0.08}, True, ""),
        ({"percent": 99}, True, "no time is promised, only whole answers"),
    ],
)
def test_objectives_that_see_nothing_are_doubted(
    slo: dict[str, float], stream: bool, doubted: str
) -> None:
    found = doubts(scenario(slo=slo, workloads=[{"name": "w", "stream": stream}]))
    assert len(found) == bool(doubted)
    assert all(doubted in one for one in found)


@pytest.mark.parametrize(
    ("warmup", "start", "doubted"),
    [(60, 0, True), (100, 0, False), (100, 50, True), (60, 70, False)],
)
def test_a_warm_up_that_is_shorter_than_conversations_is_doubted(
    warmup: float, start: float, doubted: bool
) -> None:
    talk = [{"turns": 6, "think": "15s"}]
    found = doubts(scenario(warmup=warmup, start=start, workloads=talk))
    assert bool(found) == doubted
    assert all("pauses alone of a long conversation take 75 s" in one for one in found)
