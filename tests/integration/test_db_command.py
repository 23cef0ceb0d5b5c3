"""`gptoss db`, as it is run on a cluster: before the database is there, or is upgraded."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.process import GPTOSS, environment, free_port
from tests.servers.postgres import Postgres

LONG = "60"


@dataclass
class Command:
    """A `gptoss db …` that runs, and what it complained of until now."""

    process: "subprocess.Popen[str]"
    complaints: list[str] = field(default_factory=list)
    _told: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until_it_waits(self) -> None:
        """Until it has said so."""
        assert self._told.wait(30)

    def ended(self) -> tuple[int, str]:
        """Status, and what it printed."""
        assert self.process.stdout
        printed = self.process.stdout.read()
        status = self.process.wait(60)
        self._reader.join()
        assert "Traceback" not in "".join(self.complaints)
        return status, printed

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.complaints.append(line)
            self._told.set()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


def start(home: Path, url: str, *words: str) -> Command:
    pipe = subprocess.PIPE
    env = environment(home, {"GPTOSS_DATABASE__URL": url})
    return Command(
        subprocess.Popen([*GPTOSS, "db", *words], env=env, stdout=pipe, stderr=pipe, text=True)
    )


def run(home: Path, url: str, *words: str) -> int:
    return start(home, url, *words).ended()[0]


def test_status_waits_until_somebody_has_upgraded(server: Postgres, tmp_path: Path) -> None:
    url = server.database()
    waiting = start(tmp_path, url, "status", "--wait", LONG)
    waiting.until_it_waits()
    assert waiting.process.poll() is None
    assert run(tmp_path, url, "upgrade") == 0
    status, printed = waiting.ended()
    assert status == 0
    assert printed.endswith(": up to date\n")
    (line,) = waiting.complaints
    assert re.match(r"gptoss: waits, \d+ s at most: database .* is not up to date", line)


@pytest.mark.parametrize("command", ["status", "upgrade"])
def test_it_waits_until_the_database_can_be_reached(
    server: Postgres, tmp_path: Path, command: str
) -> None:
    url = server.database()
    if command == "status":
        assert run(tmp_path, url, "upgrade") == 0
    server.stop()
    try:
        waiting = start(tmp_path, url, command, "--wait", LONG)
        waiting.until_it_waits()
    finally:
        server.start()
    assert waiting.ended()[0] == 0
    assert len(waiting.complaints) == 1
    assert run(tmp_path, url, "status") == 0


def test_at_the_end_of_the_wait_the_last_reason_is_told(server: Postgres, tmp_path: Path) -> None:
    nowhere = f"postgresql://u:secret@127.0.0.1:{free_port()}/none"
    for url, command, says in (
        (server.database(), "status", "run `gptoss db upgrade`"),
        (nowhere, "status", "check it and database.url"),
        (nowhere, "upgrade", "check it and database.url"),
    ):
        ended = start(tmp_path, url, command, "--wait", "1")
        assert ended.ended() == (1, "")
        *_, last = ended.complaints
        assert last.startswith("gptoss: database ")
        assert says in last
        assert "secret" not in "".join(ended.complaints)


def test_what_waiting_does_not_mend_ends_it_at_once(tmp_path: Path) -> None:
    for command in ("status", "upgrade"):
        ended = start(tmp_path, "mysql://u@h/d", command, "--wait", LONG)
        assert ended.ended() == (1, "")
        assert len(ended.complaints) == 1, "and it did not say that it waits"


def test_the_schema_of_a_newer_version_is_nothing_to_wait_for(
    server: Postgres, tmp_path: Path
) -> None:
    """As gateways find it that start during an upgrade, or after the way back from one."""
    url = server.database()
    assert run(tmp_path, url, "upgrade") == 0
    server.execute("UPDATE alembic_version SET version_num = '9999'", url)
    for command in ("status", "upgrade"):
        ended = start(tmp_path, url, command, "--wait", LONG)
        status, _ = ended.ended()
        assert status == 0
        assert ended.complaints == ["the database is of a newer gptoss\n"]


def test_without_a_wait_it_tells_at_once(server: Postgres, tmp_path: Path) -> None:
    ended = start(tmp_path, server.database(), "status")
    assert ended.ended() == (1, "")
    assert len(ended.complaints) == 1


def test_a_wait_ends_by_a_signal(server: Postgres, tmp_path: Path) -> None:
    waiting = start(tmp_path, server.database(), "status", "--wait", LONG)
    waiting.until_it_waits()
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.ended() == (128 + signal.SIGTERM, "")
