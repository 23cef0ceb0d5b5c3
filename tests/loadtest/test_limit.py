"""A search's trials: each with requests of its own, judged on what was sent, lost by nothing."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from typer.testing import CliRunner, Result

from loadtest import limit
from loadtest.cli import said
from loadtest.cli.main import app
from loadtest.client.data import Progress
from loadtest.client.signals import Signals
from loadtest.errors import UserError
from loadtest.folder import Circumstances
from loadtest.limit import Trials, advice, at_rate, rate_of, unit_of
from loadtest.outcome import Outcome
from loadtest.plan.plan import plan
from loadtest.record import Record
from loadtest.scenario.document import Scenario
from loadtest.search.find import Found, Rules, find_rate
from loadtest.search.trial import Stopped, Trial
from tests.loadtest.runs import answered, data, failed, scenario

Play = Callable[[Scenario, Callable[[Progress], None]], list[Record]]


class Service:
    """Stands in for `Session`: its runs take no time, and `play` says what comes of each."""

    def __init__(self, play: Play) -> None:
        self.play_it = play
        self.seen: list[Scenario] = []
        self.ended: list[bool] = []
        """Of each run, whether it was ended before its time."""
        self.interrupted = False
        """Whether runs are, from outside."""
        self.signalled: Callable[[Scenario, str], signal.Signals | None] = lambda _, __: None
        """Which signal comes at a point of a run: before it hears them, within it, or after."""

    def __call__(
        self, scenario: Scenario, environment: Mapping[str, str], note: Callable[[str], None]
    ) -> Self:
        self.seen.append(scenario)
        return self

    async def play(
        self, observe: Callable[[Progress], None], enough: asyncio.Event, signals: Signals
    ) -> tuple[Circumstances, list[Record]]:
        scenario = self.seen[-1]
        await self._reach("before", signals)
        with signals.heard_by(self._hear):
            records = self.play_it(scenario, observe)
            await self._reach("within", signals)
        await self._reach("after", signals)
        self.ended.append(enough.is_set())
        run = data([], interrupted=enough.is_set() or self.interrupted)
        return Circumstances(run, "", "m", 0, {}, plans=plan(scenario)), records

    def _hear(self) -> None:
        self.interrupted = True

    async def _reach(self, point: str, signals: Signals) -> None:
        """Signals that come there have come when this returns."""
        number = self.signalled(self.seen[-1], point)
        if number is None:
            return
        os.kill(os.getpid(), number)
        while not signals.came:  # noqa: ASYNC110
            await asyncio.sleep(0)
        # Where it has cancelled the task, it is here that it hears of it.
        await asyncio.sleep(0)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[[Play], Service]:
    def of(play: Play) -> Service:
        service = Service(play)
        monkeypatch.setattr(limit, "Session", service)
        return service

    return of


def trials(document: Scenario, signals: Signals | None = None) -> Trials:
    return Trials(
        lambda level, seconds: at_rate(document, level, seconds),
        {},
        lambda _: lambda _: None,
        lambda _: None,
        signals or Signals(),
    )


def one(document: Scenario, level: float, seconds: float) -> Trial:
    return asyncio.run(_one(trials(document), level, seconds))


async def _one(run: Trials, level: float, seconds: float) -> Trial:
    return await run(level, seconds)


def search(document: Scenario, low: float, high: float, **rules: Any) -> Found:
    async def go() -> Found:
        with Signals() as signals:
            return await find_rate(trials(document, signals), low, high, Rules(**rules))

    return asyncio.run(go())


def due(document: Scenario) -> Iterable[tuple[str, int, float]]:
    """All that a run is to send."""
    return [
        (team, arrival.index, arrival.at)
        for team, its in plan(document).items()
        for arrival in its.arrivals
    ]


def well(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
    return [answered(index, at, team=team) for team, index, at in due(document)]


def progress(elapsed: float, duration: float, opened: int, ttft: float) -> Progress:
    return Progress(
        elapsed, duration, 0, 0, 0, opened, {}, 0.0, 0.0, 0.0, ttft, ttft, None, None, None
    )


POISSON = {"kind": "poisson", "rate": 5}
TEAM = {"arrivals": POISSON}


def test_no_two_trials_send_the_same_and_each_search_the_same_again(
    served: Callable[[Play], Service],
) -> None:
    service = served(well)
    document = scenario(teams={"a": TEAM})
    run = trials(document)
    # A level that is tried again, too: pooled with the first it would count twice.
    for level in (5.0, 10.0, 5.0):
        asyncio.run(_one(run, level, 20))
    seeds = [seen.seed for seen in service.seen]
    assert len({document.seed, *seeds}) == 4
    first, _, again = (plan(seen)["a"].arrivals for seen in service.seen)
    assert not {one.at for one in first} & {one.at for one in again}
    assert not {one.seed for one in first} & {one.seed for one in again}
    other = trials(document)
    for level in (5.0, 10.0, 5.0):
        asyncio.run(_one(other, level, 20))
    assert [seen.seed for seen in service.seen[3:]] == seeds
    one(document.model_copy(update={"seed": 2}), 5, 20)
    assert service.seen[-1].seed not in seeds


def overrun(document: Scenario, observe: Callable[[Progress], None], until: float) -> list[Record]:
    """Ever more is open, until it is ended then: nothing was sent after that."""
    for at in range(int(until)):
        observe(progress(at, document.duration, 10 + 5 * at, 0.5 + 0.1 * at))
    return [
        answered(index, at, ttft=0.5 + 0.1 * at, team=team)
        for team, index, at in due(document)
        if at <= until
    ]


def test_a_saturated_trial_is_judged_on_what_was_sent(served: Callable[[Play], Service]) -> None:
    service = served(lambda document, observe: overrun(document, observe, 30))
    document = scenario(teams={"a": {"arrivals": {"kind": "constant", "rate": 20}}}, warmup=0)
    trial = one(document, 20, 200)
    assert trial.saturated and trial.valid and service.ended == [True]
    sent = trial.teams["a"].outcomes["ok"]
    assert trial.teams["a"].counted == sent == 599, "of 4,000"
    assert trial.teams["a"].good == pytest.approx(sent * 25 / 30, rel=0.01)
    assert trial.seconds == pytest.approx(30, abs=0.1)


def test_the_warm_up_is_not_taken_for_saturation(served: Callable[[Play], Service]) -> None:
    # It grows as the service fills, and then no more.
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        for at in range(100):
            level = min(at, 60)
            observe(progress(at, document.duration, 10 + level, 0.5 + 0.01 * level))
        return well(document, observe)

    service = served(play)
    assert not one(scenario(teams={"a": TEAM}, warmup=60), 5, 60).saturated
    assert one(scenario(teams={"a": TEAM}, warmup=0), 5, 100).saturated, "as it would be"
    assert service.ended == [False, True]


def test_a_trial_keeps_what_became_of_each_teams_requests(
    served: Callable[[Play], Service],
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        return [
            failed(index, at, Outcome.QUOTA_429, team=team)
            if team == "b" and index % 2
            else answered(index, at, ttft=0.25, team=team)
            for team, index, at in due(document)
        ]

    served(play)
    constant = {"arrivals": {"kind": "constant", "rate": 5}}
    trial = one(scenario(teams={"a": constant, "b": constant}), 10, 100)
    a, b = trial.teams["a"], trial.teams["b"]
    assert (a.good, a.counted, a.outcomes) == (500, 500, {"ok": 500})
    assert a.ttft_p99 == pytest.approx(0.25)
    assert (b.good, b.counted, b.outcomes) == (250, 500, {"ok": 250, "quota_429": 250})
    assert b.ttft_p99 is None, "it falls among the failed"


def test_a_team_that_is_refused_all_beyond_its_limits_says_nothing(
    served: Callable[[Play], Service],
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        return [
            failed(index, at, Outcome.QUOTA_429, team=team)
            if team == "flood"
            else answered(index, at, team=team)
            for team, index, at in due(document)
        ]

    served(play)
    flood = {"arrivals": POISSON, "expect": {"conforming": False}}
    assert list(one(scenario(teams={"a": TEAM, "flood": flood}), 10, 100).teams) == ["a"]


def test_a_search_finds_the_limit_of_the_team_that_fails_first(
    served: Callable[[Play], Service],
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        slow = rate_of(document) > 20
        return [
            answered(index, at, ttft=9.0 if slow and team == "premium" else 0.5, team=team)
            for team, index, at in due(document)
        ]

    served(play)
    premium = {"arrivals": {"kind": "poisson", "rate": 0.5}}
    document = scenario(teams={"chat": TEAM, "premium": premium})
    found = search(document, 5.5, 80, seconds=900, resolution=0.2)
    assert found.resolved and found.passed is not None and found.failed is not None
    assert found.passed <= 20 < found.failed
    assert "failed (premium)" in said.answer(trials(document).answer(found), "rate")


def test_ctrl_c_within_a_trial_ends_the_search_with_what_was_found(
    served: Callable[[Play], Service],
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        service.interrupted = rate_of(document) > 15
        return well(document, observe)

    service = served(play)
    found = search(scenario(teams={"a": TEAM}), 10, 80, seconds=100)
    assert (found.passed, found.failed, found.resolved) == (10, None, False)
    assert found.reason == "interrupted at 20 requests/s: this is what was found until then"


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
@pytest.mark.parametrize(
    ("point", "levels"), [("before", [10]), ("within", [10]), ("after", [10, 20])]
)
def test_a_signal_ends_the_search_with_the_trials_that_were_over(
    served: Callable[[Play], Service], point: str, levels: list[float], number: signal.Signals
) -> None:
    """Wherever it comes: also between two trials, where no run is there to hear it."""
    service = served(well)
    service.signalled = lambda ran, at: number if (rate_of(ran) > 15 and at == point) else None
    found = search(scenario(teams={"a": TEAM}), 10, 80, seconds=100)
    assert [tried.trial.level for tried in found.trials] == levels
    assert found.passed == levels[-1] and not found.resolved
    assert found.reason.startswith(f"interrupted at {2 * levels[-1]} requests/s")


@BOTH
def test_one_that_comes_while_a_saturated_trial_winds_down_ends_the_search_after_it(
    served: Callable[[Play], Service], number: signal.Signals
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        over = rate_of(document) > 15
        return overrun(document, observe, 30) if over else well(document, observe)

    service = served(play)
    service.signalled = lambda ran, at: number if (rate_of(ran) > 15 and at == "within") else None
    found = search(scenario(teams={"a": TEAM}, warmup=0), 10, 80, seconds=100)
    assert [tried.trial.saturated for tried in found.trials] == [False, True]
    assert (found.passed, found.failed, found.resolved) == (10, 20, False)
    assert found.reason.startswith("interrupted at 15 requests/s")


def test_a_signal_in_a_search_s_last_trial_takes_nothing_of_its_answer(
    served: Callable[[Play], Service],
) -> None:
    service = served(well)
    service.signalled = lambda ran, at: signal.SIGTERM if at == "after" else None
    found = search(scenario(teams={"a": TEAM}), 10, 10, seconds=100)
    assert found.passed == 10 and found.reason.startswith("even 10 requests/s passed")


def test_an_error_after_some_trials_ends_the_search_with_what_was_found(
    served: Callable[[Play], Service],
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        if rate_of(document) > 15:
            raise UserError("/v1/models does not answer")
        return well(document, observe)

    served(play)
    found = search(scenario(teams={"a": TEAM}), 10, 80, seconds=100)
    assert found.passed == 10 and not found.resolved
    assert "(/v1/models does not answer)" in found.reason
    with pytest.raises(UserError, match="does not answer"):
        search(scenario(teams={"a": TEAM}), 20, 80)


def test_what_was_due_and_never_sent_counts_as_missed(served: Callable[[Play], Service]) -> None:
    """By the plan of the run itself: a trial is planned once."""
    served(lambda document, observe: well(document, observe)[::2])
    trial = one(scenario(teams={"a": {"arrivals": {"kind": "constant", "rate": 5}}}), 10, 100)
    assert (trial.teams["a"].good, trial.teams["a"].counted) == (500, 1000)
    assert not trial.valid, "and it is the load test's doing"


def test_an_interrupted_trial_is_no_trial(served: Callable[[Play], Service]) -> None:
    served(well).interrupted = True
    with pytest.raises(Stopped):
        one(scenario(teams={"a": TEAM}), 5, 100)


def test_of_a_load_test_that_was_too_slow_nothing_is_believed_saturated_or_not(
    served: Callable[[Play], Service],
) -> None:
    def late(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        records = overrun(document, observe, 30)
        for record in records:
            record.sent = record.scheduled + 1.0
        return records

    served(late)
    trial = one(scenario(teams={"a": TEAM}), 20, 200)
    assert trial.saturated and not trial.valid and "after they were due" in trial.why


def command(folder: Path, document: Scenario, *options: str) -> Result:
    source = folder / "s.yaml"
    source.write_text(
        yaml.safe_dump(document.model_dump(mode="json", by_alias=True, exclude_unset=True))
    )
    return CliRunner().invoke(app, ["find-limit", str(source), "--each", "100", *options])


def test_the_answer_of_a_search_that_was_ended_is_printed_and_written(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        return [
            failed(index, at, Outcome.QUOTA_429, team=team)
            if rate_of(document) > 15
            else answered(index, at, team=team)
            for team, index, at in due(document)
        ]

    served(play)
    out = tmp_path / "found.json"
    options = ("--low", "15", "--high", "45", "--resolution", "0.2", "--out", str(out))
    done = command(tmp_path, scenario(teams={"a": TEAM}), *options)
    assert done.exit_code == 0
    assert "highest rate that keeps it: 15 requests/s" in done.stdout
    assert re.search(r"failed +quota_429", done.stdout)

    served(lambda document, observe: well(document, observe) if rate_of(document) < 25 else stop())
    done = command(tmp_path, scenario(teams={"a": TEAM}), *options)
    written = json.loads(out.read_text())
    assert done.exit_code == 4
    assert (written["passed"], written["failed"]) == (15, None)
    assert written["reason"].startswith("at 30 requests/s no trial could be made (it does not")
    assert written["reason"] in done.stdout


def stop() -> list[Record]:
    raise UserError("it does not answer")


@BOTH
def test_so_is_that_of_one_that_a_signal_ended_between_two_trials(
    served: Callable[[Play], Service], tmp_path: Path, number: signal.Signals
) -> None:
    service = served(well)
    service.signalled = lambda ran, at: number if (rate_of(ran) > 15 and at == "after") else None
    out = tmp_path / "found.json"
    done = command(tmp_path, scenario(teams={"a": TEAM}), "--low", "10", "--out", str(out))
    written = json.loads(out.read_text())
    assert done.exit_code == 4
    assert written["passed"] == 20 and len(written["trials"]) == 2
    assert written["reason"].startswith("interrupted at 40 requests/s")
    assert written["reason"] in done.stdout


def test_where_the_answer_cannot_be_written_is_said_before_the_search(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    service = served(well)
    for out in (tmp_path, tmp_path / "nowhere" / "found.json"):
        done = command(tmp_path, scenario(teams={"a": TEAM}), "--out", str(out))
        assert isinstance(done.exception, UserError) and "cannot be written" in str(done.exception)
    assert service.seen == []


def test_a_promise_of_all_requests_is_refused_with_the_reason(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    service = served(well)
    document = scenario(teams={"a": TEAM}, slo={"ttft": 3, "percent": 100})
    done = command(tmp_path, document)
    assert isinstance(done.exception, UserError)
    assert "no number of requests can show that 100% are good" in str(done.exception)
    assert service.seen == []


def test_teams_with_different_percents_are_refused_with_what_to_do(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    service = served(well)
    own = TEAM | {"expect": {"slo": {"ttft": 3, "percent": 95}}}
    document = scenario(teams={"a": TEAM, "b": own}, slo={"ttft": 3, "percent": 99})
    done = command(tmp_path, document)
    assert isinstance(done.exception, UserError)
    assert "different ones (a 99, b 95)" in str(done.exception)
    assert service.seen == []
    advised = str(done.exception).partition("such as ")[2].split()
    assert command(tmp_path, document, "--high", "10", *advised).exit_code == 4
    assert service.seen


def test_what_is_to_be_known_of_a_trial_is_said_and_written(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    def play(document: Scenario, observe: Callable[[Progress], None]) -> list[Record]:
        """At the higher rate each twentieth is cut by the end of the drain."""
        return [
            failed(index, at, Outcome.CANCELLED, team=team, code="drained")
            if rate_of(document) > 15 and index % 20 == 0
            else answered(index, at, team=team)
            for team, index, at in due(document)
        ]

    served(play)
    out = tmp_path / "found.json"
    options = ("--low", "10", "--high", "20", "--out", str(out))
    done = command(tmp_path, scenario(teams={"a": TEAM}), *options)
    (note,) = json.loads(out.read_text())["notes"]
    assert re.match(r"at 20 requests/s: [\d.]+% of requests were still open at the end", note)
    assert f"note: {note}" in done.stdout


def test_conversations_and_the_advice_about_them_are_said(
    served: Callable[[Play], Service], tmp_path: Path
) -> None:
    served(well)
    done = command(tmp_path, with_turns(warmup=20), "--high", "10")
    assert "highest rate that keeps it: 10 conversations/s" in done.stdout
    assert done.stderr.count("note: conversations may last 32 s") == 1


def with_turns(**changes: Any) -> Scenario:
    workloads = [{"turns": {"kind": "uniform", "low": 1, "high": 5}, "think": 10, "output": 100}]
    team = {"arrivals": POISSON, "workloads": workloads}
    return scenario(teams={"a": TEAM, "b": team}, slo={"ttft": 2, "tpot": 0.02}, **changes)


def test_where_there_are_several_turns_the_rate_is_of_conversations() -> None:
    assert unit_of(scenario(teams={"a": TEAM})) == "requests/s"
    assert unit_of(with_turns()) == "conversations/s"


def test_a_warm_up_that_is_shorter_than_a_conversation_is_advised_against() -> None:
    # 3 turns of 2 s and 100 times 20 ms, with 10 s between them.
    (line,) = advice(with_turns(warmup=20))
    assert "conversations may last 32 s" in line and "--set warmup=32" in line
    assert advice(with_turns(warmup=33)) == []
    assert advice(scenario(teams={"a": TEAM})) == []
