"""A run gets as many processes as its load needs, and no more than the machine has cores for."""

import random
from typing import Any

import pytest

from loadtest.client.crew import mean, size
from loadtest.plan import lengths, plan
from loadtest.scenario.document import Scenario
from loadtest.scenario.lengths import Empirical, Fixed, Length, LogNormal, Uniform


def workers(arrivals: dict[str, Any], output: int, cores: int = 64, **workload: Any) -> int:
    team = {"arrivals": arrivals, "workloads": [{"output": output, **workload}]}
    scenario = Scenario.model_validate({"name": "t", "duration": 20, "teams": {"a": team}})
    return size(scenario, plan.plan(scenario), cores)


def constant(rate: float) -> dict[str, Any]:
    return {"kind": "constant", "rate": rate}


@pytest.mark.parametrize(
    ("arrivals", "output", "expected"),
    [
        (constant(1), 100, 1),
        (constant(90), 100, 1),
        (constant(110), 100, 2),
        (constant(97), 1000, 10),
        (constant(590), 1, 2),
        ({"kind": "closed", "clients": 150}, 100, 1),
        ({"kind": "closed", "clients": 300}, 100, 2),
        # By its busiest five seconds, and not by the mean of 200.
        ({"kind": "steps", "rates": [10, 10, 10, 770]}, 1, 3),
    ],
)
def test_workers_follow_from_the_planned_load(
    arrivals: dict[str, Any], output: int, expected: int
) -> None:
    assert workers(arrivals, output) == expected


def test_one_core_is_left_for_others_and_one_worker_there_is_always() -> None:
    assert workers(constant(100), 1000, cores=4) == 3
    assert workers(constant(100), 1000, cores=1) == 1


def test_whole_answers_are_no_chunks() -> None:
    assert workers(constant(100), 1000, stream=False) == 1


@pytest.mark.parametrize(
    "length",
    [
        Fixed(tokens=7),
        Uniform(kind="uniform", low=10, high=30),
        Empirical(kind="empirical", tokens=[10, 100], weights=[3, 1]),
        Empirical(kind="empirical", tokens=[10, 100]),
        LogNormal(kind="lognormal", median=200, sigma=0.5),
    ],
)
def test_the_mean_of_a_length_is_that_of_what_is_drawn(length: Length) -> None:
    rng = random.Random(1)
    drawn = [lengths.draw(length, rng) for _ in range(20_000)]
    assert mean(length) == pytest.approx(sum(drawn) / len(drawn), rel=0.03)
