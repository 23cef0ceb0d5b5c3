"""Teams declared in a YAML file."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UserError
from service.quota.limits import MAX_PER_MINUTE, MAX_TOKENS, Effort, Limits, Tier
from service.tenants import declared
from service.tenants.difference import difference
from service.tenants.team import Team

FILE = """\
teams:
  - name: search
    tier: interactive
    timezone: Europe/Berlin
    limits:
      rpm: 600
      tpm: 2M
      daily-tokens: 200M
      models: [gpt-oss-120b]
    models:
      gpt-oss-120b: {concurrency: 8, efforts: [low, medium]}
  - name: batch
"""
SEARCH = Team(
    name="search",
    tier=Tier.INTERACTIVE,
    timezone="Europe/Berlin",
    limits=Limits(rpm=600, tpm=2_000_000, daily_tokens=200_000_000, models=("gpt-oss-120b",)),
    model_limits={"gpt-oss-120b": Limits(concurrency=8, efforts=(Effort.LOW, Effort.MEDIUM))},
)

counts = st.integers(1, MAX_PER_MINUTE)
tokens = st.integers(1, MAX_TOKENS)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
model_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,12}", fullmatch=True)
efforts = st.lists(st.sampled_from(Effort), min_size=1, max_size=3, unique=True).map(tuple)


def limits(*, with_models: bool) -> st.SearchStrategy[Limits]:
    models = st.lists(model_names, min_size=1, max_size=3).map(tuple)
    return st.builds(
        Limits,
        rpm=st.none() | counts,
        tpm=st.none() | counts,
        concurrency=st.none() | st.integers(1, 1_000_000),
        daily_tokens=st.none() | tokens,
        monthly_tokens=st.none() | tokens,
        max_context=st.none() | tokens,
        max_output=st.none() | tokens,
        models=st.none() | models if with_models else st.none(),
        efforts=st.none() | efforts,
    )


teams = st.builds(
    Team,
    name=names,
    tier=st.sampled_from(Tier),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]),
    limits=limits(with_models=True),
    model_limits=st.dictionaries(model_names, limits(with_models=False).filter(bool), max_size=3),
    default_output=st.integers(1, 131_072),
    isolate_cache=st.booleans(),
    disabled=st.booleans(),
)


@given(st.lists(teams, max_size=4, unique_by=lambda team: team.name))
def test_an_exported_file_changes_nothing_when_it_is_read_back(present: list[Team]) -> None:
    wanted = declared.read(declared.write(present), "exported")
    assert difference(wanted, present, prune=True) == []


def test_a_file_says_what_the_options_say() -> None:
    search, batch = declared.read(FILE, "teams.yaml")
    assert search == replace(SEARCH, cache_salt=search.cache_salt)
    assert batch == Team("batch", cache_salt=batch.cache_salt)


def test_anchors_share_limits_between_teams() -> None:
    text = (
        "teams:\n- {name: a, limits: &small {rpm: 5}}\n"
        "- {name: b, limits: *small}\n- {name: c, limits: {<<: *small, tpm: 1k}}\n"
    )
    assert [team.limits for team in declared.read(text, "-")] == [
        Limits(rpm=5),
        Limits(rpm=5),
        Limits(rpm=5, tpm=1000),
    ]


@pytest.mark.parametrize("text", ["1", "true", "no"])
def test_a_name_that_yaml_takes_for_something_else_is_written_in_quotes(text: str) -> None:
    assert declared.read(declared.write([Team(text)]), "-")[0].name == text


FAULTS = {
    "": "f is empty: declare teams",
    "teams:\n- name: a\n  limits:\n    rmp: 5\n": "f:4: teams[0].limits.rmp: there is no such name",
    "teams:\n- name: a\n  teir: batch\n": "f:3: teams[0].teir: there is no such name",
    "team: []\n": "f:1: teams: Field required",
    "- name: a\n": "f:1: the file: ",
    "teams: 5\n": "f:1: teams: ",
    "teams:\n- a\n": "f:2: teams[0]: ",
    "teams:\n- tier: batch\n": "f:2: teams[0].name: Field required",
    "teams:\n- name: A B\n": "f:2: teams[0].name: ",
    "teams:\n- name: 5\n": "f:2: teams[0].name: Input should be a valid string",
    "teams:\n- name: a\n  tier: fast\n": "f:3: teams[0].tier: Input should be 'interactive', ",
    "teams:\n- name: a\n  timezone: Mars\n": "f:3: teams[0].timezone: no time zone is called",
    "teams:\n- name: a\n  disabled: 1\n": "f:3: teams[0].disabled: ",
    "teams:\n- name: a\n  limits:\n    rpm: true\n": "f:4: teams[0].limits.rpm: ",
    "teams:\n- name: a\n  limits:\n    rpm: 0\n": "f:4: teams[0].limits.rpm: ",
    "teams:\n- name: a\n  limits: {tpm: lots}\n": "f:3: teams[0].limits.tpm: 'lots' is not a count",
    "teams:\n- name: a\n  limits: {models: x}\n": "f:3: teams[0].limits.models: ",
    "teams:\n- name: a\n  models:\n    m:\n      daily-tokens: -1\n": (
        "f:5: teams[0].models.m.daily_tokens: "
    ),
    "teams:\n- name: a\n  models: {m: {models: [x]}}\n": "f:3: teams[0].models.m.models: ",
    "teams:\n- name: a\n- name: b\n- name: a\n": "f:4: team a is declared twice",
    "teams:\n- name: a\n  tier: batch\n  tier: standard\n": "f:4: tier is given twice",
    "teams:\n- name: a\n  limits:\n    max-output: 5\n    max_output: 6\n": (
        "f:3: teams[0].limits: a name is given twice, with - and with _"
    ),
    "teams: [\n": "f:2: not YAML: ",
    "teams: !!python/object:os.system {}\n": "f:1: not YAML: ",
    "teams: \x00\n": "f: not YAML: ",
    "teams: 2026-99-99\n": "f: not YAML of ours: ",
    "[" * 5000: "f nests too deeply",
    "teams: &a [*a]\n": "f:1: teams[0]: ",
    "teams:\n- ? [a]\n  : b\n": "f:2: not YAML: ",
    "--- {}\n--- {}\n": "f:2: not YAML: ",
    "5\n": "f:1: the file: ",
}


@pytest.mark.parametrize(("text", "line"), FAULTS.items())
def test_a_fault_is_one_line_with_its_place(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        declared.read(text, "f")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_whatever_the_file_holds_it_is_read_or_refused(text: str) -> None:
    for content in (text, f"teams:\n- name: a\n  limits: {{rpm: {text}}}\n"):
        try:
            declared.read(content, "f")
        except UserError as error:
            assert "\n" not in str(error)


def test_a_change_is_a_line_that_names_only_what_differs() -> None:
    batch = Team("batch", limits=Limits(rpm=5), model_limits={"m": Limits(tpm=1000)})
    wanted = [
        replace(SEARCH, tier=Tier.BATCH, limits=Limits(rpm=900)),
        Team("new", limits=Limits(tpm=2_000_000), default_output=99),
        replace(batch, model_limits={"m": Limits(rpm=1)}, isolate_cache=False),
    ]
    present = [SEARCH, batch, Team("old")]
    assert [str(change) for change in difference(wanted, present, prune=True)] == [
        "~ search: tier interactive -> batch, rpm 600 -> 900, tpm 2M -> none,"
        " daily_tokens 200M -> none, models gpt-oss-120b -> none",
        "+ new: default_output 99, tpm 2M",
        "~ batch: isolate_cache true -> false, m rpm none -> 1, m tpm 1k -> none",
        "- old",
    ]


def test_teams_that_are_not_in_the_file_are_left_alone() -> None:
    assert difference([], [SEARCH], prune=False) == []


def test_a_team_that_is_declared_keeps_its_cache_salt() -> None:
    [change] = difference([Team("search")], [SEARCH], prune=False)
    assert change.after is not None
    assert change.after.cache_salt == SEARCH.cache_salt
