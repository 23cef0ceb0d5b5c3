"""`compare` reads of each folder when its run ended; its status is for a pipeline to read."""

from pathlib import Path

import pytest
import typer

from loadtest import record, summary
from loadtest.cli.compare import compare
from loadtest.record import Record
from loadtest.summarise import summarise
from tests.loadtest.runs import answered, data, scenario

SAID = scenario(duration=100, warmup=10, slo={"ttft": 3, "percent": 95})


def _left(path: Path, records: list[Record], interrupted: bool = False) -> Path:
    """The folder of a run, as far as it is read."""
    path.mkdir()
    (path / "scenario.yaml").write_text(SAID.model_dump_json(by_alias=True))
    record.write(path / "records.jsonl", records)
    made = summarise(SAID, data(records, interrupted=interrupted), {})
    summary.write(path / "summary.json", made)
    return path


def _run(until: float = 100.0, ttft: float = 0.5) -> list[Record]:
    return [answered(n, n / 5, ttft=ttft) for n in range(500) if n / 5 < until]


def _status(before: Path, after: Path) -> int:
    """Of `--gate`."""
    try:
        compare(before, after, 2.0, True)
    except typer.Exit as ended:
        return ended.exit_code
    raise AssertionError("it ended without a status")


def test_the_gate_s_status_says_whether_it_is_worse_or_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, slow = _left(tmp_path / "a", _run()), _left(tmp_path / "b", _run(ttft=1.0))
    cut = _left(tmp_path / "c", _run(until=50.1), interrupted=True)
    short = _left(tmp_path / "d", _run()[48:54])
    assert _status(whole, whole) == 0
    assert _status(whole, slow) == 3
    assert _status(short, short) == 4
    capsys.readouterr()
    assert _status(whole, cut) == 4
    said = capsys.readouterr().out
    assert "200 requests of each" in said
    assert "warning: the run after was interrupted after 50 s" in said
    assert "output_rate" in said and "worse" not in said
