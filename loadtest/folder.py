"""The folder that a run leaves: what was sent, what came of it, and the report."""

import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtest import record, summary
from loadtest.client.data import RunData
from loadtest.errors import UserError
from loadtest.faults.events import Firing, Made
from loadtest.plan.plan import TeamPlan
from loadtest.record import Record
from loadtest.report import html
from loadtest.report.masked import masked
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
    watched: float | None = None
    """Until when alerts could be seen, s since the run's start. None: nobody looked."""
    series: list[Series] = []
    plans: dict[str, TeamPlan] | None = None
    """What was to be sent, by team. None: of a run before this was kept."""


class Folder:
    """One run's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.report = path / "report.html"
        self._records = path / "records.jsonl"
        self._summary = path / "summary.json"
        self._scenario = path / "scenario.yaml"
        self._run = path / "run.json"
        self._state = path / "state.json"

    def make(self, scenario: Scenario) -> None:
        """Have it, with the scenario and nothing else: before the run, so that this does not fail
        after it. Of two runs that want the same one, one gets it. Raises `UserError`."""
        # Whole: a default that is another one some day changes no run that there was.
        document = scenario.model_dump(mode="json", by_alias=True)
        text = yaml.safe_dump(masked(document), sort_keys=False, allow_unicode=True)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise FileExistsError
            with self._scenario.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            if self.path.is_dir():
                raise UserError(
                    f"{self.path} is not empty: name another folder with --out"
                ) from None
            raise UserError(f"{self.path} cannot be made: it is a file") from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}") from None

    def give_up(self) -> None:
        """The run did not begin: leave nothing of what this made."""
        for made in (self._records, self._run, self._state, self._scenario):
            made.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def begin(self, circumstances: Circumstances) -> None:
        """What is known as a run begins: with its records, it is enough for a report of a run that
        died. Raises `UserError`."""
        try:
            self._write(self._run, circumstances, circumstances.plans)
            self._records.touch()
        except OSError as error:
            raise UserError(f"{self.path} cannot be written to: {error.strerror}") from None

    def add(self, records: list[Record]) -> None:
        """Records, as they come. Raises `OSError`."""
        with self._records.open("ab") as file:
            file.write(b"".join(map(record.line, records)))

    def stand(self, circumstances: Circumstances) -> None:
        """How a run stands: little, and written anew each few seconds. Raises `OSError`."""
        # The plans are in `run.json`; pages of metrics grow without end.
        self._write(self._state, msgspec.structs.replace(circumstances, series=[]), None)

    def keep(self, circumstances: Circumstances, records: list[Record] | None = None) -> None:
        """How the run was, with all of its records if adding them has failed. Raises `OSError`."""
        self._write(self._run, circumstances, circumstances.plans)
        self._state.unlink(missing_ok=True)
        if records is not None:
            record.write(self._records, records)

    def conclude(self, made: Summary, records: Iterable[Record]) -> None:
        """The summary, and the report of it. Raises `OSError`."""
        document = masked(msgspec.json.decode(msgspec.json.encode(made)))
        summary.write(self._summary, msgspec.convert(document, Summary))
        self.report.write_text(html.render(made, records), encoding="utf-8")

    def summary(self) -> Summary:
        """Raises `UserError`."""
        self._check(self._summary)
        try:
            return summary.read(self._summary)
        except ValueError as error:
            raise UserError(str(error)) from None

    def scenario(self) -> dict[str, Any]:
        """What ran, as far as it may be told. Raises `UserError`."""
        document = yaml.safe_load(self._text(self._scenario))
        assert isinstance(document, dict)
        return document

    def circumstances(self) -> Circumstances:
        """Of a run that died, as it stood last. Raises `UserError`."""
        found = self._circumstances(self._run)
        if not found.data.died or not self._state.is_file():
            return found
        return msgspec.structs.replace(self._circumstances(self._state), plans=found.plans)

    def records(self) -> list[Record]:
        """Without a last line that was cut, as a run leaves it that died. Raises `UserError`."""
        self._check(self._records)
        found: list[Record] = []
        try:
            for one in record.read(self._records):
                found.append(one)  # noqa: PERF402 - what was read until an error counts
        except ValueError as error:
            text = self._records.read_bytes()
            if text.endswith(b"\n") or text.count(b"\n") != len(found):
                raise UserError(str(error)) from None
        return found

    def _circumstances(self, path: Path) -> Circumstances:
        try:
            return msgspec.json.decode(self._text(path), type=Circumstances)
        except msgspec.MsgspecError as error:
            raise UserError(f"{path} is none of a run's: {error}") from None

    def _write(
        self, path: Path, circumstances: Circumstances, plans: dict[str, TeamPlan] | None
    ) -> None:
        """At once: one that dies meanwhile leaves the file that there was."""
        # The plan may have a million arrivals, and no address.
        rest = msgspec.structs.replace(circumstances, plans=None)
        document = masked(msgspec.json.decode(msgspec.json.encode(rest)))
        document["plans"] = plans
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(document))
        new.replace(path)

    def _text(self, path: Path) -> str:
        self._check(path)
        return path.read_text(encoding="utf-8")

    def _check(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{self.path} is no folder of a run: it has no {path.name}")


class Keeper:
    """Puts a run into its folder while it goes on: one that dies has lost next to nothing.

    `note` is told, in a line, if that fails; the run goes on.
    """

    def __init__(self, folder: Folder, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._note = note
        self.began = False
        self.failed = False
        """Whether records are missing in the folder."""
        self._said = False

    def begin(self, circumstances: Circumstances) -> None:
        """It begins. Raises `UserError`."""
        self._folder.begin(circumstances)
        self.began = True

    def add(self, records: list[Record]) -> None:
        """These have arrived."""
        if self.failed or not records:
            return
        try:
            self._folder.add(records)
        except OSError as error:
            self.failed = True
            self._note(
                f"records cannot be written to {self._folder.path}: {error.strerror}. They are"
                " kept in memory, and are written when the run has ended"
            )

    def stand(self, circumstances: Circumstances) -> None:
        """It stands so."""
        try:
            self._folder.stand(circumstances)
        except OSError as error:
            if not self._said:
                self._said = True
                self._note(
                    f"how the run stood could not be written to {self._folder.path} at some time:"
                    f" {error.strerror}. It is of use only where a run is killed"
                )


def new(base: Path, name: str) -> Folder:
    """One that is named for the scenario and the time; a few letters tell two of a second apart."""
    return Folder(base / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
