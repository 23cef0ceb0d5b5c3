"""What a run would send is said without sending any of it."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from loadtest.cli.main import app
from loadtest.forecast import forecast, sent
from loadtest.plan.plan import plan
from tests.loadtest.runs import CONSTANT, scenario


def _team(arrivals: dict[str, Any] = CONSTANT, **workload: Any) -> dict[str, Any]:
    return {"arrivals": arrivals, "workloads": [{"prompt": 100, "output": 10, **workload}]}


def _line(team: dict[str, Any]) -> str:
    _, line = forecast(scenario(teams={"main": team}))
    return line


def test_requests_that_stand_alone_are_counted() -> None:
    # One a second for 100 s.
    assert _line(_team()) == (
        "team main: 100 requests, about 10,000 tokens of prompts and at most about 1,000 of answers"
    )
    assert "about 15,000 tokens" in _line(_team(prefix={"tokens": 50}))


def test_each_turn_of_a_conversation_has_all_before_it_in_its_prompt() -> None:
    # Of three turns: 50 + 100, 50 + 210, 50 + 320.
    line = _line(_team(turns=3, prefix={"tokens": 50}))
    assert line.startswith("team main: 100 conversations, about 300 requests if all come to their")
    assert f"about {100 * (150 + 260 + 370):,} tokens of prompts" in line
    assert "at most about 3,000 of answers" in line


def test_each_workload_counts_as_often_as_it_is_drawn() -> None:
    workloads = [{"name": "short", "output": 10}, {"name": "long", "output": 1000, "weight": 3}]
    made = scenario(teams={"main": {"arrivals": CONSTANT, "workloads": workloads}})
    arrivals = plan(made)["main"].arrivals
    long = sum(one.workload for one in arrivals)
    assert 60 < long < 90
    found = sent(made.teams["main"], arrivals)
    assert found.answers == pytest.approx(1000 * long + 10 * (len(arrivals) - long))


def test_of_a_closed_loop_nobody_knows_how_many() -> None:
    line = _line(_team({"kind": "closed", "clients": 8}))
    assert line.startswith("team main: 8 clients, whose next requests come when they have their")
    assert "each about 100 tokens of prompts and at most about 10 of answers" in line


def test_calls_of_tools_are_turns_that_nobody_knows_of() -> None:
    assert "100 conversations, at least 100 requests" in _line(_team(tools=2))


def test_a_trace_has_lengths_of_its_own(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    rows = ('0, "input_length": 700', '1000, "input_length": 300')
    trace.write_text("".join(f'{{"timestamp": {row}, "output_length": 6}}\n' for row in rows))
    line = _line(_team({"kind": "trace", "file": str(trace), "format": "mooncake"}))
    assert "2 requests, about 1,000 tokens of prompts and at most about 12 of answers" in line


def _asked(folder: Path, *options: str, **changes: Any) -> tuple[int, str, str]:
    source = folder / "s.yaml"
    document = {"name": "s", "duration": 100, "teams": {"main": _team()}, **changes}
    source.write_text(yaml.safe_dump(document))
    done = CliRunner().invoke(app, ["run", str(source), "--dry-run", *options])
    return done.exit_code, done.stdout, done.stderr or str(done.exception)


def test_a_dry_run_sends_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    # Nobody is there to answer it.
    status, out, error = _asked(tmp_path, "--url", "http://127.0.0.1:9", "--out", f"{tmp_path}/run")
    assert status == 0
    assert out.startswith("s: sends for 100 s, of which 0 s are warm-up\nteam main: 100 requests")
    assert "note: team main: about 100 requests will be due" in error
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_dry_run_says_what_is_wrong_with_a_scenario(tmp_path: Path) -> None:
    status, out, error = _asked(tmp_path, durration=5)
    assert status != 0 and not out
    assert "durration" in error


def test_the_command_says_its_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"gptoss-loadtest {version('gptoss-serving')}\n")
