"""What a run leaves is there however it ended, and opens no doors."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from loadtest.cli.run import report
from loadtest.cli.said import STATUS
from loadtest.client.data import RunData, WorkerStats
from loadtest.errors import UserError
from loadtest.faults.events import Made
from loadtest.folder import Circumstances, Folder, Keeper, new
from loadtest.outcome import Outcome
from loadtest.plan.plan import plan
from loadtest.record import Record
from loadtest.report.masked import masked
from loadtest.scenario.document import Scenario
from loadtest.scenario.load import load, parsed, ready
from loadtest.session import concluded
from loadtest.summary import Verdict

SECRETS = ("hunter2", "s3cret", "token-of-proxy")


def scenario(**more: Any) -> Scenario:
    team = {"arrivals": {"kind": "constant", "rate": 5}, "workloads": [{"output": 8}]}
    target = {
        "url": "http://me:hunter2@127.0.0.1:8000",
        "headers": {"x-proxy": "token-of-proxy"},
    }
    document = {"name": "t", "duration": 10.0, "target": target, "teams": {"a": team}}
    addresses = {"prometheus": "http://p:s3cret@host", "grafana": "http://g:s3c@s3cret@host/x"}
    return Scenario.model_validate(document | addresses | more)


def circumstances(ran: Scenario) -> Circumstances:
    """As a run begins."""
    data = RunData([], [], began=1e9, seconds=0.0, interrupted=True, clock_steps=0.0, run="r")
    data.died = True
    return Circumstances(data, ran.target.url, "m", 0, {}, plans=plan(ran))


def record(index: int) -> Record:
    at = index / 5
    one = Record(index, "a", at, outcome=Outcome.OK, status=200, output_tokens=8)
    one.began = one.sent = at
    one.first, one.last, one.ended = at + 0.1, at + 0.2, at + 0.2
    return one


def begun(path: Path, ran: Scenario) -> tuple[Folder, Keeper, list[str]]:
    notes: list[str] = []
    folder = Folder(path)
    folder.make(ran)
    keeper = Keeper(folder, notes.append)
    keeper.begin(circumstances(ran))
    return folder, keeper, notes


def test_a_run_that_died_has_a_report_of_what_it_had_until_then(tmp_path: Path) -> None:
    folder, keeper, _ = begun(tmp_path / "run", scenario())
    keeper.add([record(0), record(1)])
    keeper.add([record(2)])
    with (tmp_path / "run" / "records.jsonl").open("ab") as file:
        file.write(b'{"index":3,"te')  # in the middle of a line
    assert folder.records() == [record(0), record(1), record(2)]
    with pytest.raises(typer.Exit):
        report(tmp_path / "run")
    summary = folder.summary()
    assert summary.interrupted
    # Up to the last one that was begun.
    assert summary.overall.outcomes == {Outcome.OK: 2}
    assert folder.report.is_file()


def test_a_run_that_died_is_judged_by_how_its_processes_did_last(tmp_path: Path) -> None:
    line = {"kind": "proxy", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2"}
    cut = {"at": 1, "do": "cut", "target": "line"}
    ran = scenario(fault_targets={"line": line}, faults=[cut])
    folder, keeper, _ = begun(tmp_path / "run", ran)
    keeper.add([record(index) for index in range(10)])
    stood = circumstances(ran)
    stood.data.workers = [WorkerStats(0, cpu_percent=20, loop_lags=[0.001], sent=5)]
    stood.data.lost_workers = ["1 was ended by SIGKILL"]
    stood.made = [Made(0, "cut", "line", began=1.0)]
    keeper.stand(stood)
    stood.data.workers[0].cpu_percent = 99
    keeper.stand(stood)
    found = folder.circumstances()
    assert found.data == stood.data and found.made == stood.made
    assert found.plans == plan(ran)
    with pytest.raises(typer.Exit):
        report(tmp_path / "run")
    assert [one.what for one in folder.summary().faults] == ["cut"]
    trusted = folder.summary().trusted
    assert trusted.cpu_percent == 99
    assert any("worker 1 was ended" in one for one in trusted.reasons)
    assert trusted.notes[0].startswith("the load test was killed")


def test_of_one_whose_processes_had_told_nothing_yet_nothing_is_believed(tmp_path: Path) -> None:
    folder, keeper, _ = begun(tmp_path / "run", scenario())
    keeper.add([record(index) for index in range(10)])
    with pytest.raises(typer.Exit) as ended:
        report(tmp_path / "run")
    assert ended.value.exit_code == STATUS[Verdict.INVALID]
    (reason,) = folder.summary().trusted.reasons
    assert reason.endswith("before its processes had said how they did")


def test_how_a_run_ended_takes_the_place_of_how_it_stood(tmp_path: Path) -> None:
    ran = scenario()
    folder, keeper, _ = begun(tmp_path / "run", ran)
    keeper.stand(circumstances(ran))
    ended = circumstances(ran)
    ended.data.died, ended.data.seconds = False, 10.0
    # Also where the load test is killed between the two steps.
    stood = (tmp_path / "run" / "state.json").read_bytes()
    folder.keep(ended)
    assert not (tmp_path / "run" / "state.json").exists()
    (tmp_path / "run" / "state.json").write_bytes(stood)
    assert folder.circumstances().data == ended.data


def test_a_state_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    ran = scenario()
    folder, keeper, notes = begun(tmp_path / "run", ran)
    new = tmp_path / "run" / "state.new"
    new.symlink_to("/dev/full")
    keeper.stand(circumstances(ran))
    keeper.stand(circumstances(ran))
    (note,) = notes
    assert "No space left" in note and "\n" not in note
    new.unlink()
    keeper.stand(circumstances(ran))
    assert folder.circumstances().data.died and len(notes) == 1


def test_a_line_that_is_none_is_told_unless_it_is_a_cut_end(tmp_path: Path) -> None:
    folder, keeper, _ = begun(tmp_path / "run", scenario())
    path = tmp_path / "run" / "records.jsonl"
    for text in (b"{}\n", b'{"index"\n{"ind'):
        path.write_bytes(text)
        with pytest.raises(UserError, match="is no record of a run"):
            folder.records()
    keeper.add([record(0)])


def test_a_disk_that_is_full_is_said_once_and_all_is_written_in_the_end(tmp_path: Path) -> None:
    ran = scenario()
    folder, keeper, notes = begun(tmp_path / "run", ran)
    keeper.add([record(0)])
    path = tmp_path / "run" / "records.jsonl"
    path.unlink()
    path.symlink_to("/dev/full")
    keeper.add([record(1)])
    keeper.add([record(2)])
    assert keeper.failed
    (note,) = notes
    assert "No space left" in note and "\n" not in note
    path.unlink()
    folder.keep(circumstances(ran), [record(0), record(1), record(2)])
    assert len(folder.records()) == 3


def test_one_of_two_runs_gets_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Folder(tmp_path / "run"), Folder(tmp_path / "run")
    one.make(scenario())
    # Both have seen it empty.
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))
    with pytest.raises(UserError, match="is not empty"):
        other.make(scenario())
    assert len({new(tmp_path, "t").path for _ in range(20)}) > 1


def test_a_run_that_does_not_begin_removes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    folder, _, _ = begun(tmp_path / "a", scenario())
    folder.give_up()
    assert not (tmp_path / "a").exists()
    folder, _, _ = begun(tmp_path / "b", scenario())
    (tmp_path / "b" / "mine").touch()
    folder.give_up()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine"]


def test_nothing_that_a_run_leaves_holds_a_secret_and_a_report_can_be_made_of_it(
    tmp_path: Path,
) -> None:
    ran = scenario()
    folder, keeper, _ = begun(tmp_path / "run", ran)
    keeper.add([record(index) for index in range(50)])
    found = circumstances(ran)
    keeper.stand(found)
    assert "@127.0.0.1" in (tmp_path / "run" / "state.json").read_text()
    assert not [one for one in SECRETS if one in (tmp_path / "run" / "state.json").read_text()]
    found.data.interrupted = found.data.died = False
    folder.keep(found)
    folder.conclude(concluded(ran, found, folder.records()), folder.records())
    for path in (tmp_path / "run").iterdir():
        assert not [one for one in SECRETS if one in path.read_text()], path
    again = parsed(folder.scenario(), "run")
    summary = concluded(again, folder.circumstances(), folder.records())
    assert summary == folder.summary()
    assert list(again.target.headers) == ["x-proxy"]
    assert again.target.url.endswith("@127.0.0.1:8000")


def test_what_was_planned_and_every_default_is_kept(tmp_path: Path) -> None:
    ran = scenario()
    folder, _, _ = begun(tmp_path / "run", ran)
    assert folder.circumstances().plans == plan(ran)
    kept = folder.scenario()
    assert kept["slo"]["ttft"] == 3.0 and kept["trust"]["cpu_percent"] == 90.0
    # What was planned is what was planned then, whatever would be now.
    other = parsed(kept | {"duration": 20.0}, "run")
    summary = concluded(other, folder.circumstances(), [record(0)])
    assert summary.overall.planned <= 50


@pytest.mark.parametrize("name", list(ready()))
def test_a_scenario_that_is_kept_is_the_one_that_ran(tmp_path: Path, name: str) -> None:
    ran = load(name)
    folder = Folder(tmp_path / "run")
    folder.make(ran)
    assert parsed(folder.scenario(), "run").model_dump() == ran.model_dump()


def test_masking_twice_is_masking_once() -> None:
    document = json.loads(scenario().model_dump_json())
    assert masked(masked(document)) == masked(document) != document
