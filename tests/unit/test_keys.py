"""Keys: only their hash is kept, and only the whole token opens."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quota.limits import Limits
from service.tenants.keys import Key, public_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, TOKEN = Key.issue("search")


def test_an_issued_token_opens_its_key() -> None:
    assert KEY.opens_with(TOKEN)


def test_a_key_is_made_with_what_was_asked_for() -> None:
    key, _ = Key.issue("search", label="ci", expires=NOW, limits=Limits(rpm=60))
    assert (key.team, key.label, key.expires, key.limits.rpm) == ("search", "ci", NOW, 60)


def test_what_is_kept_is_a_digest_that_never_shows() -> None:
    assert len(KEY.digest) == 32
    assert TOKEN.rsplit("_", 1)[1].encode() not in KEY.digest
    assert "digest" not in repr(KEY)
    assert TOKEN not in repr(KEY)


def test_no_two_tokens_are_alike() -> None:
    assert len({Key.issue("team")[1] for _ in range(100)}) == 100


@given(position=st.integers(0, 62), letter=st.sampled_from("aZ09_-é"))
def test_a_token_with_one_letter_changed_opens_nothing(position: int, letter: str) -> None:
    changed = TOKEN[:position] + letter + TOKEN[position + 1 :]
    assert KEY.opens_with(changed) is (changed == TOKEN)


@given(st.text(st.characters(codec="utf-8")))
def test_no_other_text_is_a_token(text: str) -> None:
    assert public_id(text) is None
    assert not KEY.opens_with(text)


def test_the_digest_itself_opens_nothing() -> None:
    assert not KEY.opens_with(KEY.digest.hex())
    assert not KEY.opens_with(f"gptoss_{KEY.id}_{KEY.digest.hex()[:43]}")


def test_a_revoked_key_is_not_active() -> None:
    assert not Key(KEY.id, KEY.team, KEY.digest, KEY.created, revoked=NOW).is_active(NOW)


@pytest.mark.parametrize(("after", "active"), [(-1, True), (0, False), (1, False)])
def test_a_key_is_active_until_it_expires(after: int, active: bool) -> None:
    key, _ = Key.issue("search", expires=NOW)
    assert key.is_active(NOW + timedelta(seconds=after)) is active


def test_the_public_id_names_the_key() -> None:
    assert public_id(TOKEN) == KEY.id
