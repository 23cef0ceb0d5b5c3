"""The snapshot: who is let in, what a change does to it, and what a look-up costs."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quota.limits import UNLIMITED, Limits
from service.tenants.changes import Changes, Credential
from service.tenants.keys import Key
from service.tenants.snapshot import Snapshot
from service.tenants.team import Team

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEAM = Team("search")
KEY, TOKEN = Key.issue("search", limits=Limits(rpm=60))


def credential(key: Key, *, revoked: bool = False) -> Credential:
    return Credential(key.id, key.team, key.digest, key.expires, revoked, key.limits)


def changes(
    keys: Sequence[Credential] = (),
    *,
    teams: Sequence[Team] = (),
    gone: Sequence[str] = (),
    complete: bool = False,
) -> Changes:
    return Changes(2, complete, list(teams), list(gone), list(keys))


@pytest.fixture
def snapshot() -> Snapshot:
    made = Snapshot()
    made.apply(changes([credential(KEY)], teams=[TEAM], complete=True))
    return made


def test_a_token_stands_for_its_key_team_and_limits(snapshot: Snapshot) -> None:
    principal = snapshot.authenticate(TOKEN)
    assert principal is not None
    assert (principal.id, principal.team, principal.limits.rpm) == (KEY.id, TEAM, 60)


@given(position=st.integers(0, 62), letter=st.sampled_from("aZ09_-é"))
def test_a_token_with_one_letter_changed_is_nobody(position: int, letter: str) -> None:
    snapshot = Snapshot()
    snapshot.apply(changes([credential(KEY)], teams=[TEAM]))
    changed = TOKEN[:position] + letter + TOKEN[position + 1 :]
    assert (snapshot.authenticate(changed) is None) is (changed != TOKEN)


@given(st.text())
def test_other_text_is_nobody(text: str) -> None:
    snapshot = Snapshot()
    snapshot.apply(changes([credential(KEY)], teams=[TEAM]))
    assert snapshot.authenticate(text) is None


@pytest.mark.parametrize(("after", "opens"), [(-1, True), (0, False), (1, False)])
def test_a_key_opens_until_it_expires(after: int, opens: bool) -> None:
    key, token = Key.issue("search", expires=NOW)
    snapshot = Snapshot()
    snapshot.apply(changes([credential(key)], teams=[TEAM]))
    found = snapshot.authenticate(token, NOW + timedelta(seconds=after))
    assert (found is not None) is opens


def test_a_revoked_key_is_refused_and_forgotten(snapshot: Snapshot) -> None:
    snapshot.apply(changes([credential(KEY, revoked=True)]))
    assert snapshot.authenticate(TOKEN) is None
    assert len(snapshot) == 0


def test_a_key_whose_team_is_gone_is_refused(snapshot: Snapshot) -> None:
    snapshot.apply(changes(gone=["search"]))
    assert snapshot.authenticate(TOKEN) is None


def test_a_disabled_team_is_still_known_by_name(snapshot: Snapshot) -> None:
    snapshot.apply(changes(teams=[Team("search", disabled=True)]))
    principal = snapshot.authenticate(TOKEN)
    assert principal is not None
    assert principal.team.disabled


def test_a_change_leaves_the_rest_and_the_whole_replaces_it(snapshot: Snapshot) -> None:
    other, token = Key.issue("search")
    snapshot.apply(changes([credential(other)]))
    assert snapshot.authenticate(TOKEN)
    snapshot.apply(changes([credential(other)], teams=[TEAM], complete=True))
    assert snapshot.authenticate(TOKEN) is None
    assert snapshot.authenticate(token)


def test_no_token_opens_what_is_compared_with_for_an_unknown_id(snapshot: Snapshot) -> None:
    unknown, token = Key.issue("search")
    assert snapshot.authenticate(token) is None
    snapshot.apply(changes(teams=[Team("")]))  # the decoy's: even that lets nobody in
    assert snapshot.authenticate(f"gptoss_{unknown.id}_{'a' * 43}") is None


def test_an_unknown_id_is_compared_as_a_known_one_is(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []

    def counted(digest: bytes, token: str) -> bool:
        compared.append(len(digest))
        return False

    monkeypatch.setattr("service.tenants.snapshot.opens", counted)
    snapshot.authenticate(TOKEN)
    snapshot.authenticate(Key.issue("search")[1])
    assert compared == [32, 32]


def test_a_look_up_among_100000_keys_costs_what_it_does_among_1000() -> None:
    few, many = _filled(1_000), _filled(100_000)
    # The least of many short runs: what the machine does besides only ever adds.
    rounds = [(_cost(few), _cost(many)) for _ in range(30)]
    assert min(cost for _, cost in rounds) < 3 * min(cost for cost, _ in rounds)


def _filled(count: int) -> Snapshot:
    made = Snapshot()
    keys = [
        Credential(f"{number:012d}", f"team-{number % 1000}", KEY.digest, None, False, UNLIMITED)
        for number in range(count)
    ]
    made.apply(changes(keys, teams=[Team(f"team-{number}") for number in range(1000)]))
    return made


def _cost(snapshot: Snapshot) -> float:
    step = len(snapshot) // 500
    tokens = [f"gptoss_{number * step:012d}_{'a' * 43}" for number in range(500)]
    started = time.process_time()
    for token in tokens:
        snapshot.authenticate(token)
    return time.process_time() - started
