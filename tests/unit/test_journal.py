"""The journal: what was put is on disk or in the database at every moment."""

import contextlib
import fcntl
import logging
import resource
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ledger.journal import Journal
from service.ledger.record import Settlement, UsageRecord
from tests.records import record


def left(folder: Path) -> list[UsageRecord]:
    """What a gateway that starts would find."""
    return [one for remains in Journal(folder).left() for one in remains.records()]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger"


def test_a_record_comes_back_as_it_was(folder: Path) -> None:
    journal = Journal(folder)
    put = [record(f'"\n{settlement}', settlement, model="é\0") for settlement in Settlement]
    for one in put:
        journal.append(one)
    journal.close()
    assert left(folder) == put


def test_it_is_its_owners_alone(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    (file,) = files(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nobody_takes_over_the_file_of_a_process_that_lives(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    assert left(folder) == []
    journal.close()
    assert left(folder) == [record("one")]


def test_only_one_of_two_that_start_takes_over_a_file(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    journal.close()
    one, two = Journal(folder).left(), Journal(folder).left()
    remains = next(one)
    assert list(two) == []
    remains.remove()
    assert list(one) == []
    assert left(folder) == []


def test_a_file_that_another_removes_meanwhile_is_passed_over(folder: Path) -> None:
    for id in ("one", "two"):
        journal = Journal(folder)
        journal.append(record(id))
        journal.close()
    remains = Journal(folder).left()
    next(remains).remove()
    for file in files(folder):
        file.unlink()
    assert list(remains) == []


@pytest.mark.parametrize(
    "rubbish",
    [b"\xff\xfe\0", b"", b"{}", b"7", b'{"id":3}', b'{"at":"2026-', b'{"x":' + b"[" * 100_000],
)
def test_a_line_that_is_no_record_is_skipped_and_counted(folder: Path, rubbish: bytes) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    (file,) = files(folder)
    with file.open("ab") as other:
        other.write(rubbish + b"\n")
    journal.append(record("two"))
    journal.close()
    for remains in Journal(folder).left():
        assert [one.id for one in remains.records()] == ["one", "two"]
        assert remains.rubbish == 1


def test_a_last_line_that_was_cut_off_and_a_time_without_a_zone_are_counted(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    journal.append(record("no-zone", at=datetime(2026, 8, 22)))
    journal.append(record("cut"))
    journal.close()
    (file,) = files(folder)
    file.write_bytes(file.read_bytes()[:-9])
    for remains in Journal(folder).left():
        assert [one.id for one in remains.records()] == ["one"]
        assert remains.rubbish == 2


def test_a_file_that_cannot_be_read_is_said_and_stays(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(folder)
    (folder / "folder.jsonl").mkdir()
    assert list(journal.left()) == []
    (said,) = caplog.records
    assert "cannot be read" in said.message
    journal.close()
    assert files(folder) == [folder / "folder.jsonl"]


def test_what_is_in_the_database_takes_no_room(folder: Path) -> None:
    journal = Journal(folder)
    for _ in range(3):
        for number in range(100):
            journal.append(record(f"{number}"))
        journal.forget(60)
        journal.forget(40)
        assert [file.stat().st_size for file in files(folder)] == [0]
    journal.close()
    assert files(folder) == []


def test_what_is_pending_bounds_the_files_though_there_is_always_something(folder: Path) -> None:
    journal = Journal(folder, lines=10)
    pending = 0
    for number in range(1000):
        journal.append(record(f"{number:03}"))
        pending += 1
        if pending > 7:
            journal.forget(5)
            pending -= 5
        assert len(files(folder)) <= 2
    journal.close()
    ids = [one.id for one in left(folder)]
    assert {f"{number:03}" for number in range(1000 - pending, 1000)} <= set(ids)
    assert len(ids) <= pending + 10


def test_where_no_folder_can_be_the_ledger_goes_on_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    journal = Journal(tmp_path / "state" / "ledger", lines=3)
    for number in range(10):
        journal.append(record(f"{number}"))
        journal.forget(number % 3)
    assert journal.failed
    assert list(journal.left()) == []
    (said,) = caplog.records
    assert "cannot be written" in said.message
    (tmp_path / "state").unlink()
    journal.forget(1)
    assert not journal.failed
    journal.append(record("kept"))
    journal.close()
    assert [one.id for one in left(tmp_path / "state" / "ledger")] == ["kept"]


@contextlib.contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size`: the last write is cut off there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_only_what_finds_no_room(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    journal = Journal(folder)
    with full_at(1000):
        for number in range(6):
            journal.append(record(f"{number}"))
    journal.append(record("late"))  # a line that was cut off stays the last of its file
    assert journal.failed
    (remains,) = (path.read_bytes().splitlines() for path in files(folder))
    assert len(remains) == 4
    assert len(b"".join(remains)) < 1000
    journal.forget(6)
    assert journal.failed  # one is still missing
    journal.forget(1)
    assert not journal.failed
    journal.append(record("again"))
    journal.forget(1)
    texts = [entry.message for entry in caplog.records]
    assert [("cannot be written" in text, "written again" in text) for text in texts] == [
        (True, False),
        (False, True),
    ]
    journal.append(record("last"))
    journal.close()
    assert left(folder) == [record("last")]


def test_a_folder_that_was_deleted_is_made_again(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(record("one"))
    shutil.rmtree(folder)
    journal.forget(1)
    journal.append(record("two"))
    journal.close()
    assert left(folder) == [record("two")]


def test_a_value_that_cannot_be_written_down_is_left_to_the_database(folder: Path) -> None:
    journal = Journal(folder)
    put = [record("text", model="\ud800"), record("object", route=object()), record("good")]
    for one in put:
        journal.append(one)
    assert not journal.failed
    journal.forget(2)
    journal.close()
    assert left(folder) == [record("good")]


@pytest.mark.parametrize("removes", [True, False])
def test_another_that_looks_between_the_making_of_a_file_and_its_lock_costs_no_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch, removes: bool
) -> None:
    lock, looked = fcntl.flock, list[BinaryIO]()

    def flock(descriptor: int, how: int) -> None:
        if not looked:
            (file,) = files(folder)
            looked.append(file.open("rb"))
            if removes:
                file.unlink()
            else:
                lock(looked[0].fileno(), how)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    journal = Journal(folder)
    looked[0].close()
    journal.append(record("one"))
    journal.close()
    assert left(folder) == [record("one")]


def test_no_record_is_lost_where_many_start_and_end_at_once(folder: Path) -> None:
    count, done = 300, threading.Event()
    found: set[str] = set()

    def start() -> None:
        while True:
            last = done.is_set()
            journal = Journal(folder)
            for remains in journal.left():
                found.update(one.id for one in remains.records())
                remains.remove()
            journal.close()
            if last:
                return

    starting = [threading.Thread(target=start) for _ in range(2)]
    for thread in starting:
        thread.start()
    for number in range(count):
        journal = Journal(folder)
        journal.append(record(f"{number}"))
        journal.close()
    done.set()
    for thread in starting:
        thread.join()
    assert found == {f"{number}" for number in range(count)}
    assert list(Journal(folder).left()) == []


@dataclass
class Gateway:
    """One that lives: what it has put and not written, and its journal."""

    journal: Journal
    pending: list[str] = field(default_factory=list)


actions = st.sampled_from(["put", "put", "write", "write-and-die", "die", "start-and-die"])


@given(steps=st.lists(st.tuples(st.integers(0, 1), actions, st.integers(0, 7)), max_size=40))
def test_what_was_put_is_in_the_database_or_on_disk_whoever_dies_and_when(
    steps: list[tuple[int, str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home))
        for place, action, number in steps:
            world.step(place, action, number)
            assert world.put <= world.database | world.on_disk()
        for place in (0, 1):
            world.die(place)
        world.start(0)
        assert world.database == world.put
        assert len(files(world.folder)) == 1


class World:
    """Two gateways on one folder, and a database that is a set."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "ledger"
        self.put: set[str] = set()
        self.database: set[str] = set()
        self._living: dict[int, Gateway] = {}

    def on_disk(self) -> set[str]:
        """In any file, held or not."""
        texts = (file.read_bytes() for file in self.folder.glob("*"))
        return {line.split(b'"')[3].decode() for text in texts for line in text.splitlines()}

    def step(self, place: int, action: str, number: int) -> None:
        if action == "start-and-die":
            self.die(place)
            self.start(place, last=number)
            self.die(place)
            return
        gateway = self._living.get(place) or self.start(place)
        if action == "put":
            for _ in range(number):
                id = f"{len(self.put)}"
                gateway.journal.append(record(id))
                gateway.pending.append(id)
                self.put.add(id)
        elif action.startswith("write"):
            written, gateway.pending = gateway.pending[:number], gateway.pending[number:]
            self.database.update(written)
            if action == "write":
                gateway.journal.forget(len(written))
            else:
                self.die(place)
        else:
            self.die(place)

    def start(self, place: int, last: int | None = None) -> Gateway:
        """Begin, and take over what is left, but stop before removing file number `last`."""
        gateway = self._living[place] = Gateway(Journal(self.folder, lines=3))
        for number, remains in enumerate(gateway.journal.left()):
            self.database.update(one.id for one in remains.records())
            if number == last:
                break
            remains.remove()
        return gateway

    def die(self, place: int) -> None:
        """As by `kill -9`, but that an empty file is removed."""
        if gateway := self._living.pop(place, None):
            gateway.journal.close()
