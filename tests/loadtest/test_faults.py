"""Faults are made at their times and undone whatever happens; what cannot be made is noted."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UserError
from loadtest.faults import timeline
from loadtest.faults.events import Made
from loadtest.faults.process_tree import Process, ancestors, descendants
from loadtest.faults.proxy import Proxy, address
from loadtest.faults.target import Target
from loadtest.faults.timeline import Timeline
from loadtest.scenario.document import Scenario
from loadtest.scenario.faults import Fault, ProxyTarget
from tests import virtual_time

TEAM = {"arrivals": {"kind": "constant", "rate": 1}}


def scenario(targets: dict[str, Any], faults: list[dict[str, Any]]) -> Scenario:
    return Scenario.model_validate(
        {"name": "t", "teams": {"a": TEAM}, "fault_targets": targets, "faults": faults}
    )


def faults(*made: dict[str, Any]) -> Scenario:
    return scenario(
        {"x": {"kind": "process", "command": "x"}, "y": {"kind": "process", "command": "y"}},
        list(made),
    )


class Told:
    """A target that notes what is done to it, and when by the clock of the run."""

    def __init__(self, clock: Callable[[], float], error: Exception | None = None) -> None:
        self.events: list[tuple[str, float]] = []
        self.making = 0
        self._clock = clock
        self._error = error

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self.events.append(("open", self._clock()))
        yield
        assert not self.making, "closed while something lasts"
        self.events.append(("close", self._clock()))

    async def check(self, fault: Fault) -> None:
        raise AssertionError("no run checks anything: that comes before it")

    async def make(self, fault: Fault) -> None:
        self.events.append((f"make {fault.do}", self._clock()))
        if self._error:
            raise self._error
        self.making += 1
        try:
            await asyncio.sleep(fault.lasts)
        finally:
            self.making -= 1
            self.events.append((f"undo {fault.do}", self._clock()))


def play(
    one: Scenario,
    seconds: float,
    errors: dict[str, Exception] | None = None,
    zero: float = 0.0,
    crash: bool = False,
) -> tuple[list[Made], dict[str, Told]]:
    """A run of so many seconds with these faults, which are nobody's."""
    told: dict[str, Told] = {}
    lines: list[Timeline] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return loop.time() - zero

        told.update({name: Told(clock, (errors or {}).get(name)) for name in one.fault_targets})
        targets: dict[str, Target] = dict(told)
        line = Timeline(one, clock, targets)
        lines.append(line)
        with suppress(ZeroDivisionError):
            async with line:
                line.begin()
                await asyncio.sleep(zero + seconds)
                if crash:
                    raise ZeroDivisionError

    virtual_time.run(work())
    return lines[0].made, told


def near(made: Made) -> tuple[str, str, float, float | None, str]:
    ended = None if made.ended is None else round(made.ended, 6)
    return made.what, made.target, round(made.began, 6), ended, made.error


def test_faults_are_made_at_their_times_also_where_they_overlap() -> None:
    one = faults(
        {"at": 10, "do": "stop", "target": "x", "lasts": 20},
        {"at": 15, "do": "kill", "target": "y", "lasts": 5},
        {"at": 2, "do": "stop", "target": "y", "lasts": 1},
    )
    made, told = play(one, 100)
    assert [near(fault) for fault in made] == [
        ("stop", "y", 2, 3, ""),
        ("stop", "x", 10, 30, ""),
        ("kill", "y", 15, 20, ""),
    ]
    assert [fault.number for fault in made] == [2, 0, 1]
    assert [event for event, _ in told["x"].events] == ["open", "make stop", "undo stop", "close"]


def test_times_are_those_of_the_run_which_begins_later() -> None:
    made, told = play(faults({"at": 10, "do": "stop", "target": "x", "lasts": 5}), 60, zero=7.0)
    assert near(made[0]) == ("stop", "x", 10, 15, "")
    assert told["x"].events[0] == ("open", -7.0)


@pytest.mark.parametrize("crash", [False, True])
def test_what_still_lasts_when_the_run_is_over_is_undone(crash: bool) -> None:
    made, told = play(faults({"at": 5, "do": "stop", "target": "x", "lasts": 50}), 8, crash=crash)
    assert near(made[0]) == ("stop", "x", 5, 8, "")
    assert told["x"].events[-2:] == [("undo stop", 8.0), ("close", 8.0)]


def test_what_was_not_due_is_not_made() -> None:
    made, told = play(faults({"at": 9, "do": "stop", "target": "x"}), 8)
    assert made == []
    assert [event for event, _ in told["x"].events] == ["open", "close"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("no process"), "no process"), (OSError("odd"), "OSError: odd")],
)
def test_a_fault_that_cannot_be_made_is_noted_and_the_others_are_made(
    error: Exception, said: str
) -> None:
    one = faults(
        {"at": 1, "do": "kill", "target": "x"}, {"at": 2, "do": "kill", "target": "y", "lasts": 1}
    )
    made, _ = play(one, 10, {"x": error})
    assert [near(fault) for fault in made] == [("kill", "x", 1, 1, said), ("kill", "y", 2, 3, "")]


@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 20), st.integers(0, 20)), max_size=8),
    st.integers(0, 40),
)
def test_whatever_the_timeline_all_that_was_made_is_undone_by_the_end(
    planned: list[tuple[str, int, int]], seconds: int
) -> None:
    one = faults(
        *(
            {"at": at, "do": "stop", "target": target, "lasts": lasts}
            for target, at, lasts in planned
        )
    )
    made, told = play(one, seconds)
    # One that is due with the last moment may be made or not.
    least = sum(at < seconds for _, at, _ in planned)
    assert least <= len(made) <= sum(at <= seconds for _, at, _ in planned)
    assert all(fault.ended is not None and fault.ended <= seconds for fault in made)
    for target in told.values():
        events = [event for event, _ in target.events]
        assert events.count("make stop") == events.count("undo stop")
        assert events[-1] == "close"


def test_a_target_that_is_not_there_is_told_before_the_run() -> None:
    one = scenario(
        {"engine": {"kind": "process", "command": "no process has these words"}},
        [{"at": 1, "do": "kill", "target": "engine"}],
    )
    with pytest.raises(UserError, match="fault target engine: no process has 'no process has the"):
        asyncio.run(timeline.check(one))


def test_a_restart_needs_its_command() -> None:
    one = scenario(
        {"engine": {"kind": "process", "pid_file": "/nowhere/pid"}},
        [{"at": 1, "do": "restart", "target": "engine"}],
    )
    with pytest.raises(UserError, match="/nowhere/pid: No such file or directory"):
        asyncio.run(timeline.check(one))


@pytest.mark.parametrize("text", ["", "8001", "host:", ":1", "host:http", "host:99999", "a:-1"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no host and port, such as"):
        address("gateway", text)
    with pytest.raises(UserError, match="fault target gateway"):
        Proxy(
            "gateway",
            ProxyTarget(kind="proxy", listen="127.0.0.1:0", upstream=text),
            random.Random(0),
        )


def test_addresses_are_read() -> None:
    assert address("x", "127.0.0.1:80") == ("127.0.0.1", 80)
    assert address("x", "[::1]:80") == ("::1", 80)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_descendants_are_all_below_a_process_and_parents_come_first(parents: list[int]) -> None:
    # Number 1 is the root of all; each later one has one before it as its parent.
    processes = {1: Process(1, 0, 0, 0, "")}
    for pid, parent in enumerate(parents, 2):
        processes[pid] = Process(pid, 1 + parent % (pid - 1), 0, 0, "")
    for pid in processes:
        below = descendants(pid, processes)
        assert len({one.pid for one in below}) == len(below)
        for one, other in itertools.combinations(below, 2):
            assert other.pid != one.parent
        assert {one.pid for one in below} == {
            one.pid
            for one in processes.values()
            if pid in [above.pid for above in ancestors(one.pid, processes)]
        }
