"""Scenarios: what is written is what is meant, and what is wrong is said in one line."""

import json
import math
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from loadtest.cli.options import changes
from loadtest.errors import UserError
from loadtest.scenario.document import Scenario
from loadtest.scenario.lengths import Fixed, LogNormal
from loadtest.scenario.load import load, ready
from loadtest.scenario.schema import PATH, schema

SMALL: Final = {"name": "small", "teams": {"main": {"arrivals": {"kind": "poisson", "rate": 2}}}}
NAMES: Final = """
agentic batch-overnight chat mlperf-interactive mlperf-server noisy-neighbour rag-long-prompt
retry-storm smoke soak
""".split()


def small(**changes: Any) -> dict[str, Any]:
    return SMALL | changes


def of(tmp_path: Path, document: object) -> Scenario:
    path = tmp_path / "scenario.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return load(str(path))


def team(**changes: Any) -> dict[str, Any]:
    return {"main": {"arrivals": {"kind": "poisson", "rate": 2}} | changes}


def test_the_ready_made_ones_are_there_and_valid() -> None:
    assert list(ready()) == NAMES
    for name in NAMES:
        scenario = load(name)
        assert scenario.name == name
        assert len(scenario.description) > 40


def test_mlperfs_objectives_are_mlperfs() -> None:
    server, interactive = load("mlperf-server"), load("mlperf-interactive")
    assert (server.slo.ttft, server.slo.tpot, server.slo.percent) == (3.0, 0.08, 99.0)
    assert (interactive.slo.ttft, interactive.slo.tpot) == (2.0, 0.015)
    for scenario in (server, interactive):
        assert scenario.duration - scenario.warmup == 600


def test_the_schema_that_is_kept_is_that_of_the_models() -> None:
    assert json.loads(PATH.read_text()) == schema(), "make it anew: gptoss-loadtest schema"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90", None), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("5ms", 0.005)],
)
def test_durations(tmp_path: Path, text: object, seconds: float | None) -> None:
    document = small(duration="3h", drain=text)
    if seconds is None:
        with pytest.raises(UserError, match="a duration is a number of seconds"):
            of(tmp_path, document)
    else:
        assert of(tmp_path, document).drain == seconds


def test_a_number_of_tokens_is_a_fixed_length(tmp_path: Path) -> None:
    scenario = of(tmp_path, small(teams=team(workloads=[{"prompt": 100}])))
    assert scenario.teams["main"].workloads[0].prompt.kind == "fixed"


def test_changes_from_the_command_line_replace_what_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    said = {"target.url": "http://127.0.0.1:9", "teams.main.arrivals.rate": 7, "duration": "5s"}
    scenario = load(str(path), said)
    assert scenario.target.url == "http://127.0.0.1:9"
    assert scenario.teams["main"].arrivals.rate == 7  # type: ignore[union-attr]
    assert scenario.duration == 5


def test_what_is_in_a_list_is_changed_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(small(teams=team(workloads=[{"output": 3}, {"output": 4}]))))
    scenario = load(str(path), {"teams.main.workloads.1.output": 5})
    outputs = [one.output for one in scenario.teams["main"].workloads]
    assert outputs == [Fixed(tokens=3), Fixed(tokens=5)]
    for place in ("2", "name", "-1"):
        with pytest.raises(UserError, match=f"{place} is none of a list of 2, numbered from 0"):
            load(str(path), {f"teams.main.workloads.{place}.output": 5})


@pytest.mark.parametrize("name", ["mlperf-server", "mlperf-interactive"])
def test_the_longest_answers_that_keep_mlperfs_objectives_are_waited_for(name: str) -> None:
    scenario = load(name)
    (workload,) = scenario.teams["main"].workloads
    assert isinstance(workload.output, LogNormal)
    assert scenario.slo.ttft is not None and scenario.slo.tpot is not None
    longest = scenario.slo.ttft + (workload.output.high or 0) * scenario.slo.tpot
    assert longest <= scenario.drain <= scenario.target.timeouts.total


def test_all_that_smoke_sends_has_an_objective() -> None:
    """Half of it comes whole, and has no first token."""
    slo = load("smoke").slo
    assert slo.ttft is not None and slo.e2e is not None


def test_a_model_s_name_is_text_and_a_duration_may_be_a_number() -> None:
    made = changes(["seed=3"], model="120", duration="90")
    assert made == {"seed": 3, "target.model": "120", "duration": 90.0}
    assert load("smoke", made).target.model == "120"
    assert changes([], duration="5m") == {"duration": "5m"}


def test_a_trace_is_found_beside_its_scenario(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").touch()
    arrivals = {"kind": "trace", "file": "trace.jsonl", "format": "mooncake"}
    scenario = of(tmp_path, small(teams={"main": {"arrivals": arrivals}}))
    assert scenario.teams["main"].arrivals.file == tmp_path / "trace.jsonl"  # type: ignore[union-attr]


WRONG: Final = {
    "a word that is none": (small(duratoin=3), "there is no duratoin: did you mean duration?"),
    "one below": (
        small(teams={"main": {"arrivals": {"kind": "poisson", "rat": 3}}}),
        "there is no teams.main.arrivals.rat: did you mean rate?",
    ),
    "nothing like it": (small(zzz=1), "there is no zzz: known are"),
    "a negative rate": (
        small(teams={"main": {"arrivals": {"kind": "poisson", "rate": -1}}}),
        "teams.main.arrivals.rate must be above 0 (it is -1)",
    ),
    "no such kind": (
        small(teams={"main": {"arrivals": {"kind": "poison", "rate": 1}}}),
        "teams.main.arrivals: there is no kind poison: did you mean poisson?",
    ),
    "no team": (small(teams={}), "teams must have 1 or more in it"),
    "no name": ({"teams": team()}, "name is missing"),
    "lengths the wrong way round": (
        small(teams=team(workloads=[{"prompt": {"kind": "uniform", "low": 5, "high": 3}}])),
        "low (5) is above high (3)",
    ),
    "nothing would be counted": (
        small(duration=5, warmup=5),
        "the warmup of 5 s is no shorter than the duration of 5 s. Give a longer one, or a shorter"
        " warmup, such as --set warmup=1",
    ),
    "nothing would be sent": (small(duration=0), "duration must be above 0: nothing would be sent"),
    "no kind": (
        small(teams={"main": {"arrivals": {"rate": 1}}}),
        "teams.main.arrivals.kind is missing",
    ),
    "a number for names": (
        small(teams=5),
        "teams must have names and values below it (it is 5)",
    ),
    "a number for arrivals": (
        small(teams={"main": {"arrivals": 5}}),
        "teams.main.arrivals must have names and values below it (it is 5)",
    ),
    "no tokens": (
        small(teams=team(workloads=[{"prompt": 0}])),
        "teams.main.workloads.0.prompt must be above 0 (it is 0)",
    ),
    "a word of others": (
        small(teams=team(workloads=[{"reasoning_effort": "hard"}])),
        "reasoning_effort must be 'low', 'medium' or 'high' (it is 'hard')",
    ),
    "a fault of nothing": (
        small(faults=[{"at": 1, "do": "kill", "target": "engine"}]),
        "fault_targets has no 'engine' (it has: none)",
    ),
    "a fault after the end": (
        small(
            fault_targets={"engine": {"kind": "process", "command": "vllm serve"}},
            faults=[{"at": 60, "do": "kill", "target": "engine"}],
        ),
        "kill of engine at 60 s would never be made: nothing is sent from 60 s on",
    ),
    "shares the wrong way round": (
        small(teams=team(expect={"percent": {"quota_429": [90, 60]}})),
        "teams.main.expect: of quota_429 the lowest percent (90) is above 60",
    ),
    "more than all": (
        small(teams=team(expect={"percent": {"quota_429": [20, 110]}})),
        "teams.main.expect.percent.quota_429.1 must be at most 100 (it is 110)",
    ),
    "a list": ("- a", "holds no scenario"),
    "no YAML": ("a: [", "is no YAML in line 1"),
    "a trace that is not there": (
        small(teams={"main": {"arrivals": {"kind": "trace", "file": "no", "format": "azure"}}}),
        "teams.main.arrivals.file: there is no",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    document, said = WRONG[what]
    with pytest.raises(UserError) as error:
        of(tmp_path, document)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_is_none_names_those_that_are() -> None:
    with pytest.raises(UserError, match=r"no file and no ready-made scenario: those are agentic"):
        load("smok")


def test_a_team_that_is_none_is_said_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    for below in ("arrivals.rate", "retry.policy"):
        with pytest.raises(UserError) as error:
            load(str(path), {f"teams.mian.{below}": 5})
        said = f"--set teams.mian.{below}: there is no team mian: did you mean main?"
        assert str(error.value) == said
    with pytest.raises(UserError, match="there is no fault target x: known are none"):
        load(str(path), {"fault_targets.x.command": "a"})


def test_a_whole_team_can_be_added_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    arrivals = "teams.more.arrivals"
    added = load(str(path), {f"{arrivals}.kind": "constant", f"{arrivals}.rate": 1})
    assert list(added.teams) == ["main", "more"]


def test_a_folder_and_what_is_no_text_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder: name a scenario's file, such as .*/sce"):
        load(str(tmp_path))
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"is a folder: name .*, such as .*/mine\.yaml"):
        load(str(tmp_path))
    with pytest.raises(UserError, match="cannot be read: it is no text in UTF-8"):
        load(str(tmp_path / "mine.yaml"))


WORDS: Final = re.compile(r"\b(dictionary|input|tag|discriminator|item|instance|integer)\b", re.I)


@pytest.mark.parametrize("value", [-1, 0, 1.5, "x", True, None, [], {}, [1], {"kind": 3}, math.inf])
@pytest.mark.parametrize(
    "key",
    """duration seed name slo slo.percent target target.verify_tls target.headers cost faults
    scrapes teams teams.main teams.main.arrivals teams.main.arrivals.rate teams.main.workloads
    workers teams.main.workloads.0 teams.main.workloads.0.prompt teams.main.workloads.0.stream trust
    teams.main.workloads.0.tools teams.main.expect.percent teams.main.retry.attempts""".split(),
)
def test_whatever_is_wrong_is_said_in_words_of_who_writes_it(
    tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(small(teams=team(workloads=[{"prompt": 100}]))))
    try:
        load(str(path), {key: value})
    except UserError as error:
        said = str(error)
        assert key in said, "it names the place as it is written"
        assert "\n" not in said and not WORDS.search(said.removeprefix(str(path)))


def test_deeds_fit_their_targets(tmp_path: Path) -> None:
    proxy = {"kind": "proxy", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2"}
    process = {"kind": "process", "command": "vllm serve"}
    both = {"proxy": proxy, "engine": process}
    for target, do in (("proxy", "kill"), ("engine", "slow")):
        fault = {"at": 1, "do": do, "target": target}
        with pytest.raises(UserError, match=f"{do} can be done to"):
            of(tmp_path, small(fault_targets=both, faults=[fault]))
    for target, do in (("proxy", "slow"), ("engine", "kill")):
        fault = {"at": 1, "do": do, "target": target}
        assert of(tmp_path, small(fault_targets=both, faults=[fault])).faults[0].do == do


def test_the_least_bound_of_lag_counts(tmp_path: Path) -> None:
    assert of(tmp_path, small(slo={"ttft": 3})).lag_bound == 0.05
    assert of(tmp_path, small(slo={"ttft": 0.2})).lag_bound == pytest.approx(0.01)
