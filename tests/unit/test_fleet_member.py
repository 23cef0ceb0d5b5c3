"""What a keeper takes an engine to be, whatever it has heard of it."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fleet.document import parse
from service.fleet.member import Member
from service.fleet.order import Order, Report
from service.fleet.rollout import Engine, Phase
from service.fleet.room import Node

FLEET: Final = parse("engine: {pools: {main: {profile: cpu-dev}}}")
ORDER: Final = Order.of(FLEET, "main", FLEET.pools["main"])
NODE: Final = Node("id", "alpha", "127.0.0.1", 0, 0, 8, 8)
SAID: Final = [Phase.PLACING, Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.FAILED]

reports = st.none() | st.builds(
    Report,
    order=st.just(ORDER),
    phase=st.sampled_from(SAID),
    url=st.sampled_from(["", "http://127.0.0.1:8100"]),
    since=st.just(1.0),
    why=st.sampled_from(["", "loading"]),
    running=st.integers(0, 9),
    waiting=st.integers(0, 9),
    ended=st.booleans(),
)
members = st.builds(
    Member,
    name=st.just("main-1"),
    order=st.just(ORDER),
    node=st.sampled_from([None, NODE]),
    report=reports,
    lost=st.sampled_from(["", "its node is gone"]),
    draining=st.booleans(),
)


def report(phase: Phase, why: str = "", *, ended: bool = False) -> Report:
    return Report(ORDER, phase, "", 1.0, why, ended=ended)


@pytest.mark.parametrize("phase", SAID)
def test_an_engine_is_what_it_says(phase: Phase) -> None:
    assert Member("main-1", ORDER, report=report(phase)).phase is phase


def test_an_engine_that_has_said_nothing_is_being_placed() -> None:
    member = Member("main-1", ORDER, node=NODE)
    assert member.phase is Phase.PLACING
    assert member.why


@pytest.mark.parametrize("phase", [Phase.PLACING, Phase.STARTING, Phase.READY])
def test_one_that_was_told_to_end_is_off_the_board_before_it_says_so(phase: Phase) -> None:
    assert Member("main-1", ORDER, report=report(phase), draining=True).phase is Phase.DRAINING


def test_one_that_fails_while_it_drains_has_failed() -> None:
    member = Member("main-1", ORDER, report=report(Phase.FAILED, "killed"), draining=True)
    assert (member.phase, member.why) == (Phase.FAILED, "killed")


@pytest.mark.parametrize("phase", SAID)
def test_one_that_is_gone_is_lost_whatever_it_said_last(phase: Phase) -> None:
    last = report(phase, "loading")
    member = Member("main-1", ORDER, report=last, lost="its node is gone", draining=True)
    assert (member.phase, member.why) == (Phase.LOST, "its node is gone")
    assert member.has_ended


def test_one_that_hangs_has_failed_and_not_ended() -> None:
    """Its cards are not free before it has."""
    assert not Member("main-1", ORDER, report=report(Phase.FAILED)).has_ended
    assert Member("main-1", ORDER, report=report(Phase.FAILED, ended=True)).has_ended


@given(members)
def test_only_what_is_well_takes_requests(member: Member) -> None:
    ready = member.phase is Phase.READY
    said = member.report is not None and member.report.phase is Phase.READY
    assert ready == (said and not member.lost and not member.draining)


@given(members)
def test_whatever_is_broken_says_why_if_it_can(member: Member) -> None:
    assert bool(member.lost) <= bool(member.why)
    assert (member.phase is Phase.LOST) == bool(member.lost)
    if member.report is None:
        assert member.why, "a person sees why it does not serve"


@given(members, st.sampled_from([ORDER.generation, "another"]))
def test_a_rollout_sees_what_the_keeper_knows(member: Member, generation: str) -> None:
    seen = member.seen(generation)
    load = member.report.running + member.report.waiting if member.report else 0
    node = NODE.id if member.node else ""
    current = generation == ORDER.generation
    assert seen == Engine("main-1", member.phase, current, node, load)
