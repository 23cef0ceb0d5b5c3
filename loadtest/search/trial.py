"""One run at one level of load, and what is known of that level by all its runs together.

Each team is looked at by itself: a large one that is served well hides nothing of a small one that
is not.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from loadtest.judgement import sampled
from loadtest.measured import Requests, Span
from loadtest.statistics.evidence import Sample
from loadtest.statistics.quantiles import finite, ordered, percentile


class Stopped(Exception):
    """Somebody ended a trial, and with it the search."""


class Count(Sample, frozen=True):
    """One team's requests in one run."""

    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    """What became of them: whether, say, a limit is but the team's quota."""
    ttft_p99: float | None = None
    """s. None: it falls among those that failed, or nothing was counted."""


class Trial(msgspec.Struct, frozen=True):
    """What one run at one level gave."""

    level: float
    teams: dict[str, Count]
    """Without those of which nothing counts, as of one that is refused all beyond its limits."""
    seconds: float = 0.0
    """What was measured: less than was asked for where it was ended early."""
    saturated: bool = False
    """It was beyond capacity, and has no steady state: it fails, whatever share was good."""
    valid: bool = True
    """Else the load test itself was too slow, and nothing is known of the service."""
    why: str = ""
    """Of one that is not valid."""


def measure(
    level: float,
    teams: Mapping[str, Requests],
    measured: Span,
    *,
    saturated: bool = False,
    invalid: str = "",
) -> Trial:
    """The trial that a run was. `invalid` says why its figures are not those of the service."""
    return Trial(
        level,
        {
            team: _count(one, measured)
            for team, one in teams.items()
            if one.counted or not one.planned
        },
        measured.seconds,
        saturated,
        valid=not invalid,
        why=invalid,
    )


def _count(requests: Requests, measured: Span) -> Count:
    one = sampled(requests, measured)
    return Count(
        one.good,
        one.counted,
        one.parts,
        dict(Counter(str(record.outcome) for record in requests.records)),
        _ttft_p99(requests),
    )


def _ttft_p99(requests: Requests) -> float | None:
    """Of streams: a failed one took for ever."""
    streams = [record for record in requests.judged if record.streamed]
    whole = [record for record in streams if record.good]
    times = [time for record in whole if (time := record.ttft) is not None]
    failed = len(streams) - len(whole) + requests.unsent
    return finite(percentile(ordered(times, failed), 99))


class Evidence(msgspec.Struct, frozen=True):
    """All trials of one level together."""

    trials: Sequence[Trial] = ()
    seconds: float = 0.0

    def plus(self, trial: Trial, seconds: float) -> "Evidence":
        """With one more."""
        return Evidence((*self.trials, trial), self.seconds + seconds)

    @property
    def saturated(self) -> bool:
        """Whether any was."""
        return any(one.saturated for one in self.trials)

    @property
    def teams(self) -> list[str]:
        """Those of which anything is known."""
        return list(dict.fromkeys(team for one in self.trials for team in one.teams))

    def of(self, team: str) -> list[Count]:
        """A team's requests in each of them."""
        return [one.teams[team] for one in self.trials if team in one.teams]
