"""`gptoss selftest`, as the chart's `helm test` runs it: through a gateway, with a key or without.

What the requests are and what is wrong with an answer is `service.engine.selftest`'s; a real vLLM
is asked in `tests/e2e`.
"""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.tenants.team import Team
from tests.integration.fleet import Gateway
from tests.integration.speaking_engine import MODEL, SpeakingEngine
from tests.office import Office
from tests.process import GPTOSS, environment, free_port

PASSED = [
    f"{MODEL}: {request}: well-formed,"
    for request in ("chat completion", "streamed completion", "tool call")
]


@dataclass(frozen=True)
class Place:
    """A gateway in front of an engine that speaks, and a shell on the gateway's machine."""

    gateway: Gateway
    engine: SpeakingEngine
    env: dict[str, str]
    state: Path

    def start(self, *words: str, **extra: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*GPTOSS, *words],
            env=self.env | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **extra: str) -> tuple[int, list[str], str]:
        """Status, lines, and what it complained of."""
        command = self.start("selftest", *words, **extra)
        out, err = command.communicate(timeout=60)
        assert "Traceback" not in err
        return command.returncode, out.splitlines(), err

    def made_keys(self) -> list[dict[str, str]]:
        out, _ = self.start("key", "list", "--team", "selftest", "--json").communicate(timeout=60)
        found: list[dict[str, str]] = json.loads(out)
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("selftest")
    Office.at(home / "state").add_team(Team("tests"))
    with SpeakingEngine() as engine:
        upstreams = [{"model": MODEL, "url": engine.url}]
        gateway = Gateway(home, {"GPTOSS_GATEWAY__UPSTREAMS": json.dumps(upstreams)})
        with gateway:
            gateway.wait()
            own = {
                "GPTOSS_STATE_DIR": str(home / "state"),
                "GPTOSS_GATEWAY__HOST": "0.0.0.0",  # noqa: S104  # where it is found, not bound
                "GPTOSS_GATEWAY__PORT": gateway.url.rpartition(":")[2],
            }
            yield Place(gateway, engine, environment(home, own), home / "state")


@pytest.fixture(autouse=True)
def speaks(place: Place) -> None:
    place.engine.speaks = True
    place.engine.asked.clear()


def passed(lines: list[str]) -> bool:
    return [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == PASSED


def test_each_request_is_a_line_with_its_seconds(place: Place) -> None:
    status, lines, err = place.run()
    assert (status, err) == (0, "")
    assert passed(lines)
    assert all(re.search(r", \d+\.\d s$", line) for line in lines)


def test_a_key_made_for_it_is_revoked_at_the_end_and_audited(place: Place) -> None:
    assert place.run()[0] == 0
    place.engine.speaks = False
    assert place.run()[0] == 1
    keys = place.made_keys()
    assert len(keys) >= 2
    assert {key["state"] for key in keys} == {"revoked"}
    assert all(key["expires"] for key in keys)
    audit, _ = place.start("audit", "--json").communicate(timeout=60)
    mine = [one for one in json.loads(audit) if one["actor"] == "gptoss selftest"]
    assert {one["action"] for one in mine} == {"team.create", "key.create", "key.revoke"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_still_revokes_its_key(place: Place, number: signal.Signals) -> None:
    with SpeakingEngine(key="not the one of any gateway: 401 is tried again") as deaf:
        command = place.start("selftest", "--url", f"{deaf.url}/v1")
        deadline = time.monotonic() + 30
        while "/v1/models" not in deaf.asked:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(number)
        _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (130, "")
    assert {key["state"] for key in place.made_keys()} == {"revoked"}


def test_a_key_that_gateways_learn_of_late_is_waited_for(place: Place) -> None:
    with SpeakingEngine(key="unknown as yet") as slow:
        command = place.start("selftest", "--url", f"{slow.url}/v1", GPTOSS_KEY="a key")
        deadline = time.monotonic() + 30
        while slow.asked.count("/v1/models") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        slow.key = "a key"
        out, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "")
    assert passed(out.splitlines())


@pytest.mark.parametrize("way", ["environment", "file"])
def test_a_key_that_is_given_is_used_and_left_alone(place: Place, tmp_path: Path, way: str) -> None:
    _, token = Office.at(place.state).add_key("tests")
    (tmp_path / "key").write_text(f"{token}\n")
    nowhere = {"GPTOSS_DATABASE__URL": f"postgresql://u:p@127.0.0.1:{free_port()}/none"}
    if way == "file":
        status, lines, err = place.run("--key-file", str(tmp_path / "key"), **nowhere)
    else:
        status, lines, err = place.run(GPTOSS_KEY=token, **nowhere)
    assert (status, err) == (0, "")
    assert passed(lines)


def test_a_model_may_be_chosen(place: Place) -> None:
    assert place.run("--model", MODEL)[0] == 0
    status, lines, err = place.run("--model", "gpt-5")
    assert (status, lines) == (1, [])
    assert err == f"gptoss: {place_url(place)} serves no gpt-5: choose one of {MODEL}\n"
    assert place.engine.questions == 3


def test_an_answer_that_is_not_as_clients_expect_fails_it(place: Place) -> None:
    place.engine.speaks = False
    status, lines, err = place.run()
    assert status == 1
    assert len(lines) == 2
    assert err.startswith(f"{MODEL}: self-test: the tool call did not come back well-formed")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "extra", "says"),
    [
        (("--url", "http://127.0.0.1:{free}/v1"), {}, "no gateway answers at http://127.0.0.1:"),
        (("--url", "nonsense"), {}, "no gateway answers at nonsense (UnsupportedProtocol)"),
        (("--url", "http://[::1"), {}, "no gateway answers at http://[::1 (InvalidURL)"),
        (("--url", "{root}"), {}, "answers 404"),
        (("--key-file", "/nonexistent"), {}, "cannot read /nonexistent: No such file"),
        (("--key-file", "/dev/null"), {}, "/dev/null is empty"),
        ((), {"GPTOSS_KEY": "schlüssel"}, "what GPTOSS_KEY holds is no key"),
        (
            (),
            {"GPTOSS_DATABASE__URL": "postgresql://u:secret@127.0.0.1:{free}/none"},
            "check it and database.url; or give a key in GPTOSS_KEY",
        ),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(
    place: Place, words: tuple[str, ...], extra: dict[str, str], says: str
) -> None:
    values = {"free": free_port(), "root": place.gateway.url}
    status, lines, err = place.run(
        *(word.format(**values) for word in words),
        **{name: value.format(**values) for name, value in extra.items()},
    )
    assert (status, lines) == (1, [])
    assert says in err
    assert "secret" not in err
    assert err.count("\n") == 1


def place_url(place: Place) -> str:
    """The gateway as the command found it."""
    return f"{place.gateway.url}/v1"


def test_a_key_that_no_gateway_knows_is_told(place: Place) -> None:
    status, _, err = place.run(GPTOSS_KEY="gptoss_unknown")
    assert status == 1
    assert err.startswith(f"gptoss: the gateway at {place_url(place)} knows no such key: check")
