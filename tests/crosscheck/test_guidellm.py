"""GuideLLM and ours, of a server that knows the truth.

Both send at the same time to the same server, which gives each the same answers at the same pace
and writes down when it sent each piece. What a tool says is held against what it was given; what
lies between is that tool, the network of this machine and its scheduler. `make crosscheck`.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.outcome import Outcome
from loadtest.summary import Summary
from tests.crosscheck import guidellm, ours
from tests.crosscheck.paced import Figures, Given, Paced, dispersion, within
from tests.loadtest.live.test_command import serving

pytestmark = guidellm.NEEDED
OURS, THEIRS = "key-of-ours", "key-of-theirs"
TITLES: Final = {
    "requests": "whole answers",
    "request_rate": "requests/s",
    "token_rate": "output tokens/s",
    "ttft_p50": "TTFT p50, ms",
    "ttft_p99": "TTFT p99, ms",
    "tpot_p50": "TPOT (its ITL) p50, ms",
}
# Throughput and time per token as the issue asks. On an idle machine the worst seen was 0.1 % and
# 1.1 %, of TTFT 0.7 %; with all cores busy (a load of 10) 0.2 %, 0.6 % and 6 %, for a client reads
# later than the server writes by what the scheduler lets it wait. A role that counts as a token, or
# a clock that begins too late, are far beyond these.
TOLERANCES: Final = {
    "requests": 0.0,
    "request_rate": 0.02,
    "token_rate": 0.02,
    "ttft_p50": 0.15,
    "ttft_p99": 0.25,
    "tpot_p50": 0.05,
}


def wrong(said: Figures, true: Figures) -> set[str]:
    """Which figures are not what they should be."""
    return {
        name
        for name, share in TOLERANCES.items()
        if not within(getattr(said, name), getattr(true, name), share)
    }


@dataclass(frozen=True)
class Both:
    """One run of each, at the same time."""

    ours: Figures
    theirs: Figures
    summary: Summary
    given: Mapping[str, list[Given]]
    """By key."""

    def truth(self, key: str) -> Figures:
        return Figures.truth(self.given[key])

    def dispersion(self, key: str) -> float:
        """Of its requests, as they came, by half seconds."""
        return dispersion(self.given[key], 0.5)

    def print(self, asked: float) -> None:
        """Side by side, each by what it was given. `asked`: of the arrivals' dispersion."""
        words = ("", "ours", "truth", "GuideLLM", "truth")
        rows = [
            (title, *(getattr(one, name) for one in self._columns))
            for name, title in TITLES.items()
        ]
        seen = [self.dispersion(key) for key in (OURS, THEIRS)]
        rows.append(("arrivals, variance/mean", seen[0], asked, seen[1], asked))
        print("".join(f"{word:>12}" if word else " " * 26 for word in words))  # noqa: T201
        for title, *figures in rows:
            print(f"{title:26}" + "".join(f"{figure:12.2f}" for figure in figures))  # noqa: T201

    @property
    def _columns(self) -> tuple[Figures, ...]:
        return self.ours, self.truth(OURS), self.theirs, self.truth(THEIRS)


def both(home: Path, server: Paced, kind: str, rate: float, seconds: float) -> Both:
    """Have both send requests at a rate, ours as soon as theirs begin to come."""
    source = ours.scenario(home / "cross.yaml", kind, rate, seconds)
    count = round(rate * seconds)
    with (
        serving(server) as golden,
        guidellm.running(home, golden.url, THEIRS, f"kind={kind},rate={rate}", count) as process,
    ):
        guidellm.wait(process, lambda: bool(server.given(THEIRS)))
        folder = ours.run(home / "run", source, golden.url, OURS)
        guidellm.finish(process, home)
    records = folder.records()
    given = {key: server.given(key) for key in (OURS, THEIRS)}
    assert len(given[OURS]) == len(records)
    assert len(given[THEIRS]) == count
    summary = folder.summary()
    return Both(ours.figures(records, summary.overall), guidellm.figures(home), summary, given)


def test_both_say_what_was_given(tmp_path: Path) -> None:
    """Of whole answers with a token in each piece, at a constant rate, definitions are the same."""
    run = both(tmp_path, Paced(), "constant", rate=10, seconds=20)
    run.print(asked=0)
    assert wrong(run.ours, run.truth(OURS)) == set()
    assert wrong(run.theirs, run.truth(THEIRS)) == set()


def test_ours_says_what_was_given_where_guidellm_does_not(tmp_path: Path) -> None:
    """Several tokens in the first piece, answers that are cut short, arrivals by chance.

    Where GuideLLM has mended one of these, the README of the load test says too much.
    """
    run = both(tmp_path, Paced(first_tokens=6, cut_each=10), "poisson", rate=20, seconds=15)
    run.print(asked=1)
    assert wrong(run.ours, run.truth(OURS)) == set()
    cut = sum(one.cut for one in run.given[OURS])
    assert run.summary.overall.outcomes[Outcome.TRUNCATED] == cut > 0

    given = run.given[THEIRS]
    # An answer without its end is whole to it.
    assert run.theirs.requests == len(given) > run.truth(THEIRS).requests
    # It divides by all tokens but one, also where more came at once.
    divided = [1000 * (one.times[-1] - one.times[0]) / (one.tokens - 1) for one in given]
    assert within(run.theirs.tpot_p50, statistics.median(divided), TOLERANCES["tpot_p50"])
    assert run.theirs.tpot_p50 < 0.9 * run.truth(THEIRS).tpot_p50
    # Each of its processes draws the same pauses from the same seed: they come in fours.
    assert run.dispersion(OURS) < 2 < run.dispersion(THEIRS)
