"""The file of keys: nothing is lost, nothing is half written, nothing of the secret is in it."""

import multiprocessing
from pathlib import Path

import pytest

from service.errors import UserError
from service.tenants.file_store import FileStore
from service.tenants.keys import Key
from service.tenants.snapshot import Keys


def test_keys_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "keys.json")
    keys = [Key.issue("a")[0], Key.issue("b")[0]]
    for key in keys:
        store.add(key)
    assert store.read() == keys


def test_the_file_is_readable_by_its_owner_only_and_holds_no_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, token = Key.issue("a")
    FileStore(path).add(key)
    assert path.stat().st_mode & 0o077 == 0
    assert token.rsplit("_", 1)[1] not in path.read_text()


def test_a_change_of_the_file_is_taken_over(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "keys.json")
    keys = Keys(store)
    key, token = Key.issue("a")
    store.add(key)
    assert keys.refresh()
    assert keys.current.authenticate(token) == key
    store.revoke(key.id)
    assert keys.refresh()
    assert keys.current.authenticate(token) is None
    assert not keys.refresh()


def test_a_file_that_is_deleted_leaves_its_keys_in_force(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "keys.json")
    key, token = Key.issue("a")
    store.add(key)
    keys = Keys(store)
    store.path.unlink()
    with pytest.raises(UserError, match="the keys are gone"):
        keys.refresh()
    assert keys.current.authenticate(token) == key


def test_revoking_twice_keeps_the_first_moment(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "keys.json")
    key, _ = Key.issue("a")
    store.add(key)
    store.revoke(key.id)
    first = store.read()
    store.revoke(key.id)
    assert store.read() == first


def test_revoking_an_unknown_key_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gptoss key list"):
        FileStore(tmp_path / "keys.json").revoke("nothere")


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '[{"id": 1}]', '[{"id": "a"}]', "null"])
def test_a_damaged_file_is_one_clear_line_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(UserError, match="is not a file of keys"):
        FileStore(path).add(Key.issue("a")[0])
    assert path.read_text() == content


def _add(path: Path) -> None:
    FileStore(path).add(Key.issue("a")[0])


def test_processes_that_add_at_once_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_add, [path] * 12)
    assert len(FileStore(path).read()) == 12
