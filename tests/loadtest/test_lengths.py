"""Lengths are distributed as the scenario says, and never beyond its bounds."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan import lengths
from loadtest.scenario.lengths import Empirical, Fixed, Length, LogNormal, Uniform

DRAWS = 20_000
# Five standard deviations of a share of so many draws, at most.
NEAR = 5 * 0.5 / math.sqrt(DRAWS)


def drawn(length: Length, count: int = DRAWS) -> list[int]:
    rng = random.Random(7)
    return [lengths.draw(length, rng) for _ in range(count)]


def test_a_fixed_length_is_that() -> None:
    assert set(drawn(Fixed(tokens=17), 100)) == {17}


def test_a_uniform_length_has_all_values_equally() -> None:
    counts = Counter(drawn(Uniform(kind="uniform", low=3, high=7)))
    assert sorted(counts) == [3, 4, 5, 6, 7]
    assert all(abs(count / DRAWS - 0.2) < NEAR for count in counts.values())


def test_a_lognormal_length_has_its_median_and_its_sigma() -> None:
    logs = np.log(drawn(LogNormal(kind="lognormal", median=5000, sigma=0.8)))
    assert float(np.median(logs)) == pytest.approx(math.log(5000), abs=0.03)
    assert float(logs.std()) == pytest.approx(0.8, abs=0.03)


def test_a_length_is_the_nearest_whole_number_of_tokens() -> None:
    narrow = LogNormal(kind="lognormal", median=5.4, sigma=0.001)
    assert set(drawn(narrow, 100)) == {5}


def test_what_is_beyond_a_bound_is_at_the_bound_and_the_median_stays() -> None:
    found = drawn(LogNormal(kind="lognormal", median=100, sigma=1, low=50, high=120))
    assert (min(found), max(found)) == (50, 120)
    assert abs(sum(one < 100 for one in found) / DRAWS - 0.5) < NEAR + 0.01


def test_an_empirical_length_has_its_values_by_weight() -> None:
    counts = Counter(drawn(Empirical(kind="empirical", tokens=[10, 20, 30], weights=[1, 2, 7])))
    for tokens, share in [(10, 0.1), (20, 0.2), (30, 0.7)]:
        assert abs(counts[tokens] / DRAWS - share) < NEAR
    even = Counter(drawn(Empirical(kind="empirical", tokens=[10, 20])))
    assert abs(even[10] / DRAWS - 0.5) < NEAR


class Given(random.Random):
    """Gives one number always."""

    def __init__(self, number: float) -> None:
        self.number = number
        super().__init__()

    def random(self) -> float:
        return self.number


LENGTHS = st.one_of(
    st.builds(Fixed, tokens=st.integers(1, 10**6)),
    st.tuples(st.integers(1, 10**6), st.integers(0, 10**6)).map(
        lambda pair: Uniform(kind="uniform", low=pair[0], high=sum(pair))
    ),
    st.builds(
        LogNormal,
        kind=st.just("lognormal"),
        median=st.floats(0.01, 1e9),
        sigma=st.floats(0.001, 1000),
        low=st.integers(1, 50),
        high=st.integers(50, 10**6),
    ),
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 1e6)), min_size=1, max_size=9).map(
        lambda pairs: Empirical(
            kind="empirical",
            tokens=[one for one, _ in pairs],
            weights=[weight for _, weight in pairs],
        )
    ),
)


@given(LENGTHS, st.one_of(st.floats(0, 1, exclude_max=True), st.just(0.0), st.just(1 - 2**-53)))
def test_no_number_that_can_be_drawn_leads_beyond_the_bounds(length: Length, share: float) -> None:
    tokens = lengths.draw(length, Given(share))
    match length:
        case Fixed():
            assert tokens == length.tokens
        case Uniform() | LogNormal():
            assert length.low <= tokens <= length.high
        case Empirical():
            assert tokens in length.tokens


@given(LENGTHS, st.integers())
def test_each_length_takes_one_random_number(length: Length, seed: int) -> None:
    rng, other = random.Random(seed), random.Random(seed)
    lengths.draw(length, rng)
    other.random()
    assert rng.random() == other.random()
