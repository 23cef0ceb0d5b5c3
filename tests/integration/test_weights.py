"""The published weights arrive whole, or a single line says why not.

These tests cannot use the real Hub: it is out of reach where they run, 65 GB is too much for a
test, and it fails only when it wants to. `tests/integration/hub.py` speaks its wire protocol
instead, on 127.0.0.1, with faults on demand; processes are really killed, and the disk that is full
is the kernel's own `/dev/full`. Where it counts, huggingface_hub itself is the judge: it downloads
from the same server, and it reads the cache that results.
"""

import errno
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine import weights
from service.engine.weights import cache, fetch, meter, published
from service.engine.weights.hub import Hub
from service.errors import UserError
from tests.integration.hub import REPO, FakeHub, Faults, Served, fetch_and_die
from tests.process import environment, free_port

LFS = frozenset({"model-1.safetensors", "model-2.safetensors", "original/model.safetensors"})
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.integration.hub", "service.engine.weights.hub", "huggingface_hub.constants"]
)


def make_files(scale: int = 1) -> dict[str, bytes]:
    """A repository of the shape of gpt-oss-20b, a little smaller."""
    noise = random.Random(20)
    return {
        "config.json": b'{"model_type": "gpt_oss"}\n',
        "templates/chat.jinja": noise.randbytes(3_000),
        "LICENSE": b"Apache-2.0\n",
        "templates/LICENSE": b"Apache-2.0\n",  # the same content twice: one blob
        "empty.txt": b"",
        "also_empty.txt": b"",
        "model-1.safetensors": noise.randbytes(300_000 // scale),
        "model-2.safetensors": noise.randbytes(200_000 // scale),
        "original/model.safetensors": noise.randbytes(1_000),
        "original/config.json": b"{}",
        "metal/model.bin": noise.randbytes(1_000),
    }


@dataclass
class Seen:
    """What the progress callback was told."""

    calls: list[tuple[int, int, str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __call__(self, done: int, total: int, note: str) -> None:
        self.calls.append((done, total, note))
        self.threads.add(threading.get_ident())

    @property
    def notes(self) -> set[str]:
        return {note for _, _, note in self.calls}


@dataclass
class Place:
    """A machine: its cache, its stamps, and the Hub it sees."""

    hub: FakeHub
    cache: Path
    stamps: Path
    asks: Hub

    def fetch(
        self,
        *,
        revision: str | None = None,
        offline: bool = False,
        progress: weights.Progress | None = None,
    ) -> Path:
        return fetch(
            REPO,
            revision=revision,
            stamps=self.stamps,
            offline=offline,
            progress=progress or Seen(),
            hub=self.asks,
            cache=self.cache,
        )

    def fails(self, *, offline: bool = False) -> str:
        """The one line that a failing fetch says."""
        with pytest.raises(UserError) as caught:
            self.fetch(offline=offline)
        line = str(caught.value)
        assert line and "\n" not in line
        assert ": " in line, "what is wrong, then what to do"
        return line

    def killed(self, at: int) -> None:
        """A fetch that is ended by SIGKILL once `at` bytes are there."""
        child = FORKS.Process(
            target=fetch_and_die, args=(self.hub.endpoint, self.stamps, self.cache, at)
        )
        child.start()
        child.join(20)
        if child.exitcode is None:
            child.kill()
        assert child.exitcode == -signal.SIGKILL

    @property
    def repo(self) -> Path:
        return self.cache / "models--openai--gpt-oss-20b"

    def partial(self, name: str) -> Path:
        return self.repo / "blobs" / f"{self.hub.digest(name)}.incomplete"

    def gathered(self, name: str) -> int:
        return self.partial(name).stat().st_size if self.partial(name).exists() else 0


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_for_the_hub_only")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(make_files(), LFS).listening() as running:
        yield running


@pytest.fixture
def place(hub: FakeHub, tmp_path: Path) -> Place:
    asks = Hub(hub.endpoint, attempts=3, pause=0.01, silence=5)
    return Place(hub, tmp_path / "hf", tmp_path / "stamps", asks)


def wanted(hub: FakeHub) -> dict[str, bytes]:
    return {n: b for n, b in hub.files.items() if not n.startswith(("original/", "metal/"))}


def is_right(folder: Path, hub: FakeHub) -> bool:
    """Whether the folder holds the published bytes, and nothing else."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return found == wanted(hub)


def tamper(path: Path) -> None:
    """Flip a bit in place, as a failing disk or a careless tool does; its mtime moves on."""
    before = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    while path.stat().st_mtime_ns == before:
        path.write_bytes(content)


def of(served: list[Served], name: str) -> list[tuple[int, int]]:
    return [(answer.start, answer.sent) for answer in served if answer.name == name]


# --- what arrives -----------------------------------------------------------------------------


def test_a_snapshot_arrives_in_the_standard_cache(place: Place) -> None:
    seen = Seen()
    folder = place.fetch(progress=seen)

    assert folder == place.repo / "snapshots" / place.hub.commit
    assert is_right(folder, place.hub)
    assert not [path for path in place.hub.requests if "original/" in path or "metal/" in path]
    # huggingface_hub finds it, by branch and without network: so does vLLM.
    local = huggingface_hub.snapshot_download(REPO, cache_dir=place.cache, local_files_only=True)
    assert Path(local) == folder
    assert not list(place.repo.rglob("*.incomplete"))
    assert seen.threads == {threading.get_ident()}
    for note in ("downloading", "verifying"):
        done = [d for d, _, n in seen.calls if n == note]
        total = sum(map(len, set(wanted(place.hub).values())))
        assert done == sorted(done)
        assert done[-1] == total


def test_what_is_published_is_known_before_any_byte(place: Place) -> None:
    manifest = published(REPO, hub=place.asks)
    assert manifest.commit == place.hub.commit
    assert {(f.name, f.size, f.digest) for f in manifest.files} == {
        (name, len(body), place.hub.digest(name)) for name, body in wanted(place.hub).items()
    }
    assert len(place.hub.requests) == 1


def test_a_second_run_downloads_and_hashes_nothing(place: Place) -> None:
    place.fetch()
    place.hub.forget()
    seen = Seen()
    assert is_right(place.fetch(progress=seen), place.hub)
    assert place.hub.requests == [f"/api/models/{REPO}/revision/main"]
    assert "verifying" not in seen.notes


def test_weights_that_huggingface_hub_fetched_are_used(place: Place) -> None:
    for name in wanted(place.hub):
        huggingface_hub.hf_hub_download(
            REPO, name, cache_dir=place.cache, endpoint=place.hub.endpoint
        )
    huggingface_hub.close_session()
    place.hub.forget()
    seen = Seen()
    assert is_right(place.fetch(progress=seen), place.hub)
    assert not place.hub.served
    assert "verifying" in seen.notes, "they were not verified before"


def test_a_new_commit_fetches_only_what_changed(place: Place) -> None:
    place.fetch()
    place.hub.files["config.json"] = b'{"model_type": "gpt_oss", "new": true}\n'
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    assert [answer.name for answer in place.hub.served] == ["config.json"]


def test_a_pinned_commit_that_is_verified_needs_no_network(place: Place) -> None:
    commit = place.hub.commit
    folder = place.fetch(revision=commit)
    place.hub.forget()
    assert place.fetch(revision=commit) == folder
    assert not place.hub.requests


def test_the_token_goes_to_the_hub_and_not_to_its_cdn(place: Place) -> None:
    place.fetch()
    for path, token in place.hub.tokens.items():
        assert token == (None if path.startswith("/cdn/") else "Bearer hf_for_the_hub_only"), path
    assert any(path.startswith("/cdn/") for path in place.hub.tokens)


def test_two_at_once_download_once(place: Place) -> None:
    place.hub.faults.delay = 0.01
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(place.fetch()), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 2
    assert is_right(results[0], place.hub)
    digests = sorted(place.hub.digest(answer.name) for answer in place.hub.served)
    assert digests == sorted({place.hub.digest(n) for n, body in wanted(place.hub).items() if body})


# --- interruptions ----------------------------------------------------------------------------


def test_a_cut_connection_continues_where_it_was(place: Place) -> None:
    place.hub.faults.cut = 70_000
    assert is_right(place.fetch(), place.hub)
    answers = of(place.hub.served, "model-1.safetensors")
    assert len(answers) == 5
    assert sum(sent for _, sent in answers) == 300_000, "no byte was sent twice"
    assert [start for start, _ in answers] == [0, 70_000, 140_000, 210_000, 280_000]


def test_after_giving_up_the_next_run_continues(place: Place) -> None:
    place.hub.faults = Faults(cut=70_000)
    place.asks = replace(place.asks, attempts=1)
    line = place.fails()
    assert "broke" in line
    assert "continues" in line
    had = {name: place.gathered(name) for name in LFS}
    assert max(had.values()) == 70_000

    place.hub.faults = Faults()
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    for name, body in wanted(place.hub).items():
        if name in LFS:
            assert of(place.hub.served, name) == [(had[name], len(body) - had[name])]


@pytest.mark.parametrize("at", [30_000, 250_000, 480_000])
def test_after_kill_9_only_the_rest_is_requested(place: Place, at: int) -> None:
    place.hub.faults.delay = 0.01
    place.killed(at)
    had = {name: place.gathered(name) for name in ("model-1.safetensors", "model-2.safetensors")}
    assert sum(had.values()) > 0

    place.hub.faults = Faults()
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    for name, start in had.items():
        rest = len(place.hub.files[name]) - start
        assert of(place.hub.served, name) == ([(start, rest)] if rest else [])


def test_ctrl_c_passes_through_and_the_next_run_continues(place: Place) -> None:
    def interrupt(done: int, total: int, note: str) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    place.hub.faults.delay = 0.02
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        place.fetch(progress=interrupt)
    assert time.monotonic() - begun < 5
    had = place.gathered("model-1.safetensors")
    assert 0 < had < 300_000
    place.hub.faults = Faults()
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    assert of(place.hub.served, "model-1.safetensors") == [(had, 300_000 - had)]


def test_a_server_without_ranges_sends_all_of_it_again(place: Place) -> None:
    place.hub.faults = Faults(cut=70_000, cuts=1, no_ranges=True)
    seen = Seen()
    assert is_right(place.fetch(progress=seen), place.hub)
    assert seen.calls[-1][0] == seen.calls[-1][1]


def test_a_partial_file_that_is_too_long_begins_anew(place: Place) -> None:
    place.repo.joinpath("blobs").mkdir(parents=True)
    place.partial("model-1.safetensors").write_bytes(bytes(400_000))
    assert is_right(place.fetch(), place.hub)


# --- wrong bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model-2.safetensors", "config.json"])
def test_wrong_bytes_are_refused_and_fetched_anew_by_the_next_run(place: Place, name: str) -> None:
    place.hub.faults.wrong = {name}
    line = place.fails()
    assert name in line
    assert "run again" in line
    assert not (place.repo / "snapshots" / place.hub.commit / name).exists()
    assert not (place.repo / "blobs" / place.hub.digest(name)).exists()

    place.hub.faults = Faults()
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    assert [answer.name for answer in place.hub.served] == [name]


@pytest.mark.parametrize("name", ["model-2.safetensors", "templates/chat.jinja"])
def test_a_file_changed_after_its_stamp_is_noticed(place: Place, name: str) -> None:
    folder = place.fetch()
    tamper(folder / name)
    line = place.fails()
    assert name in line
    place.hub.forget()
    assert is_right(place.fetch(), place.hub)
    assert [answer.name for answer in place.hub.served] == [name]


def test_all_names_of_changed_bytes_are_told(place: Place) -> None:
    folder = place.fetch()
    tamper(folder / "LICENSE")
    assert "LICENSE, templates/LICENSE of" in place.fails()
    assert is_right(place.fetch(), place.hub)


def test_a_wrong_file_that_cannot_be_removed_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    tamper(place.fetch() / "config.json")
    monkeypatch.setattr(cache.Cache, "discard", refuse)
    for _ in range(2):
        line = place.fails()
        assert "config.json is not what the Hub published" in line
        assert "Read-only file system" in line


def test_a_touched_file_is_hashed_again_and_kept(place: Place) -> None:
    folder = place.fetch()
    os.utime(folder / "config.json")
    place.hub.forget()
    seen = Seen()
    place.fetch(progress=seen)
    assert not place.hub.served
    assert {total for _, total, note in seen.calls if note == "verifying"} == {
        len(place.hub.files["config.json"])
    }


def test_a_spoiled_partial_file_is_not_accepted(place: Place) -> None:
    place.repo.joinpath("blobs").mkdir(parents=True)
    place.partial("model-1.safetensors").write_bytes(bytes(100_000))
    assert "model-1.safetensors" in place.fails()
    assert is_right(place.fetch(), place.hub)


def test_names_that_leave_the_folder_are_refused(place: Place) -> None:
    place.hub.files["../../evil"] = b"x"
    assert "does not answer as a Hugging Face Hub" in place.fails()
    assert not place.cache.exists()


def test_a_disk_without_links_holds_the_files_themselves(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(cache, "_SMALL", 100_000)
    assert is_right(place.fetch(), place.hub)
    place.hub.forget()
    seen = Seen()
    assert is_right(place.fetch(progress=seen), place.hub)
    assert not place.hub.served
    assert "verifying" not in seen.notes


# --- space and disks --------------------------------------------------------------------------


def test_too_little_space_is_told_before_any_file_is_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=400_000))
    line = place.fails()
    assert "needs 503.0 kB more (503.0 kB in all, 0 B here)" in line
    assert "400.0 kB free, 103.0 kB too little" in line
    assert len(place.hub.requests) == 1


def test_space_counts_only_what_is_still_missing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.repo.joinpath("blobs").mkdir(parents=True)
    begun = place.hub.files["model-1.safetensors"][:200_000]
    place.partial("model-1.safetensors").write_bytes(begun)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=310_000))
    assert is_right(place.fetch(), place.hub)


def test_a_disk_that_fills_in_the_middle(place: Place) -> None:
    place.repo.joinpath("blobs").mkdir(parents=True)
    place.partial("model-1.safetensors").symlink_to("/dev/full")
    line = place.fails()
    assert "is full" in line
    place.partial("model-1.safetensors").unlink()
    assert is_right(place.fetch(), place.hub)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that the current user may read but not write; root becomes nobody meanwhile."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        else:
            folder.chmod(0o555)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_cache_that_may_not_be_written(hub: FakeHub, unprivileged: Path) -> None:
    stamps = Path(tempfile.mkdtemp())
    try:
        place = Place(hub, unprivileged / "hf", stamps, Hub(hub.endpoint))
        line = place.fails()
        assert str(unprivileged) in line
        assert "HF_HOME" in line
        assert not hub.served
        place.stamps = unprivileged / "stamps"
        assert "GPTOSS_CACHE_DIR" in place.fails()
    finally:
        shutil.rmtree(stamps)


# --- what the network does --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        (Faults(api=401), "HF_TOKEN"),
        (Faults(api=401, code="RepoNotFound"), "check the name"),
        (Faults(api=403), "forbids"),
        (Faults(api=403, code="GatedRepo"), "accept its terms"),
        (Faults(api=404), "check the name and revision"),
        (Faults(api=404, code="RevisionNotFound"), "no revision main"),
        (Faults(api=429), "429, 3 times in a row: try again in some minutes"),
        (Faults(api=500), "500, 3 times in a row"),
        (Faults(api=504), "504"),
        (Faults(html="api"), "does not answer as a Hugging Face Hub"),
        (Faults(files=401), "401"),
        (Faults(files=403), "forbids"),
        (Faults(files=404), "404"),
        (Faults(files=429), "429"),
        (Faults(files=503), "503"),
        (Faults(html="files"), "a proxy, login page"),
        (Faults(cdn=403), "where the Hub sends us, answers 403"),
        (Faults(cdn=416), "416"),
        (Faults(cdn=500), "500"),
    ],
    ids=str,
)
def test_each_refusal_is_one_line_and_leaves_no_harm(
    place: Place, faults: Faults, says: str
) -> None:
    place.hub.faults = faults
    assert says in place.fails()
    place.hub.faults = Faults()
    assert is_right(place.fetch(), place.hub)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_waited_for(place: Place, status: int) -> None:
    place.hub.faults = Faults(api=status, files=status, cdn=status, times=2)
    seen = Seen()
    assert is_right(place.fetch(progress=seen), place.hub)


def test_the_time_that_the_hub_asks_for_is_kept(place: Place) -> None:
    place.hub.faults = Faults(api=429, times=1, wait="1")
    begun = time.monotonic()
    place.fetch()
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://hub.invalid", "cannot find hub.invalid (DNS"),
        ("http://127.0.0.1:PORT", "cannot connect to 127.0.0.1"),
        ("huggingface.co", "set HF_ENDPOINT to https://"),
    ],
)
def test_no_network_is_told_at_once(place: Place, endpoint: str, says: str) -> None:
    endpoint = endpoint.replace("PORT", str(free_port()))
    place.asks = Hub(endpoint)  # with its real pauses: none is made
    begun = time.monotonic()
    assert says in place.fails()
    assert time.monotonic() - begun < 10


def test_a_silent_server_is_given_up(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        place.asks = Hub(endpoint, attempts=2, pause=0.01, silence=0.3)
        assert "broke" in place.fails()


def test_a_name_or_revision_that_is_none(place: Place) -> None:
    for repo, revision in (("gpt-oss-20b", None), ("../..", None), (REPO, "../main")):
        with pytest.raises(UserError, match=r"is no (repository|revision)"):
            fetch(repo, revision=revision, stamps=place.stamps, hub=place.asks, cache=place.cache)


# --- offline ----------------------------------------------------------------------------------


def test_offline_uses_what_was_verified_and_asks_nobody(place: Place) -> None:
    folder = place.fetch()
    place.hub.forget()
    assert place.fetch(offline=True) == folder
    assert place.fetch(offline=True, revision=place.hub.commit) == folder
    assert not place.hub.requests


def test_offline_says_what_is_missing(place: Place) -> None:
    assert "never verified on this machine" in place.fails(offline=True)
    folder = place.fetch()
    (folder / "config.json").resolve().unlink()
    assert "config.json of openai/gpt-oss-20b is missing" in place.fails(offline=True)


def test_offline_still_notices_a_changed_file(place: Place) -> None:
    tamper(place.fetch() / "config.json")
    place.hub.forget()
    assert "config.json" in place.fails(offline=True)
    assert not place.hub.requests


# --- the command ------------------------------------------------------------------------------

COMMAND = """
import sys, typer
from service.cli.weights import weights
from service.errors import UserError
try:
    typer.run(weights)
except UserError as error:
    sys.exit(f"gptoss: {error}")
"""


def command(place: Place, *options: str, **extra: str) -> subprocess.Popen[str]:
    home = place.cache.parent
    env = environment(home, {"HF_ENDPOINT": place.hub.endpoint, "HF_HOME": str(home)} | extra)
    argv = [sys.executable, "-c", COMMAND, "gpt-oss-20b", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=env, stdout=pipe, stderr=pipe, text=True)


def test_the_command_prints_the_folder_and_survives_ctrl_c(place: Place) -> None:
    place.hub.faults.delay = 0.05
    interrupted = command(place)
    deadline = time.monotonic() + 20
    while not any("/cdn/" in path for path in place.hub.requests):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    partial = place.cache.parent.rglob
    while not any(path.stat().st_size for path in partial("*.incomplete")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=20)
    assert (interrupted.returncode, out) == (130, "")
    assert "run again, it continues" in err
    assert "Traceback" not in err

    place.hub.faults = Faults()
    done = command(place)
    out, err = done.communicate(timeout=20)
    assert done.returncode == 0, err
    folder = Path(out.strip())
    assert folder.is_relative_to(place.cache.parent / "hub")
    assert is_right(folder, place.hub)
    assert any(answer.start > 0 for answer in place.hub.served)

    place.hub.forget()
    offline = command(place, HF_HUB_OFFLINE="1")
    assert offline.communicate(timeout=20)[0] == out
    assert not place.hub.requests


# --- all of it, in any order ------------------------------------------------------------------

SMALL = make_files(scale=5)
NAMES = st.sampled_from(
    sorted(n for n in SMALL if SMALL[n] and not n.startswith(("orig", "metal")))
)
EVENTS = st.one_of(
    st.tuples(st.just("run"), st.none()),
    st.tuples(st.just("offline"), st.none()),
    st.tuples(st.just("kill"), st.integers(0, 100_000)),
    st.tuples(st.just("interrupt"), st.integers(0, 100_000)),
    st.tuples(st.just("cut"), st.integers(0, 60_000)),
    st.tuples(st.just("wrong"), NAMES),
    st.tuples(st.just("tamper"), NAMES),
    st.tuples(st.just("tamper-partial"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("forget-stamps"), st.none()),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=8))
def test_whatever_happens_no_wrong_file_is_accepted_and_it_heals(
    events: list[tuple[str, int | str | None]],
) -> None:
    """After each event: the right folder or one line. At the end, with a sound Hub: the folder."""
    with (
        tempfile.TemporaryDirectory() as home,
        FakeHub(dict(SMALL), LFS).listening() as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(meter, "REPORT_EVERY", 0.001)
        asks = Hub(hub.endpoint, attempts=1, pause=0.001, silence=5)
        place = Place(hub, Path(home, "hf"), Path(home, "stamps"), asks)
        for event, detail in events:
            apply(place, event, detail)
        hub.faults = Faults()
        for _ in range(2):  # the first may find and remove what was spoiled
            if outcome(place):
                break
        else:
            assert outcome(place)


def apply(place: Place, event: str, detail: int | str | None) -> None:
    match event, detail:
        case "run", _:
            outcome(place)
        case "offline", _:
            outcome(place, offline=True)
        case "kill", int(at):
            place.hub.faults.delay = 0.001
            child = FORKS.Process(
                target=fetch_and_die, args=(place.hub.endpoint, place.stamps, place.cache, at)
            )
            child.start()
            child.join(20)
            assert child.exitcode is not None
            place.hub.faults.delay = 0
        case "interrupt", int(at):
            place.hub.faults.delay = 0.001
            outcome(place, at=at)
            place.hub.faults.delay = 0
        case "cut", int(after):
            place.hub.faults = Faults(cut=after)
            outcome(place)
            place.hub.faults = Faults()
        case "wrong", str(name):
            place.hub.faults = Faults(wrong={name})
            outcome(place)
            place.hub.faults = Faults()
        case "tamper", str(name):
            path = place.repo / "blobs" / place.hub.digest(name)
            if path.exists():
                tamper(path)
        case "tamper-partial", str(name):
            if place.gathered(name):
                tamper(place.partial(name))
        case "delete", str(name):
            (place.repo / "blobs" / place.hub.digest(name)).unlink(missing_ok=True)
        case "forget-stamps", _:
            shutil.rmtree(place.stamps, ignore_errors=True)


def outcome(place: Place, *, offline: bool = False, at: int | None = None) -> bool:
    """Fetch; whether it ended with a folder, which then is right."""

    def interrupt(done: int, total: int, note: str) -> None:
        if at is not None and done >= at:
            raise KeyboardInterrupt

    try:
        folder = place.fetch(offline=offline, progress=interrupt)
    except UserError as error:
        assert "\n" not in str(error)
        return False
    except KeyboardInterrupt:
        return False
    assert is_right(folder, place.hub)
    return True


def test_every_line_fits_in_one() -> None:
    """Messages of others are cut and joined before they become a part of ours."""
    from service.engine.weights.faults import disk, flat

    assert flat("a\nb\r\n c" + "x" * 999).startswith("a b c")
    assert "\n" not in str(disk(OSError(errno.EIO, "Input/output error", "/x"), Path("/y")))
    assert re.fullmatch(r"1\.5 kB", weights.human(1500))
