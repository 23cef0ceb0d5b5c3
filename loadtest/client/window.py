"""How a run stands, from what its workers tell."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from loadtest.client import wire
from loadtest.client.data import Progress
from loadtest.outcome import GOOD, Outcome
from loadtest.statistics.quantiles import ordered, percentile

_SECONDS = 10.0


class _Part:
    """What one report added."""

    __slots__ = ("at", "firsts", "gaps", "good", "lags", "output", "sent")

    def __init__(self, at: float, sent: int, report: wire.Report) -> None:
        good = [record for record in report.records if record.outcome in GOOD]
        self.at = at
        self.sent = sent
        self.good = len(good)
        self.output = sum(record.output_tokens for record in good)
        self.firsts = report.firsts
        self.gaps = report.gaps
        self.lags = report.lags


class Window:
    """The last ten seconds, and the sums of all."""

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._parts: deque[_Part] = deque()
        self._last: dict[int, wire.Report] = {}
        self._outcomes: Counter[Outcome] = Counter()

    def add(self, worker: int, report: wire.Report, at: float) -> None:
        """Take what a worker told `at` s after the run's start."""
        before = self._last.get(worker)
        self._parts.append(_Part(at, report.sent - (before.sent if before else 0), report))
        self._outcomes.update(record.outcome for record in report.records)
        self._last[worker] = report

    def lose(self, worker: int) -> None:
        """It is gone, and has nothing open any more."""
        if worker in self._last:
            self._last[worker].open = 0

    def progress(self, now: float, lost: Sequence[str]) -> Progress:
        """How it stands, `now` s after the run's start."""
        while self._parts and self._parts[0].at < now - _SECONDS:
            self._parts.popleft()
        parts, last = self._parts, self._last.values()
        seconds = min(max(now, 0.5), _SECONDS)
        firsts = [value for part in parts for value in part.firsts]
        gaps = [value for part in parts for value in part.gaps]
        lags = [value for part in parts for value in part.lags]
        return Progress(
            elapsed=now,
            duration=self._duration,
            due=sum(report.due for report in last),
            sent=sum(report.sent for report in last),
            done=self._outcomes.total(),
            open=sum(report.open for report in last),
            outcomes={str(outcome): count for outcome, count in self._outcomes.most_common()},
            rate=sum(part.sent for part in parts) / seconds,
            good_rate=sum(part.good for part in parts) / seconds,
            output_rate=sum(part.output for part in parts) / seconds,
            ttft_p50=_percentile(firsts, 50),
            ttft_p99=_percentile(firsts, 99),
            gap_p50=_percentile(gaps, 50),
            gap_p99=_percentile(gaps, 99),
            lag_p99=_percentile(lags, 99),
            lost_workers=list(lost),
        )


def _percentile(times: Iterable[float], percent: float) -> float | None:
    return percentile(ordered(times), percent)
