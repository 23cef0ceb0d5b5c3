"""The folder that a run leaves: what was sent, what came of it, and the report."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtest import record, summary
from loadtest.client.data import RunData
from loadtest.errors import UserError
from loadtest.faults.events import Firing, Made
from loadtest.record import Record
from loadtest.report import html
from loadtest.scenario.document import Scenario
from loadtest.summary import Series, Summary


class Circumstances(msgspec.Struct):
    """What a run's records do not say, and its summary needs: `run.json`."""

    data: RunData
    """Without its records."""
    target: str
    model: str
    overhead_tokens: int
    machine: dict[str, str]
    made: list[Made] = []
    firings: list[Firing] = []
    series: list[Series] = []


class Folder:
    """One run's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report = path / "report.html"
        self._records = path / "records.jsonl"
        self._summary = path / "summary.json"
        self._scenario = path / "scenario.yaml"
        self._run = path / "run.json"

    def make(self) -> None:
        """Have it, empty: before the run, so that this does not fail after it. Raises
        `UserError`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise UserError(f"{self.path} is not empty: name another folder with --out")
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}") from None

    def give_up(self) -> None:
        """The run did not begin: leave nothing."""
        self.path.rmdir()

    def keep(self, scenario: Scenario, circumstances: Circumstances, records: list[Record]) -> None:
        """What the run was: enough to make its summary and report again."""
        document = scenario.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self._scenario.write_text(yaml.safe_dump(document, sort_keys=False))
        self._run.write_bytes(msgspec.json.encode(circumstances))
        record.write(self._records, records)

    def conclude(self, made: Summary, records: Iterable[Record]) -> None:
        """The summary, and the report of it."""
        summary.write(self._summary, made)
        self.report.write_text(html.render(made, records), encoding="utf-8")

    def summary(self) -> Summary:
        """Raises `UserError`."""
        self._check(self._summary)
        try:
            return summary.read(self._summary)
        except ValueError as error:
            raise UserError(str(error)) from None

    def scenario(self) -> dict[str, Any]:
        """What ran. Raises `UserError`."""
        document = yaml.safe_load(self._text(self._scenario))
        assert isinstance(document, dict)
        return document

    def circumstances(self) -> Circumstances:
        """Raises `UserError`."""
        try:
            return msgspec.json.decode(self._text(self._run), type=Circumstances)
        except msgspec.MsgspecError as error:
            raise UserError(f"{self._run} is none of a run's: {error}") from None

    def records(self) -> list[Record]:
        """Raises `UserError`."""
        self._check(self._records)
        try:
            return list(record.read(self._records))
        except ValueError as error:
            raise UserError(str(error)) from None

    def _text(self, path: Path) -> str:
        self._check(path)
        return path.read_text()

    def _check(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{self.path} is no folder of a run: it has no {path.name}")


def new(base: Path, name: str) -> Folder:
    """One that is named for the scenario and the time."""
    return Folder(base / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
