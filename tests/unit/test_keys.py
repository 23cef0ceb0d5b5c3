"""Keys: only their hash is kept, and only the whole, active token opens."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tenants.keys import Key, public_id
from service.tenants.snapshot import Keys, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_issued_token_opens_its_key() -> None:
    key, token = Key.issue("search")
    assert Snapshot([key]).authenticate(token) == key


def test_the_stored_key_does_not_hold_the_secret() -> None:
    key, token = Key.issue("search")
    secret = token.rsplit("_", 1)[1]
    assert secret not in repr(key)


def test_no_two_tokens_are_alike() -> None:
    assert len({Key.issue("team")[1] for _ in range(100)}) == 100


@given(position=st.integers(0, 62), letter=st.sampled_from("aZ09_-é"))
def test_a_token_with_one_letter_changed_opens_nothing(position: int, letter: str) -> None:
    key, token = Key.issue("search")
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        assert Snapshot([key]).authenticate(changed) is None


@given(st.text())
def test_no_other_text_opens_a_key(text: str) -> None:
    key, _ = Key.issue("search")
    assert Snapshot([key]).authenticate(text) is None


def test_the_digest_itself_opens_nothing() -> None:
    key, _ = Key.issue("search")
    assert Snapshot([key]).authenticate(key.digest) is None
    assert Snapshot([key]).authenticate(f"gptoss_{key.id}_{key.digest[:43]}") is None


def test_a_revoked_key_is_refused() -> None:
    key, token = Key.issue("search")
    revoked = Key(key.id, key.team, key.digest, key.created, revoked=NOW)
    assert Snapshot([revoked]).authenticate(token) is None


@pytest.mark.parametrize(("after", "opens"), [(-1, True), (0, False), (1, False)])
def test_a_key_opens_until_it_expires(after: int, opens: bool) -> None:
    key, token = Key.issue("search", expires=NOW)
    found = Snapshot([key]).authenticate(token, NOW + timedelta(seconds=after))
    assert (found is not None) is opens


def test_the_public_id_names_the_key() -> None:
    key, token = Key.issue("search")
    assert public_id(token) == key.id


class BrokenStore:
    """A store that answers once."""

    def __init__(self, key: Key) -> None:
        self.keys = [key]
        self.reads = 0

    def version(self) -> object:
        return self.reads

    def read(self) -> list[Key]:
        self.reads += 1
        if self.reads > 1:
            raise OSError("gone")
        return self.keys


def test_a_store_that_is_lost_leaves_the_last_keys_in_force() -> None:
    key, token = Key.issue("search")
    keys = Keys(BrokenStore(key))
    with pytest.raises(OSError, match="gone"):
        keys.refresh()
    assert keys.current.authenticate(token) == key
