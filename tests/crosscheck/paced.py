"""Answers at a pace, and what is true of them: by the clock of the server that gave them."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.loadtest.live.golden import (
    DONE,
    ROLE,
    Script,
    Seen,
    Send,
    Step,
    Wait,
    chunk,
    event,
    finish,
    usage_event,
    used,
    whole,
)
from tests.loadtest.live.test_probe import models


@dataclass(frozen=True)
class Given:
    """An answer to a client's request, and how much of it was a token."""

    seen: Seen
    first_tokens: int
    """In its first piece; each other piece has one."""
    tokens: int
    cut: bool
    """It ended without its end, as where a server dies: no finish reason, no `[DONE]`."""

    @property
    def times(self) -> list[float]:
        """When each piece with tokens was sent. The role's was before them."""
        pieces = 1 + self.tokens - self.first_tokens
        return [at for at, _ in self.seen.sent[1 : 1 + pieces]]

    @property
    def ended(self) -> float:
        return self.seen.sent[-1][0]

    @property
    def ttft(self) -> float:
        """s. Infinite where no whole answer came, and so is the next."""
        return math.inf if self.cut else self.times[0] - self.seen.at

    @property
    def tpot(self) -> float:
        """Of the tokens after the first piece, s each."""
        return (
            math.inf
            if self.cut
            else (self.times[-1] - self.times[0]) / (self.tokens - self.first_tokens)
        )


class Paced:
    """What the server answers, to each client (by its key) the same: the n-th request of each has
    the same tokens, delays and fate."""

    def __init__(self, first_tokens: int = 1, cut_each: int = 0) -> None:
        self._first_tokens = first_tokens
        self._cut_each = cut_each
        self._given: dict[str, list[Given]] = {}

    def __call__(self, seen: Seen) -> Script:
        """For `golden`."""
        if not seen.body:
            return models("m")
        if not seen.body.get("stream"):
            return whole(3)
        mine = self._given.setdefault(seen.headers.get("authorization", ""), [])
        # Strides that share no factor with their number: all values come, in no order.
        number = len(mine)
        cut = bool(self._cut_each) and number % self._cut_each == self._cut_each - 1
        tokens = self._first_tokens + 15 + number * 7 % 16
        mine.append(Given(seen, self._first_tokens, tokens, cut))
        ttft = 0.040 + 0.002 * (number * 37 % 80)
        gap = 0.015 + 0.00025 * (number * 29 % 40)
        return Script(self._steps(tokens, ttft, gap, cut))

    def _steps(self, tokens: int, ttft: float, gap: float, cut: bool) -> Sequence[Step]:
        steps: list[Step] = [ROLE, Wait(ttft)]
        for count in range(self._first_tokens, tokens + 1):
            if count > self._first_tokens:
                steps.append(Wait(gap))
            steps.append(Send(event(chunk({"content": "word "}, usage=used(count)))))
        end = [finish(), Send(event(usage_event(tokens))), DONE]
        return steps if cut else [*steps, *end]

    def given(self, key: str) -> list[Given]:
        """To the client with that key."""
        return self._given.get(f"Bearer {key}", [])


@dataclass(frozen=True)
class Figures:
    """What is said of a run. Times are ms."""

    requests: int
    """Whose answer is counted as whole."""
    request_rate: float
    """Of these, per second from the first one's sending to the last one's end; so is the next."""
    token_rate: float
    ttft_p50: float
    """From sending."""
    ttft_p99: float
    tpot_p50: float
    """Or ITL, where that is its name."""

    @staticmethod
    def truth(given: Sequence[Given]) -> "Figures":
        """Rates are of whole answers alone, percentiles of all."""
        good = [one for one in given if not one.cut]
        seconds = max(one.ended for one in good) - min(one.seen.at for one in good)
        ttfts = [one.ttft * 1000 for one in given]
        return Figures(
            len(good),
            len(good) / seconds,
            sum(one.tokens for one in good) / seconds,
            nearest(ttfts, 50),
            nearest(ttfts, 99),
            nearest([one.tpot * 1000 for one in given], 50),
        )


def within(said: float, true: float, share: float) -> bool:
    """Whether a figure is another, but for that share of it."""
    return said == true or abs(said / true - 1) <= share


def nearest(values: Iterable[float], percent: float) -> float:
    """A percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]


def dispersion(given: Sequence[Given], seconds: float) -> float:
    """Of arrivals: variance by mean of how many came in each stretch of so many seconds. 1 where
    they are Poisson's."""
    times = [one.seen.at for one in given]
    stretches = int((max(times) - min(times)) / seconds)
    counts = Counter(int((at - min(times)) / seconds) for at in times)
    each = [counts[number] for number in range(stretches)]  # without the last, which is cut short
    return statistics.variance(each) / statistics.fmean(each)
