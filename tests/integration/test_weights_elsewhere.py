"""Weights that another process provides: a Job on a volume that engines may only read."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.engine import tiny
from service.engine.tiny import TinyRecipe
from service.engine.weights import fetch, found
from service.engine.weights.hub import Hub
from service.errors import UserError
from tests.integration.hub import REPO, FakeHub
from tests.integration.test_weights import LFS, Place, is_right, make_files, tamper
from tests.process import GPTOSS, environment

# Before a command of ours: whatever would change something in the folder is refused, as a volume
# does that is mounted for reading, and which a test may not mount everywhere.
READ_ONLY = """
import errno, os, sys

folder = sys.argv.pop(1)
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.utime",
           "os.chmod", "os.truncate"}

def hook(event, arguments):
    changes = event in CHANGES or (
        event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    )
    if changes and any(os.fsdecode(each).startswith(folder) for each in arguments[:2]
                       if isinstance(each, (str, bytes, os.PathLike))):
        print("wrote", event, arguments, file=sys.stderr)
        raise OSError(errno.EROFS, "Read-only file system")

sys.addaudithook(hook)
"""
COMMAND = READ_ONLY + "from service.cli.main import main; sys.exit(main())"
ENGINE = (
    READ_ONLY
    + f"""
from pathlib import Path
from service.engine import tiny
from service.engine.weights import fetch
cache = Path(folder, ".cache", "gptoss")
print(fetch({REPO!r}, stamps=cache / "weights"))
print(tiny.ensure(cache))
"""
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where the commands look: HF_HOME and the cache folder of a home of the test's own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    home = tmp_path / "home"
    with FakeHub(make_files(), LFS).listening() as hub:
        asks = Hub(hub.endpoint, attempts=3, pause=0.01, silence=5)
        yield Place(hub, home / "hub", home / ".cache" / "gptoss" / "weights", asks)


def built(place: Place) -> Path:
    """The folder of the tiny model, as if it was built: its name is given last."""
    folder = tiny.location(place.stamps.parent)
    folder.mkdir(parents=True)
    return folder


def start(place: Place, *argv: str, **extra: str) -> "subprocess.Popen[str]":
    home = place.cache.parent
    own = {"HF_ENDPOINT": place.hub.endpoint, "HF_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    env = environment(home, own | extra)
    return subprocess.Popen(argv, env=env, stdout=pipe, stderr=pipe, text=True)


def run(place: Place, *argv: str, **extra: str) -> tuple[int, str, str]:
    command = start(place, *argv, **extra)
    out, err = command.communicate(timeout=60)
    assert "Traceback" not in err, err
    return command.returncode, out.strip(), err.strip()


def weights(*words: str) -> list[str]:
    return [*GPTOSS, "weights", *words]


def until_it_says(command: "subprocess.Popen[str]") -> str:
    assert command.stderr
    return command.stderr.readline()


# --- waiting ----------------------------------------------------------------------------------


def test_it_waits_until_another_process_has_fetched_them(place: Place) -> None:
    waiting = start(place, *weights("gpt-oss-20b", "--offline", "--wait", "60"))
    assert "gptoss: waits, 60 s at most: offline, and" in until_it_says(waiting)
    folder = place.fetch()
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, err) == (0, ""), "it says once a minute that it waits"
    assert Path(out.strip()) == folder
    assert is_right(folder, place.hub)


def test_what_it_waits_for_is_complete_and_verified(place: Place) -> None:
    """Looked at all the while it is fetched, it is found only when it is."""
    place.hub.faults.delay = 0.01
    early: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                folder = found(REPO, stamps=place.stamps, cache=place.cache)
            except UserError:
                continue
            if not is_right(folder, place.hub):
                early.append("it was not whole")

    looker = threading.Thread(target=look)
    looker.start()
    try:
        folder = place.fetch()
    finally:
        ended.set()
        looker.join()
    assert not early
    assert found(REPO, stamps=place.stamps, cache=place.cache) == folder


def test_what_changed_since_it_was_verified_is_not_found(place: Place) -> None:
    tamper(place.fetch() / "config.json")
    with pytest.raises(UserError, match=r"config\.json of .* or changed since: run once"):
        found(REPO, stamps=place.stamps, cache=place.cache)


def test_a_file_that_lacks_its_name_is_not_found(place: Place) -> None:
    (place.fetch() / "LICENSE").unlink()
    with pytest.raises(UserError, match="LICENSE of"):
        found(REPO, stamps=place.stamps, cache=place.cache)


def test_at_the_end_of_the_wait_the_last_reason_is_told(place: Place) -> None:
    status, out, err = run(place, *weights("gpt-oss-20b", "--offline", "--wait", "0.5"))
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("gptoss: offline, and openai/gpt-oss-20b at main was")
    status, out, err = run(place, *weights("gpt-oss-tiny", "--offline", "--wait", "0.5"))
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("gptoss: the tiny model is not in ")


def test_a_wait_ends_by_a_signal(place: Place) -> None:
    waiting = start(place, *weights("gpt-oss-20b", "--offline", "--wait", "60"))
    until_it_says(waiting)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(30) == 128 + signal.SIGTERM
    waiting.communicate()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gpt-oss-20b", "--wait", "5"), "give --offline, too"),
        (("gpt-oss-20b", "--offline", "--wait", "60", "--revision", "../x"), "is no revision"),
        (("gpt-oss-tiny", "--revision", "main"), "has no revisions"),
        (("gpt-oss-tiny", "--offline"), "build it with `gptoss weights gpt-oss-tiny`"),
        (("gpt-4",), "no model is called 'gpt-4'"),
    ],
)
def test_what_cannot_be_is_told_at_once(place: Place, words: tuple[str, ...], says: str) -> None:
    status, out, err = run(place, *weights(*words))
    assert (status, out) == (1, "")
    assert says in err
    assert err.count("\n") == 0
    assert not place.hub.requests


# --- the tiny model ---------------------------------------------------------------------------


def test_the_tiny_model_is_waited_for_and_its_folder_printed(place: Place) -> None:
    pytest.importorskip("torch")
    waiting = start(place, *weights("gpt-oss-tiny", "--offline", "--wait", "60"))
    assert "the tiny model is not in" in until_it_says(waiting)
    folder = built(place)
    assert waiting.communicate(timeout=60) == (f"{folder}\n", "")
    for words in (("gpt-oss-tiny",), ("gpt-oss-tiny", "--offline")):
        assert run(place, *weights(*words)) == (0, str(folder), "")


def test_without_the_packages_that_name_it_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the gateway's image."""
    from importlib.metadata import PackageNotFoundError

    def lacks(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("service.engine.tiny.recipe.version", lacks)
    for find in (tiny.ensure, tiny.found):
        with pytest.raises(UserError, match=r"needs the package 'torch': install gptoss-serving"):
            find(tmp_path, recipe=TinyRecipe())


# --- a volume for reading ---------------------------------------------------------------------


def test_verified_weights_are_used_from_a_volume_that_may_only_be_read(place: Place) -> None:
    pytest.importorskip("torch")
    folder, model = place.fetch(), built(place)
    before = snapshot(place.cache.parent)
    volume = str(place.cache.parent)
    wait = ("--wait", "5")
    for printed, *words in (
        (folder, "gpt-oss-20b", "--offline"),
        (folder, "gpt-oss-20b", "--offline", "--revision", place.hub.commit),
        (folder, "gpt-oss-20b", "--offline", *wait),
        (model, "gpt-oss-tiny"),
        (model, "gpt-oss-tiny", "--offline", *wait),
    ):
        command = (sys.executable, "-c", COMMAND, volume, "weights", *map(str, words))
        assert run(place, *command) == (0, str(printed), "")
    engine = run(place, sys.executable, "-c", ENGINE, volume, HF_HUB_OFFLINE="1")
    assert engine == (0, f"{folder}\n{model}", "")
    assert snapshot(place.cache.parent) == before


def test_the_volume_of_these_tests_may_only_be_read(place: Place) -> None:
    volume = str(place.cache.parent)
    command = (sys.executable, "-c", COMMAND, volume, "weights", "gpt-oss-20b")
    status, _, err = run(place, *command)
    assert status == 1
    assert "may not be changed by this user" in err


def test_a_pinned_commit_that_is_verified_adds_nothing_to_the_stamps(place: Place) -> None:
    place.fetch()
    before = snapshot(place.stamps)
    fetch(
        REPO,
        revision=place.hub.commit,
        stamps=place.stamps,
        cache=place.cache,
        hub=place.asks,
        offline=True,
    )
    assert snapshot(place.stamps) == before


def snapshot(folder: Path) -> dict[str, int]:
    """Everything in a folder, and when it changed."""
    return {str(path): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}
