"""Text with a known number of tokens, made without a tokenizer.

Each word of `words.txt` is one token of o200k, the vocabulary of gpt-oss, at the start of a text
and after a space. So n words are n tokens: a test proves it with the real tokenizer. With another
model's vocabulary it is near that.
"""

import random
from array import array
from collections.abc import Sequence
from importlib.resources import files
from itertools import accumulate
from math import ceil, log2
from typing import Final

_TAPE: Final = 1 << 17
_PIECE: Final = 512
_BITS: Final = 63
# Knuth's MMIX generator: a text needs a few places on the tape, and a better one costs more.
_FACTOR: Final = 6364136223846793005
_STEP: Final = 1442695040888963407
_MASK: Final = (1 << 64) - 1


class Words:
    """Makes texts. A text begins with its seed, written in words as if they were digits, so that no
    two seeds share a beginning that an engine could have cached. What follows is cut out of one
    long text in pieces: 100,000 words take a fraction of a millisecond."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words` are at least two, all different, each one token in both places."""
        self._words = [f" {word}" for word in words]
        self._digits = ceil(_BITS / log2(len(words)))
        rng = random.Random(0)  # noqa: S311  # filler
        tape = [self._words[int(rng.random() * len(words))] for _ in range(_TAPE)]
        self._tape = "".join(tape)
        self._ends = array("I", accumulate(map(len, tape), initial=0))

    @classmethod
    def load(cls) -> "Words":
        """Of the list that comes with the load test. Takes about 0.1 s: once per process."""
        text = (files("loadtest.plan") / "words.txt").read_text()
        return cls(text.split())

    def text(self, seed: int, count: int) -> str:
        """So many words, without a space before the first. A shorter text of a seed is the
        beginning of a longer one."""
        return self.after(seed, count)[1:]

    def after(self, seed: int, count: int) -> str:
        """The same with a space before the first, to be put after another text."""
        pieces = self._seed(seed, min(count, self._digits))
        left, state = count - len(pieces), seed
        while left > 0:
            state = (state * _FACTOR + _STEP) & _MASK
            start = (state >> 33) % (_TAPE - _PIECE)
            stop = start + min(left, _PIECE)
            pieces.append(self._tape[self._ends[start] : self._ends[stop]])
            left -= _PIECE
        return "".join(pieces)

    def _seed(self, seed: int, digits: int) -> list[str]:
        said = []
        for _ in range(digits):
            seed, digit = divmod(seed, len(self._words))
            said.append(self._words[digit])
        return said
