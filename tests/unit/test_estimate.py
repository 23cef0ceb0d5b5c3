"""Estimates are learned from what engines report, by kind of prompt and by size."""

from hypothesis import given
from hypothesis import strategies as st

from service.quota.estimate import Estimator


def test_before_anything_is_learned_it_is_a_careful_guess() -> None:
    assert Estimator().prompt("a", 3000) == 1064
    assert Estimator().prompt("a", 0) >= 1


@given(st.integers(100, 1_000_000), st.floats(0.05, 2))
def test_it_comes_to_what_engines_report(size: int, per_byte: float) -> None:
    estimator, tokens = Estimator(), max(round(size * per_byte), 1)
    for _ in range(100):
        estimator.learn_prompt("a", size, tokens)
    assert abs(estimator.prompt("a", size) - tokens) <= 1


def test_one_kind_teaches_another_nothing_and_long_prompts_short_ones_nothing() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn_prompt("a", 4000, 4000)
    assert estimator.prompt("b", 4000) == Estimator().prompt("b", 4000)
    assert estimator.prompt("a", 40) == Estimator().prompt("a", 40)


def test_an_answer_is_as_long_as_answers_were_in_that_time() -> None:
    estimator = Estimator()
    for _ in range(100):
        estimator.learn_answer("m", seconds=2, tokens=200)
    assert estimator.answer("m", 3) == 300
    estimator.learn_answer("m", seconds=0, tokens=5)  # a clock too coarse to tell
    assert estimator.answer("m", 3) == 300
