"""Teams, keys and their audit from the command line, in processes of their own."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.process import GPTOSS, environment, free_port

CREATE = (
    "team create search --rpm 600 --tpm 2M --concurrency 64 --daily-tokens 200M"
    " --models gpt-oss-120b --tier interactive"
)
FILE = """\
teams:
- name: search
  tier: interactive
  limits: {rpm: 900, tpm: 2M}
- name: batch
  tier: batch
  models: {gpt-oss-20b: {concurrency: 8}}
"""


@dataclass(frozen=True)
class Shell:
    """Runs `gptoss` on a state folder of its own."""

    home: Path
    forked: Forked

    @property
    def env(self) -> dict[str, str]:
        return environment(
            self.home, {"GPTOSS_STATE_DIR": str(self.home / "state"), "LOGNAME": "ada"}
        )

    def run(self, words: str, *, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return self.forked.run(words.split(), self.env | env, stdin)

    def out(self, words: str, *, stdin: str = "") -> str:
        """Standard output of a command that goes well."""
        done = self.run(words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, words: str, *, stdin: str = "", **env: str) -> str:
        """The one line of a command that says what is wrong."""
        done = self.run(words, stdin=stdin, **env)
        assert done.returncode == 1
        assert done.stderr.startswith("gptoss: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("gptoss: ").rstrip("\n")

    def team(self, name: str = "search") -> dict[str, object]:
        shown: dict[str, object] = json.loads(self.out(f"team show {name} --json"))
        return shown

    def audit(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = json.loads(self.out("audit --json"))
        return entries


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("forked")) as forked:
        yield forked


@pytest.fixture
def gptoss(tmp_path: Path, forked: Forked) -> Shell:
    return Shell(tmp_path, forked)


def test_a_team_has_the_limits_it_was_made_with(gptoss: Shell) -> None:
    assert "gptoss key create search" in gptoss.out(CREATE)
    team = gptoss.team()
    assert team["limits"] == {
        "rpm": 600,
        "tpm": 2_000_000,
        "concurrency": 64,
        "daily_tokens": 200_000_000,
        "models": ["gpt-oss-120b"],
    }
    assert team["tier"] == "interactive"
    shown = gptoss.out("team show search")
    for words in (r"rpm\W+600\b", r"tpm\W+2M\b", r"tier\W+interactive", r"timezone\W+UTC"):
        assert re.search(words, shown), shown
    listed = json.loads(gptoss.out("team list --json"))
    assert [team["name"] for team in listed] == ["search"]
    assert "rpm 600" in gptoss.out("team list")


def test_set_changes_only_what_is_given(gptoss: Shell) -> None:
    gptoss.out(CREATE)
    before = gptoss.team()
    changed = gptoss.out("team set search --rpm none --tpm 3M --disable --timezone Asia/Tokyo")
    assert changed == (
        "~ search: timezone UTC -> Asia/Tokyo, disabled false -> true, tpm 2M -> 3M,"
        " rpm 600 -> none\n"
    )
    after = gptoss.team()
    assert after["tier"] == before["tier"]
    assert after["disabled"] is True
    assert after["limits"] == {
        "tpm": 3_000_000,
        "concurrency": 64,
        "daily_tokens": 200_000_000,
        "models": ["gpt-oss-120b"],
    }
    assert "nothing changes" in gptoss.out("team set search --tpm 3M")
    assert len(gptoss.audit()) == 2


def test_limits_on_one_model_stand_beside_the_teams(gptoss: Shell) -> None:
    gptoss.out("team create search --rpm 600 --shared-cache")
    gptoss.out("team set search --on-model gpt-oss-120b --rpm 60 --efforts low,medium")
    team = gptoss.team()
    assert team["limits"] == {"rpm": 600}
    assert team["isolate_cache"] is False
    assert team["models"] == {"gpt-oss-120b": {"rpm": 60, "efforts": ["low", "medium"]}}
    assert re.search(r"gpt-oss-120b rpm\W+60\b", gptoss.out("team show search"))
    gptoss.out("team set search --on-model gpt-oss-120b --rpm none --efforts none")
    assert gptoss.team()["models"] == {}


def test_a_key_is_printed_alone_and_once(gptoss: Shell) -> None:
    gptoss.out("team create search")
    made = gptoss.run("key create search --expires 90d --label ci --rpm 60")
    assert re.fullmatch(r"gptoss_\w{12}_\w{43}\n", made.stdout)
    assert "keep it safe" in made.stderr
    secret = made.stdout.strip().rsplit("_", 1)[1]
    assert secret not in made.stderr
    for words in ("key list", "key list --json", "team show search", "audit", "audit --json"):
        assert secret not in gptoss.out(words)
    [key] = json.loads(gptoss.out("key list --team search --json"))
    assert (key["label"], key["state"], key["limits"]) == ("ci", "active", {"rpm": 60})
    assert "digest" not in key


def test_a_key_is_rotated_with_grace_and_revoked(gptoss: Shell) -> None:
    gptoss.out("team create search")
    first = gptoss.out("key create search --expires 90d").split("_")[1]
    second = gptoss.out(f"key rotate {first} --grace 1h").split("_")[1]
    third = gptoss.out(f"key rotate {second}").split("_")[1]
    gptoss.out(f"key revoke {third}")
    keys = {key["id"]: key for key in json.loads(gptoss.out("key list --json"))}
    assert [keys[id]["state"] for id in (first, second, third)] == ["active", "revoked", "revoked"]
    assert keys[first]["expires"] < keys[second]["expires"] == keys[third]["expires"]
    assert "no longer opens anything" in gptoss.refused(f"key rotate {third}")


def test_a_team_is_deleted_only_when_someone_says_so(gptoss: Shell) -> None:
    gptoss.out("team create search")
    gptoss.out("key create search")
    gptoss.out("key create search")
    asked = gptoss.refused("team delete search")
    assert asked == "delete team search and revoke 2 keys? Nobody can answer here: add --yes"
    assert gptoss.out("team delete search --yes") == "team search is deleted, 2 keys revoked\n"
    assert "there is no team search" in gptoss.refused("team show search")


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("n\n", ["search"])])
def test_at_a_terminal_the_deletion_is_asked_for(
    gptoss: Shell, answer: str, left: list[str]
) -> None:
    gptoss.out("team create search")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GPTOSS, "team", "delete", "search"],
        env=gptoss.env,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, answer.encode())
    out, error = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "delete team search and revoke 0 keys?" in out + error
    assert process.returncode == (0 if not left else 1)
    assert [team["name"] for team in json.loads(gptoss.out("team list --json"))] == left


def test_a_file_of_teams_is_shown_applied_and_then_changes_nothing(
    gptoss: Shell, tmp_path: Path
) -> None:
    gptoss.out("team create search --rpm 600 --tier interactive")
    gptoss.out("team create old")
    gptoss.out("key create old")
    file = tmp_path / "teams.yaml"
    file.write_text(FILE)
    lines = ["~ search: rpm 600 -> 900, tpm none -> 2M", "+ batch: tier batch, gpt-oss-20b"]
    before = gptoss.audit()
    shown = gptoss.out(f"team apply -f {file} --dry-run")
    assert all(line in shown for line in lines)
    assert gptoss.audit() == before

    applied = gptoss.out(f"team apply -f {file}")
    assert all(line in applied for line in lines)
    assert "old" not in applied
    after = gptoss.audit()
    assert len(after) == len(before) + 2
    assert gptoss.out(f"team apply -f {file}") == "nothing changes\n"
    assert gptoss.audit() == after

    pruned = "- old: revokes 1 key\n"
    assert "Nobody can answer here: add --yes" in gptoss.refused(f"team apply -f {file} --prune")
    assert "add --yes" in gptoss.refused("team apply -f - --prune", stdin=FILE)
    assert gptoss.out(f"team apply -f {file} --prune --yes").startswith(pruned)
    assert gptoss.out("team apply -f - --prune", stdin=FILE) == "nothing changes\n"
    exported = gptoss.out("team list --yaml")
    assert gptoss.out("team apply -f - --prune", stdin=exported) == "nothing changes\n"


def test_a_fault_in_a_file_is_named_by_its_place_and_nothing_is_applied(gptoss: Shell) -> None:
    file = "teams:\n- name: good\n- name: bad\n  limits: {rmp: 5}\n"
    assert gptoss.refused("team apply -f -", stdin=file) == (
        "standard input:4: teams[1].limits.rmp: there is no such name"
    )
    assert "cannot read /no/such.yaml" in gptoss.refused("team apply -f /no/such.yaml")
    assert gptoss.audit() == []


def test_the_audit_names_who_changed_what(gptoss: Shell) -> None:
    gptoss.out("team create search --rpm 600")
    gptoss.out("team set search --rpm 900")
    newest, oldest = gptoss.audit()
    assert newest["actor"] == "cli:ada"
    assert newest["change"] == {"limits.rpm": [600, 900]}
    assert oldest["action"] == "team.create"
    assert "cache_salt" not in json.dumps(oldest)
    shown = gptoss.out("audit --limit 1")
    assert "limits.rpm 600 -> 900" in shown
    assert "team.create" not in shown


def test_markup_in_a_label_is_shown_as_it_is(gptoss: Shell) -> None:
    gptoss.out("team create search")
    gptoss.out("key create search --label [bold]x[/red]")
    assert "[bold]x[/red]" in gptoss.out("key list")


def test_the_database_is_upgraded_and_says_so(gptoss: Shell) -> None:
    assert "run `gptoss db upgrade`" in gptoss.refused("db status")
    assert "applied" in gptoss.out("db upgrade")
    assert gptoss.out("db upgrade").endswith("up to date\n")
    assert gptoss.out("db status").endswith("up to date\n")


def test_a_database_that_is_away_is_one_line_without_its_password(gptoss: Shell) -> None:
    url = f"postgresql://gptoss:hunter2@127.0.0.1:{free_port()}/gptoss"
    for words in ("team list", "key create search", "db upgrade", "db status"):
        line = gptoss.refused(words, GPTOSS_DATABASE__URL=url)
        assert "Connect call failed" in line
        assert "hunter2" not in line


REFUSED = {
    "team create search": "team search exists",
    "team create A": "team 'A': ",
    "team create x --rpm lots": "--rpm 'lots' is not a count: write it such as 600",
    "team create x --rpm 0": "--rpm '0': ",
    "team create x --efforts low,huge": "--efforts 'low,huge': ",
    "team create x --models ,": "--models ',': ",
    "team create x --timezone Mars": "--timezone: no time zone is called 'Mars'",
    "team create x --default-output 1M": "--default-output: ",
    "team create x --on-model m": "--on-model m: give the limits on it too",
    "team create x --on-model m --models m": "--models is about all of a team's models",
    "team create x --on-model $ --rpm 1": "--on-model: ",
    "team set search": "give what to change",
    "team set nobody --rpm 1": "there is no team nobody",
    "team delete nobody --yes": "there is no team nobody",
    "team list --json --yaml": "give --json or --yaml",
    "key create nobody": "there is no team nobody",
    "key create search --expires soon": "--expires 'soon' is not a duration",
    "key create search --expires 0d": "--expires '0d' is not a duration",
    "key list --team nobody": "there is no team nobody",
    "key rotate nothing": "no key has the id nothing",
    "key rotate nothing --grace 1y": "--grace '1y' is not a duration",
    "key revoke nothing": "no key has the id nothing",
}


@pytest.fixture(scope="module")
def with_a_team(tmp_path_factory: pytest.TempPathFactory, forked: Forked) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("refused"), forked)
    shell.out("team create search")
    return shell


@pytest.mark.parametrize(("words", "line"), REFUSED.items())
def test_bad_input_is_one_line_that_says_what_to_do(
    with_a_team: Shell, words: str, line: str
) -> None:
    assert with_a_team.refused(words).startswith(line)


def test_the_help_names_units(gptoss: Shell) -> None:
    shown = gptoss.out("team create --help")
    for words in ("requests per minute", "tokens per minute", "600, 10k, 2M", "--daily-tokens"):
        assert words in shown
    assert "12h, 90d, 4w" in gptoss.out("key create --help")
