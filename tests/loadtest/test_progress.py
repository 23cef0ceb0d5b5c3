"""Whoever watches a run sees how it stands, in a terminal and in a log."""

import errno
import io
import threading

import pytest
from rich.console import Console

from loadtest.client.data import Progress
from loadtest.client.progress import Display, Screen, line
from loadtest.client.window import Window
from loadtest.client.wire import Report
from loadtest.outcome import Outcome
from loadtest.record import Record


def report(sent: int = 0, records: list[Record] | None = None, open: int = 0) -> Report:
    return Report(
        due=sent, sent=sent, open=open, records=records or [], lags=[0.001], firsts=[0.2], gaps=[]
    )


def record(outcome: Outcome, tokens: int = 10) -> Record:
    return Record(index=0, team="a", scheduled=0, outcome=outcome, output_tokens=tokens)


def test_counts_are_sums_over_workers_and_rates_are_of_the_last_ten_seconds() -> None:
    window = Window(60)
    for second in range(1, 31):
        window.add(0, report(10 * second, [record(Outcome.OK)] * 8, open=3), float(second))
        window.add(1, report(5 * second, [record(Outcome.QUOTA_429, 0)], open=4), float(second))
    seen = window.progress(30.0, [])
    assert (seen.due, seen.sent, seen.open, seen.done) == (450, 450, 7, 270)
    assert seen.outcomes == {"ok": 240, "quota_429": 30}
    assert seen.rate == pytest.approx(15, rel=0.15)
    assert seen.good_rate == pytest.approx(8, rel=0.15)
    assert seen.output_rate == pytest.approx(80, rel=0.15)
    assert (seen.ttft_p99, seen.gap_p99, seen.lag_p99) == (0.2, None, 0.001)


def test_a_worker_that_died_has_nothing_open() -> None:
    window = Window(60)
    window.add(0, report(3, open=3), 1.0)
    window.lose(0)
    window.lose(1)
    assert window.progress(1.0, ["worker 0 died"]).open == 0


def progress(elapsed: float) -> Progress:
    window = Window(60)
    window.add(0, report(5, [record(Outcome.OK), record(Outcome.CAPACITY_503)], 2), elapsed)
    return window.progress(elapsed, ["worker 1 was ended by SIGKILL"])


def shown(terminal: bool, times: list[float]) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    with Display("chat", console) as display:
        for at in times:
            display.show(progress(at))
    return out.getvalue()


def test_a_log_has_a_line_each_ten_seconds_and_the_last_state() -> None:
    lines = shown(False, [half / 2 for half in range(51)]).splitlines()
    assert [one.split("/")[0] for one in lines] == ["0", "10", "20", "25"]
    assert "\x1b" not in "".join(lines)


def test_a_terminal_has_everything_on_one_screen() -> None:
    text = shown(True, [3.0, 4.0])
    for said in ("chat: 4 of 60 s", "TTFT", "schedule lag", "capacity_503", "ended by SIGKILL"):
        assert said in text


def test_a_line_has_rates_percentiles_outcomes_and_lost_workers() -> None:
    text = line(progress(4.0))
    for said in ("4/60s", "sent 5", "open 2", "TTFT p50 200.0 ms", "lag p99 1.0 ms"):
        assert said in text
    for said in ("gap p99 -", "ok=1 capacity_503=1", "worker 1 was ended by SIGKILL"):
        assert said in text


def test_what_is_of_the_last_seconds_is_marked_and_what_is_of_all_the_run_comes_before_it() -> None:
    whole, mark, recent = line(progress(4.0)).partition("last 10 s: ")
    assert mark
    assert all(said in whole for said in ("4/60s", "sent 5", "open 2", "ok=1 capacity_503=1"))
    for said in ("req/s", "tok/s", "TTFT p50", "gap p99", "lag p99"):
        assert said in recent and said not in whole
    text = shown(True, [4.0])
    places = [text.index(said) for said in ("last 10 s", "TTFT", "all of the run", "capacity_503")]
    assert places == sorted(places)


@pytest.mark.parametrize("elapsed", [-30.0, -0.2, -0.0, 0.0])
def test_before_it_begins_no_time_is_over(elapsed: float) -> None:
    assert line(progress(elapsed)).startswith("0/60s")


class Failing(io.StringIO):
    """A pipe that nobody reads any more, or a full disk."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, "no")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_display_that_cannot_be_written_costs_the_run_nothing(
    terminal: bool, number: int
) -> None:
    console = Screen(file=Failing(number), force_terminal=terminal)
    with Display("chat", console) as display:
        for at in range(50):
            display.show(progress(at))


class Standing(io.StringIO):
    """A terminal that was told to stand still, until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.on = threading.Event()

    def write(self, text: str) -> int:
        self.on.wait()
        return super().write(text)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_that_stands_still_stops_nothing(terminal: bool) -> None:
    file = Standing()
    with Display("chat", Screen(file=file, force_terminal=terminal)) as display:
        for at in range(300):
            display.show(progress(10.0 * at))
        assert not file.getvalue()
        file.on.set()
    # What is newest is written.
    assert "chat: waits" in file.getvalue() if terminal else "2990/60s" in file.getvalue()


def test_what_a_lost_worker_said_is_no_markup() -> None:
    window = Window(60)
    out = io.StringIO()
    with Display("a[/]", Screen(file=out, force_terminal=True, width=100)) as display:
        display.show(window.progress(1.0, ["worker 1 ended with 1: no [/tmp/x] [red]"]))
    assert "no [/tmp/x] [red]" in out.getvalue() and "a[/]" in out.getvalue()
