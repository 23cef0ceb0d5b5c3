"""A run in parts of its time, for plots: what was due in each, and what became of it."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from loadtest.measured import Fate, fates
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.statistics.quantiles import Ordered, finite, ordered, percentile
from loadtest.summary import Window

Floats = npt.NDArray[np.float64]

_WIDTHS: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_MOST: Final = 60


def width(seconds: float) -> float:
    """Of windows, for about 60 of them in that time: at least 1 s, and a round number."""
    wanted = seconds / _MOST
    return float(next((one for one in _WIDTHS if one >= wanted), math.ceil(wanted / 3600) * 3600))


def windows(scenario: Scenario, records: Sequence[Record], seconds: float) -> list[Window]:
    """All of a run of that many seconds, with warm-up and drain."""
    step = width(seconds)
    edges = [min(number * step, seconds) for number in range(math.ceil(seconds / step) + 1)]
    if len(edges) < 2:
        return []
    by_window: list[list[Record]] = [[] for _ in edges[1:]]
    for record in records:
        place = bisect_right(edges, record.scheduled) - 1
        by_window[min(max(place, 0), len(by_window) - 1)].append(record)
    began = sorted(at for record in records if (at := record.opened) is not None)
    ended = sorted(
        at for record in records if record.opened is not None and (at := record.ended) is not None
    )
    tokens = np.diff(output_until(records, edges))
    return [
        _window(scenario, due, start, end - start, _open(began, ended, end), float(came))
        for due, start, end, came in zip(by_window, edges, edges[1:], tokens, strict=False)
    ]


def output_until(records: Iterable[Record], edges: Sequence[float]) -> Floats:
    """How many tokens of answers had come at each of these times: those of an answer came evenly
    from its first to its last."""
    rows = [
        (record.first, record.last, record.output_tokens)
        for record in records
        if record.first is not None and record.last is not None and record.output_tokens
    ]
    if not rows:
        return np.zeros(len(edges))
    first, last, tokens = np.array(rows, dtype=np.float64).T
    long = np.maximum(last - first, 1e-9)
    return np.array([float(np.sum(tokens * np.clip((at - first) / long, 0, 1))) for at in edges])


def _window(
    scenario: Scenario, due: list[Record], start: float, seconds: float, opened: int, tokens: float
) -> Window:
    ttft, tpot = _times(scenario, due)
    return Window(
        at=start,
        seconds=seconds,
        due=len(due),
        outcomes=dict(Counter(str(record.outcome) for record in due)),
        open=opened,
        output_rate=tokens / seconds,
        ttft_p50=finite(percentile(ttft, 50)),
        ttft_p99=finite(percentile(ttft, 99)),
        tpot_p50=finite(percentile(tpot, 50)),
        tpot_p99=finite(percentile(tpot, 99)),
        teams=dict(Counter(record.team for record in due if record.good)),
    )


def _times(scenario: Scenario, due: list[Record]) -> tuple[Ordered, Ordered]:
    """TTFT and TPOT of those that count and were to be streamed, failed ones infinite."""
    teams: dict[str, list[Record]] = {}
    for record in due:
        if record.team in scenario.teams and record.streamed:
            teams.setdefault(record.team, []).append(record)
    judged = [
        record
        for team, records in teams.items()
        for record, fate in zip(records, fates(scenario, team, records), strict=True)
        if fate is not Fate.ASIDE
    ]
    good = [record for record in judged if record.good]
    failed = len(judged) - len(good)
    return (
        ordered((time for record in good if (time := record.ttft) is not None), failed),
        ordered((time for record in good if (time := record.tpot) is not None), failed),
    )


def _open(began: list[float], ended: list[float], at: float) -> int:
    return bisect_right(began, at) - bisect_right(ended, at)
