"""`fleet.yaml` says what the chart's values say, in the same words; what is wrong is one line."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from service.errors import UserError
from service.fleet import document
from service.fleet.document import Fleet, parse, read, schema, written
from service.profiles import PROFILES

ROOT: Final = Path(__file__).parents[2]
VALUES: Final = yaml.safe_load((ROOT / "helm/gptoss/values.yaml").read_text())
CHART: Final = json.loads((ROOT / "helm/gptoss/values.schema.json").read_text())

EXAMPLE: Final = """\
name: prod
drainSeconds: 300
engine:
  defaults:
    startupSeconds: 900
    env: {NCCL_DEBUG: WARN}
  pools:
    large:
      profile: h100-80g
      model: gpt-oss-120b
      replicas: 2
      rollout: {surge: 1, unavailable: 0}
      nodeSelector: {rack: a}
    small:
      profile: l40s
      autoscaling: {enabled: true, minReplicas: 0, maxReplicas: 6}
weights:
  folders: {gpt-oss-120b: /models/gpt-oss-120b}
gateways: [http://10.0.0.5:8001, http://10.0.0.6:8001]
"""

# What there is in a cluster of Kubernetes alone, or what gateways are told elsewhere: deliberate.
CHART_ONLY: Final = {
    "pool": {
        *("weight", "slots", "image", "terminationGracePeriodSeconds", "resources"),
        *("sharedMemory", "compileCache", "readOnlyRootFilesystem", "nodesByProfile"),
        *("tolerations", "supplementalGroups", "runtimeClassName", "priorityClassName"),
        *("topologySpreadConstraints", "podAnnotations", "podLabels"),
    },
    "engine": {"fallbacks"},
}
FLEET_ONLY: Final = {"name", "noticeSeconds", "gateways", "ports", "board"}
# The chart names `main`; a fleet's hub is asked for the newest, which is that.
OTHER_DEFAULTS: Final = {"weights.revision"}
# A share of engines ("25%") is a word of Deployments alone.
OTHER_KINDS: Final = {"rollout.surge", "rollout.unavailable"}


def words(group: type[BaseModel]) -> dict[str, Any]:
    """What a group's names are in the file, and their defaults, as JSON."""
    return {
        str(field.alias): _plain(field.get_default(call_default_factory=True))
        for field in group.model_fields.values()
    }


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value


def fleet(**pool: Any) -> dict[str, Any]:
    """A document with one pool."""
    return {"engine": {"pools": {"main": {"profile": "cpu-dev", **pool}}}}


def refused(text: str) -> str:
    """Why it is."""
    with pytest.raises(UserError) as caught:
        parse(text)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# The chart's words


def test_a_pool_has_the_names_and_defaults_that_it_has_in_the_chart() -> None:
    chart, pool = VALUES["engine"]["defaults"], words(document.Pool)
    assert pool.keys() <= chart.keys()
    assert chart.keys() - pool.keys() == CHART_ONLY["pool"]
    assert {name: pool[name] for name in pool} == {name: chart[name] for name in pool}


@pytest.mark.parametrize("name", ["rollout", "autoscaling"])
def test_a_group_of_a_pool_has_the_names_and_defaults_that_it_has_in_the_chart(name: str) -> None:
    groups: dict[str, type[BaseModel]] = {
        "rollout": document.Rollout,
        "autoscaling": document.Autoscaling,
    }
    assert words(groups[name]) == VALUES["engine"]["defaults"][name]


def test_what_is_beside_the_pools_has_the_charts_names_and_defaults() -> None:
    ours = words(Fleet)
    assert ours.keys() - VALUES.keys() == FLEET_ONLY
    for name in ("drainSeconds", "offline"):
        assert ours[name] == VALUES[name]
    assert VALUES["engine"].keys() - {"pools", "defaults"} == CHART_ONLY["engine"]
    weights = words(document.Weights)
    shared = weights.keys() & VALUES["weights"].keys()
    assert shared == {"revision"}
    assert {
        f"weights.{name}" for name in shared if weights[name] != VALUES["weights"][name]
    } == OTHER_DEFAULTS


def _kinds(said: Mapping[str, Any]) -> set[str]:
    kinds = said.get("type", "object")
    # A number of seconds may be whole in the chart, and any here.
    return {"number" if kind == "integer" else kind for kind in [*_listed(kinds)]}


def _listed(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds


def test_a_word_takes_the_kind_of_value_that_it_takes_in_the_chart() -> None:
    made, theirs = schema()["$defs"], CHART["properties"]["engine"]["properties"]["defaults"]
    other = set()
    for group, place in (("Pool", ""), ("Rollout", "rollout"), ("Autoscaling", "autoscaling")):
        chart = theirs["properties"][place]["properties"] if place else theirs["properties"]
        for name, said in made[group]["properties"].items():
            if _kinds(said) != _kinds(chart[name]):
                other.add(f"{place}.{name}".strip("."))
    assert other == OTHER_KINDS


def test_a_pool_has_a_name_that_the_chart_would_take() -> None:
    pattern = CHART["properties"]["engine"]["properties"]["pools"]["propertyNames"]["pattern"]
    (ours,) = document.Name.__metadata__  # type: ignore[attr-defined]
    assert ours.pattern == pattern


# Defaults


def test_defaults_are_under_each_pool_name_by_name() -> None:
    defaults = {
        "profile": "cpu-dev",
        "replicas": 3,
        "rollout": {"surge": 2, "unavailable": 0},
        "env": {"A": "1", "B": "2"},
        "nodeSelector": {"rack": "a"},
    }
    pools = {
        "as-it-is": {},
        "none": None,
        "own": {"replicas": 0, "rollout": {"unavailable": 1}, "env": {"B": "3", "C": "4"}},
    }
    found = parse(yaml.safe_dump({"engine": {"defaults": defaults, "pools": pools}})).pools
    assert found["as-it-is"] == found["none"]
    assert found["none"].replicas == 3
    assert found["own"].replicas == 0, "what is 0 is said, too"
    assert (found["own"].rollout.surge, found["own"].rollout.unavailable) == (2, 1)
    assert found["own"].env == {"A": "1", "B": "3", "C": "4"}
    assert found["own"].node_selector == {"rack": "a"}


def test_what_neither_says_is_the_charts_default() -> None:
    (pool,) = parse("engine: {pools: {main: {profile: cpu-dev}}}").pools.values()
    chart = VALUES["engine"]["defaults"]
    assert pool.replicas == chart["replicas"]
    assert pool.stall_seconds == chart["stallSeconds"]
    assert pool.autoscaling.scale_down_seconds == chart["autoscaling"]["scaleDownSeconds"]


def test_a_pool_without_a_model_has_the_first_of_its_profile() -> None:
    for profile in PROFILES.values():
        pool = parse(yaml.safe_dump(fleet(profile=profile.name))).pools["main"]
        assert pool.model_name == next(iter(profile.models))
        assert pool.settings == profile.models[pool.model_name]


@pytest.mark.parametrize("model", ["gpt-oss-120b", "openai/gpt-oss-120b", "GPT-OSS-120b"])
def test_a_model_may_be_called_as_its_hub_calls_it(model: str) -> None:
    pool = parse(yaml.safe_dump(fleet(profile="h200", model=model))).pools["main"]
    assert pool.model_name == "gpt-oss-120b"


# What is wrong


def _pool(**fields: Any) -> str:
    return yaml.safe_dump(fleet(**fields))


def _beside(**fields: Any) -> str:
    return yaml.safe_dump({**fleet(), **fields})


BAD: Final = {
    "unknown name": (_beside(drain=5), ["drain: there is no such name"]),
    "unknown name of a pool": (_pool(replica=2), ["engine.pools.main.replica", "no such name"]),
    "unknown name within": (_pool(rollout={"serge": 1}), ["engine.pools.main.rollout.serge"]),
    "the code's name, not the chart's": (_beside(drain_seconds=5), ["no such name"]),
    "the code's name in a pool": (_pool(stall_seconds=90), ["no such name"]),
    "true for a number": (_pool(replicas=True), ["engine.pools.main.replicas", "integer"]),
    "words for a number": (_pool(replicas="two"), ["engine.pools.main.replicas", "integer"]),
    "part of an engine": (_pool(replicas=1.5), ["engine.pools.main.replicas", "integer"]),
    "fewer than none": (_pool(replicas=-1), ["engine.pools.main.replicas", "0"]),
    "a share of engines": (_pool(rollout={"surge": "25%"}), ["rollout.surge", "integer"]),
    "true for seconds": (_beside(drainSeconds=True), ["drainSeconds", "number"]),
    "words for seconds": (_beside(drainSeconds="5m"), ["drainSeconds", "number"]),
    "endless seconds": (_beside(drainSeconds=float("inf")), ["drainSeconds", "3600"]),
    "no number at all": (_pool(startupSeconds=float("nan")), ["startupSeconds"]),
    "a number for true": (_pool(autoscaling={"enabled": 1}), ["autoscaling.enabled", "boolean"]),
    "a secret": (_pool(env={"VLLM_API_KEY": "x"}), ["VLLM_API_KEY", "`ray start`"]),
    "a setting of ours": (_pool(env={"GPTOSS_DRAIN": "1"}), ["GPTOSS_", "the node's"]),
    "a number as a variable": (_pool(env={"A": 1}), ["engine.pools.main.env.A", "string"]),
    "unknown profile": (_pool(profile="h100"), ["engine.pools.main", "'h100'", "h100-80g"]),
    "unknown model": (_pool(model="gpt-5"), ["engine.pools.main", "'gpt-5'", "gpt-oss-20b"]),
    "model that the profile does not run": (
        _pool(profile="l40s", model="gpt-oss-120b"),
        ["engine.pools.main", "l40s does not run gpt-oss-120b", "gpt-oss-20b"],
    ),
    "nothing could be replaced": (
        _pool(rollout={"surge": 0, "unavailable": 0}),
        ["engine.pools.main.rollout", "surge", "unavailable", "nothing"],
    ),
    "fewer at most than at least": (
        _pool(autoscaling={"minReplicas": 5}),
        ["engine.pools.main.autoscaling", "minReplicas is 5", "maxReplicas 4"],
    ),
    "autoscaling without gateways": (
        _pool(autoscaling={"enabled": True}),
        ["engine.pools.main.autoscaling", "`gateways`"],
    ),
    "gateway that is no URL": (_beside(gateways=["10.0.0.5:8001"]), ["gateways", "URL"]),
    "gateway without a host": (_beside(gateways=["http://"]), ["gateways", "URL"]),
    "one gateway that is no list": (_beside(gateways="http://10.0.0.5:8001"), ["gateways"]),
    "no profile": ("engine: {pools: {main: {}}}", ["engine.pools.main.profile is missing"]),
    "a pool of nothing": ("engine: {pools: {main: }}", ["engine.pools.main.profile is missing"]),
    "no pools": ("engine: {}", ["engine.pools: is missing"]),
    "no engine": ("name: prod", ["engine: is missing"]),
    "pools that are a list": ("engine: {pools: [main]}", ["engine.pools"]),
    "a pool that is a number": ("engine: {pools: {main: 5}}", ["engine.pools.main"]),
    "defaults that are a number": (
        "engine: {defaults: 5, pools: {main: {profile: cpu-dev}}}",
        ["engine.defaults"],
    ),
    "defaults that are a list": (
        "engine: {defaults: [replicas], pools: {main: {profile: cpu-dev}}}",
        ["engine.defaults"],
    ),
    "wrong default": (
        "engine: {defaults: {replicas: x}, pools: {main: {profile: cpu-dev}}}",
        ["replicas", "integer"],
    ),
    "pool name in capitals": ("engine: {pools: {Main: {profile: cpu-dev}}}", ["Main", "no name"]),
    "pool name with _": ("engine: {pools: {a_b: {profile: cpu-dev}}}", ["a_b", "no name"]),
    "pool name that ends in -": ("engine: {pools: {a-: {profile: cpu-dev}}}", ["a-", "no name"]),
    "pool name that is long": (f"engine: {{pools: {{{'a' * 16}: {{}}}}}}", ["no name"]),
    "pool name that is a number": ("engine: {pools: {7: {profile: cpu-dev}}}", ["engine.pools.7"]),
    "name of the fleet": (_beside(name="Prod!"), ["name: is no name", "15"]),
    "ports the wrong way round": (_beside(ports={"first": 9000, "last": 8000}), ["ports", "9000"]),
    "port of the system": (_beside(ports={"first": 80}), ["ports.first", "1024"]),
    "port that there is not": (_beside(board={"port": 70_000}), ["board.port", "65535"]),
    "board at a name": (_beside(board={"host": "head"}), ["board.host", "IP address"]),
    "folder of no model": (_beside(weights={"folders": {"gpt-oss-20": "/m"}}), ["gpt-oss-20"]),
    "empty": ("", ["names and values"]),
    "a comment alone": ("# nothing yet\n", ["names and values"]),
    "a list": ("- main", ["names and values"]),
    "a sentence": ("two engines please", ["names and values"]),
    "no YAML": ("engine: {pools: {", ["is not YAML", "line 1"]),
    "no YAML further down": ("name: prod\nengine: [}", ["is not YAML", "line 2"]),
    "no text": ("engine: \0", ["is not YAML"]),
    "a day that there is not": (f"{_pool()}\nname: 2020-13-45", []),
    "another program's tag": ("engine: !!python/object:os.system {}", ["is not YAML", "line 1"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_says_where(case: str) -> None:
    text, words = BAD[case]
    message = refused(text)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("case", ["unknown name", "unknown profile", "empty", "no YAML"])
def test_a_line_about_a_file_names_the_file(case: str, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(BAD[case][0])
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: {refused(BAD[case][0])}"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x80\x81\xff")
    for path, why in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "no text"),
    ):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_is_what_its_text_is(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(EXAMPLE)
    assert read(file) == parse(EXAMPLE)


# Documents that are right, of every kind

names = st.from_regex(r"[a-z]([-a-z0-9]{0,13}[a-z0-9])?", fullmatch=True)
texts = st.text(max_size=12)
seconds = st.integers(60, 3600) | st.floats(60, 3600)
counts = st.integers(0, 4096)


@st.composite
def pools(draw: st.DrawFn) -> dict[str, Any]:
    profile = draw(st.sampled_from(list(PROFILES.values())))
    least, most = sorted(draw(st.tuples(counts, st.integers(1, 4096))))
    rollout = draw(st.tuples(counts, counts).filter(any))
    some: dict[str, st.SearchStrategy[Any]] = {
        "model": st.sampled_from(["", *profile.models]),
        "replicas": counts,
        "startupSeconds": seconds,
        "stallSeconds": seconds,
        "rollout": st.just(dict(zip(("surge", "unavailable"), rollout, strict=True))),
        "autoscaling": st.fixed_dictionaries(
            {"minReplicas": st.just(least), "maxReplicas": st.just(max(most, 1))},
            optional={
                "enabled": st.booleans(),
                "requestsPerReplica": counts,
                "scaleDownSeconds": seconds,
            },
        ),
        "nodeSelector": st.dictionaries(texts, texts, max_size=3),
        "env": st.dictionaries(texts, texts, max_size=3),
    }
    required = {"profile": st.just(profile.name)}
    return draw(st.fixed_dictionaries(required, optional=some))


documents = st.fixed_dictionaries(
    {
        "engine": st.fixed_dictionaries(
            {"pools": st.dictionaries(names, pools(), max_size=4)},
        ),
        "gateways": st.lists(
            st.sampled_from(["http://10.0.0.5:8001", "https://gateway.corp"]), min_size=1
        ),
    },
    optional={
        "name": names,
        "drainSeconds": st.integers(1, 3600) | st.floats(1, 3600),
        "noticeSeconds": st.floats(0, 600),
        "offline": st.booleans(),
        "weights": st.fixed_dictionaries(
            {},
            optional={
                "revision": texts,
                "folders": st.dictionaries(
                    st.sampled_from(["gpt-oss-120b", "gpt-oss-20b", "gpt-oss-tiny"]), texts
                ),
            },
        ),
        "ports": st.just({"first": 20_000, "last": 20_000}),
        "board": st.fixed_dictionaries(
            {"host": st.ip_addresses().map(str), "port": st.integers(1024, 65_535)}
        ),
    },
)


@settings(max_examples=150)
@given(documents)
def test_what_is_written_is_read_as_the_same_fleet(data: dict[str, Any]) -> None:
    found = parse(yaml.safe_dump(data))
    again = parse(written(found))
    assert again == found
    assert written(again) == written(parse(written(again))), "however often"


@settings(max_examples=60)
@given(documents)
def test_the_schema_takes_what_is_taken(data: dict[str, Any]) -> None:
    _validator().validate(data)
    _validator().validate(yaml.safe_load(written(parse(yaml.safe_dump(data)))))


# The schema


def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_in_the_package_is_the_models() -> None:
    """`python -m service.cli fleet schema > service/fleet/schema.json` makes it."""
    assert document.SCHEMA.read_text() == json.dumps(schema(), indent=2) + "\n"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_an_example_is_right_by_the_schema_and_by_itself() -> None:
    examples = [EXAMPLE, *(path.read_text() for path in (ROOT / "deploy").rglob("fleet*.yaml"))]
    for text in examples:
        _validator().validate(yaml.safe_load(text))
        assert parse(text).pools


SEEN_BY_AN_EDITOR: Final = (
    *("unknown name", "unknown name of a pool", "unknown name within"),
    *("the code's name, not the chart's", "the code's name in a pool"),
    *("true for a number", "words for a number", "part of an engine", "fewer than none"),
    *("true for seconds", "words for seconds", "a number for true", "a number as a variable"),
    *("no engine", "no pools", "pools that are a list", "a pool that is a number"),
    *("defaults that are a number", "defaults that are a list", "wrong default"),
    *("one gateway that is no list", "port of the system", "port that there is not"),
    *("name of the fleet", "pool name in capitals", "pool name with _", "pool name that is long"),
)


@pytest.mark.parametrize("case", SEEN_BY_AN_EDITOR)
def test_an_editor_sees_names_and_kinds_that_are_wrong(case: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        _validator().validate(yaml.safe_load(BAD[case][0]))


def test_reading_changes_nothing_of_what_is_read() -> None:
    data = yaml.safe_load(EXAMPLE)
    before = deepcopy(data)
    Fleet.model_validate(data)
    assert data == before
