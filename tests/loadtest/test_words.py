"""n words are n tokens of gpt-oss's own vocabulary, and no two texts begin alike."""

import random
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan.words import Words

SEED = st.integers(0, 2**63 - 1)
WORDS: Final = Words.load()
KNOWN: Final = (files("loadtest.plan") / "words.txt").read_text().split()


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    """Tokens of a text, by the real tokenizer. It is inside oss-harmony: nothing is downloaded."""
    harmony = pytest.importorskip(
        "openai_harmony", reason="the real tokenizer is in oss-harmony, which comes with vLLM"
    )
    encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    return lambda text: len(encoding.encode(text))


@pytest.mark.parametrize("seed", range(40))
def test_a_text_of_n_words_has_exactly_n_tokens(count: Callable[[str], int], seed: int) -> None:
    rng = random.Random(seed)
    number = rng.randint(1, 5000)
    text = WORDS.text(rng.getrandbits(63), number)
    assert (count(text), len(text.split(" "))) == (number, number)


def test_each_word_is_one_token_at_the_start_and_after_a_space(
    count: Callable[[str], int],
) -> None:
    assert len(set(KNOWN)) == 2000
    assert count(" " + " ".join(KNOWN)) == 2000
    # A line's end is a token of its own, and no part of a word after it.
    assert count("\n".join(KNOWN)) == 2000 + 1999


def test_a_word_that_is_no_token_would_be_found_out(count: Callable[[str], int]) -> None:
    text = Words(["the", "gobbledygook"]).text(5, 50)
    assert count(text) != 50


def test_prompts_of_a_hundred_thousand_tokens_are_made_in_no_time(
    count: Callable[[str], int],
) -> None:
    took = []
    for seed in range(5):
        began = time.perf_counter()
        text = WORDS.text(seed, 100_000)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.005
    assert count(text) == 100_000


@given(SEED, SEED)
def test_no_two_seeds_give_texts_that_begin_alike(one: int, other: int) -> None:
    alike = WORDS.text(one, 6) == WORDS.text(other, 6)
    assert alike == (one == other)


@given(SEED)
def test_a_text_begins_with_its_seed_in_words(seed: int) -> None:
    digits = [KNOWN.index(word) for word in WORDS.text(seed, 6).split(" ")]
    assert sum(digit * 2000**place for place, digit in enumerate(digits)) == seed


@given(SEED, st.integers(1, 3000), st.integers(0, 3000))
def test_a_short_text_begins_the_longer_one_of_its_seed(seed: int, few: int, more: int) -> None:
    text = WORDS.text(seed, few)
    assert len(text.split(" ")) == few
    assert (WORDS.text(seed, few + more) + " ").startswith(text + " ")
    assert WORDS.after(seed, few) == " " + text


def test_two_processes_make_the_same_text() -> None:
    assert Words.load().text(2**62 + 1, 700) == WORDS.text(2**62 + 1, 700)
    assert WORDS.text(2**62 + 1, 8).split()[0] != WORDS.text(2**62 + 2, 8).split()[0]
